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

from tests.chaos.bed import Site
from tests.chaos.load import SHARDS
from tests.chaos.run import playing
from tests.integration.oracle import Oracle, oracle

pytestmark = pytest.mark.real

KILLS = 6
PATIENCE_SECONDS = 60
DROPPED = "Terminal shell in container"
# Short windows, so that some end; a low limit, so that some alerts overflow; and a filter.
TREATED: dict[str, Any] = {
    "dedupe": {"enabled": True, "window_seconds": [1, 2, 4], "max_variants": 2},
    "limits": {
        "enabled": True,
        "rate_per_minute": 30,
        "burst": 3,
        "target": {"rate_per_minute": 30, "burst": 9},
    },
    "filters": [{"action": "drop", "match": f'rule = "{DROPPED}"', "reason": "the test"}],
}


@pytest.mark.parametrize("treatment", [{}, TREATED], ids=["as-they-come", "treated"])
async def test_every_term_of_the_ledger_can_be_counted_again_after_kills_at_random(
    treatment: Mapping[str, Any], site: Site
) -> None:
    rng = random.Random(20)
    async with playing(site, seed=20, **treatment) as play:
        worker, pods = play.conductor.worker, list(play.conductor.pods.values())
        await worker.start()
        async with play.conductor.load(play.printer):
            for _ in range(KILLS):
                await asyncio.sleep(rng.uniform(1.5, 3.0))  # a random moment is what is wanted
                await worker.kill()
                await worker.start()
        written = {pod.uid: outcomes(pod.log().path.parent) for pod in pods}
        lines = sum(outcome.total() for outcome in written.values())
        async with oracle(site.bootstrap, [site.state_topic]) as seen:
            await seen.until(lambda seen: sum(read_lines(seen).values()) >= lines, PATIENCE_SECONDS)
        assert await worker.stop() == 0
    ledgers, live = await dump(site)
    shard_of = {uid: shard for shard, state in live.items() for uid in state.positions}
    assert shard_of.keys() == written.keys()
    assert len(set(shard_of.values())) > 1, "all was on one shard"

    read: defaultdict[int, Counter[str]] = defaultdict(Counter)
    for uid, outcome in written.items():
        read[shard_of[uid]] += outcome
        assert live[shard_of[uid]].positions[uid]["lines"] == outcome.total()
    published = await records_by_shard(site, {pod.name: shard_of[pod.uid] for pod in pods})
    terms = Counter[str]()
    for shard, ledger in ledgers.items():
        inputs, outputs, state = read[shard], published[shard], live[shard]
        dropped = inputs["dropped"] if treatment else 0
        held = outputs["lines told as held back"] + state.held
        assert ledger["lines"] == inputs.total()
        assert ledger["alerts"] == inputs["alert"] + inputs["dropped"]
        assert ledger["log_lines"] == inputs["text"]
        assert ledger["invalid"] == inputs["invalid"] == outputs["dead-letter"] + held
        assert ledger["dead_lettered"] == outputs["dead-letter"]
        assert ledger["dead_letter_limited"] == held
        assert ledger["filtered"] == dropped
        assert ledger["published"] == outputs["alert"]
        assert ledger["limited"] == outputs["overflow"]
        assert ledger["deduplicated"] == outputs["alerts told as repeated"] + state.counted
        assert ledger["alerts"] == dropped + sum(ledger[t] for t in ("published", "limited", "deduplicated"))
        for kind, term in [("summary", "summaries"), ("health", "health_records")]:
            assert ledger[term] == outputs[kind]
        assert ledger["gaps"] == ledger["fragments"] == 0
        terms.update({name: count for name, count in ledger.items() if type(count) is int})
    assert terms["published"] > (100 if treatment else 1000)
    for term in ("filtered", "limited", "deduplicated", "summaries"):
        assert (terms[term] > 0) == bool(treatment), term


def outcomes(folder: Path) -> Counter[str]:
    """What the lines in a container's log files are to become."""
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
        alert = orjson.loads(line)
    except orjson.JSONDecodeError:
        return "invalid"
    return "dropped" if alert["rule"] == DROPPED else "alert"


class Live:
    """The keys of one partition of the state that are live."""

    def __init__(self, values: Mapping[bytes, bytes]) -> None:
        def read(kind: bytes) -> Iterator[dict[str, Any]]:
            return (orjson.loads(value) for key, value in values.items() if key.startswith(kind))

        self.positions = {value["target"]["uid"]: value for value in read(b"position/")}
        self.held = sum(value["held"] for value in read(b"bucket/"))
        # Packed: the format's number, then the count.
        self.counted = sum(
            int.from_bytes(value[1:9], "little")
            for key, value in values.items()
            if key.startswith(b"repeats/")
        )


def read_lines(state: Oracle) -> dict[bytes, int]:
    """How far each position is."""
    return {
        record.key: orjson.loads(record.value)["lines"]
        for record in state.records
        if record.key.startswith(b"position/") and record.value is not None
    }


async def dump(site: Site) -> tuple[dict[int, dict[str, int]], dict[int, Live]]:
    """Each shard's ledger and what else its partition of the state holds."""
    values: dict[int, dict[bytes, bytes]] = {shard: {} for shard in range(SHARDS)}
    async with oracle(site.bootstrap, [site.state_topic]) as seen:
        await seen.read_to_end()
    for record in seen.records:
        if record.value is None:
            values[record.partition].pop(record.key, None)
        else:
            values[record.partition][record.key] = record.value
    ledgers = {shard: orjson.loads(live[b"ledger"]) for shard, live in values.items() if b"ledger" in live}
    return ledgers, {shard: Live(live) for shard, live in values.items()}


async def records_by_shard(site: Site, shards: Mapping[str, int]) -> defaultdict[int, Counter[str]]:
    """How many records of each kind the topics hold, and what they tell; a record's key names its pod, and so its
    shard."""
    found: defaultdict[int, Counter[str]] = defaultdict(Counter)
    async with oracle(site.bootstrap, site.topics) as seen:
        await seen.read_to_end()
    for record in seen.records:
        shard = shards[record.key.decode().rpartition("/")[2]]
        kind = dict(record.headers)["kind"].decode()
        found[shard]["overflow" if record.topic.endswith(".overflow") else kind] += 1
        if kind == "health":
            health = orjson.loads(record.value)
            held = health["count"] if health["health"] == "dead_letters_limited" else 0
            found[shard]["lines told as held back"] += held
        if kind == "summary":
            found[shard]["alerts told as repeated"] += orjson.loads(record.value)["summary"]["count"]
    return found
