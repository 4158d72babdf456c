"""Every term of the ledger, counted again: from the log files, the topics, and a dump of the state."""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.chaos.bed import SHARDS, Site
from tests.chaos.run import playing
from tests.integration.oracle import oracle

pytestmark = pytest.mark.real

KILLS = 8


async def test_every_term_of_the_ledger_can_be_counted_again_after_kills_at_random(site: Site) -> None:
    rng = random.Random(20)
    async with playing(site, seed=20) as play:
        conductor = play.conductor
        await conductor.worker.start()
        async with conductor.load(play.printer):
            await conductor.settle("the start")
            for _ in range(KILLS):
                await asyncio.sleep(rng.uniform(0.3, 2.0))  # a random moment is what is wanted
                await conductor.worker.kill()
                await conductor.worker.start()
            await conductor.settle("the kills")
            await conductor.pods["restarted-0"].restart()
            conductor.pods["rotated-0"].log().rotate()
            await conductor.settle("the restart")
        report = await play.finish()
        pods = list(conductor.pods.values())
        written = {pod.uid: outcomes(pod.log().path.parent) for pod in pods}
    assert report.violations == [], f"\n{report}"
    ledgers, live = await dump(site)
    shard_of = {uid: shard for shard, state in live.items() for uid in state.positions}
    assert shard_of.keys() == written.keys()

    read: defaultdict[int, Counter[str]] = defaultdict(Counter)
    for uid, outcome in written.items():
        read[shard_of[uid]] += outcome
        assert live[shard_of[uid]].positions[uid]["lines"] == outcome.total()
    published = await records_by_shard(site, {pod.name: shard_of[pod.uid] for pod in pods})
    for shard, ledger in ledgers.items():
        inputs, outputs, state = read[shard], published[shard], live[shard]
        limited = outputs["lines told as held back"] + state.held
        assert ledger["lines"] == inputs.total()
        assert ledger["alerts"] == inputs["alert"] == outputs["alert"] == ledger["published"]
        assert ledger["log_lines"] == inputs["text"]
        assert ledger["invalid"] == inputs["invalid"] == outputs["dead-letter"] + limited
        assert ledger["dead_lettered"] == outputs["dead-letter"]
        assert ledger["dead_letter_limited"] == limited
        assert ledger["gaps"] == outputs["gap"] == 0
        assert ledger["notices"] == outputs["notice"]
        for term in ("filtered", "deduplicated", "limited", "summaries", "fragments"):
            assert ledger[term] == outputs[term] == 0
    assert sum(len(state.positions) > 0 for state in live.values()) > 1, "all was on one shard"
    assert sum(each["published"] for each in ledgers.values()) > 1000


def outcomes(folder: Path) -> Counter[str]:
    """What the lines in a container's log files, rotated ones too, are to become."""
    found: Counter[str] = Counter()
    for file in folder.iterdir():
        for line in whole_lines(file.read_bytes()):
            found[outcome(line)] += 1
    return found


def whole_lines(log: bytes) -> Iterator[bytes]:
    """The lines of a file in the runtime's format, with their parts put together."""
    parts: list[bytes] = []
    for record in log.splitlines():
        _, _, tag, text = record.split(b" ", 3)
        parts.append(text)
        if tag == b"F":
            yield b"".join(parts)
            parts.clear()
    assert not parts


def outcome(line: bytes) -> str:
    if not line.startswith(b"{"):
        return "text"
    try:
        return "alert" if "priority" in orjson.loads(line) else "invalid"
    except orjson.JSONDecodeError:
        return "invalid"


class Live:
    """The keys of one partition of the state that are live."""

    def __init__(self, values: Mapping[bytes, dict[str, Any]]) -> None:
        self.positions = {
            value["target"]["uid"]: value for key, value in values.items() if key.startswith(b"position/")
        }
        self.held = sum(value["held"] for key, value in values.items() if key.startswith(b"bucket/"))


async def dump(site: Site) -> tuple[dict[int, dict[str, int]], dict[int, Live]]:
    """Each shard's ledger and what else its partition of the state holds."""
    values: dict[int, dict[bytes, dict[str, Any]]] = {shard: {} for shard in range(SHARDS)}
    async with oracle(site.bootstrap, [site.state_topic]) as seen:
        await seen.read_to_end()
    for record in seen.records:
        if record.value is None:
            values[record.partition].pop(record.key, None)
        else:
            values[record.partition][record.key] = orjson.loads(record.value)
    ledgers = {shard: live[b"ledger"] for shard, live in values.items() if b"ledger" in live}
    return ledgers, {shard: Live(live) for shard, live in values.items()}


async def records_by_shard(site: Site, shards: Mapping[str, int]) -> defaultdict[int, Counter[str]]:
    """How many records of each kind the topics hold; a record's key names its pod, and so its shard."""
    found: defaultdict[int, Counter[str]] = defaultdict(Counter)
    async with oracle(site.bootstrap, site.topics) as seen:
        await seen.read_to_end()
    for record in seen.records:
        shard = shards[record.key.decode().rpartition("/")[2]]
        kind = dict(record.headers)["kind"].decode()
        found[shard][kind] += 1
        if kind == "notice":
            notice = orjson.loads(record.value)
            found[shard]["lines told as held back"] += notice.get("count", 0)
    return found
