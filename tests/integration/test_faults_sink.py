"""Kafka fails, refuses, is away, is taken from us: the worker as a process neither loses nor repeats an alert."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

import aiohttp
import orjson
import pytest
from aiokafka import AIOKafkaProducer

from tests.chaos.bed import Bed, Site
from tests.chaos.load import SHARDS, Kind, noise
from tests.chaos.run import RATE, playing
from tests.chaos.schedule import Fault, Meanwhile, Step
from tests.integration.oracle import oracle
from tests.testbed.topics import change_topic

pytestmark = pytest.mark.real

QUIET_SECONDS = 3.0
"""Longer than a follower bears a stream's first silence without asking whether that was all."""
FROZEN_SECONDS = 60.0
HOUR_NS = 3600 * 1_000_000_000


async def test_a_broker_frozen_for_a_minute_costs_no_line_and_no_stream(own_servers: Bed) -> None:
    """One pod's log is rotated meanwhile, another pod is deleted and comes again."""
    meanwhile = (Meanwhile.ROTATE, Meanwhile.RECREATE)
    freeze = Step(Fault.KAFKA_FREEZE, FROZEN_SECONDS, meanwhile=meanwhile)
    async with playing(own_servers, seed=1) as play:
        conductor = play.conductor
        await conductor.worker.start()
        async with conductor.load(play.printer):
            await conductor.settle("the start")
        await asyncio.sleep(QUIET_SECONDS)
        async with conductor.load(play.printer):
            await conductor.settle("the silence")
            undisturbed = [name for name in conductor.pods if not name.startswith("mortal")]
            before = own_servers.streams_opened()
            await conductor.play([freeze], FROZEN_SECONDS)
            after = own_servers.streams_opened()
        report = await play.finish()
    assert report.violations == [], f"\n{report}"
    assert report.verdict.missing == 0
    # The inboxes are full after half a minute: who is behind for longer than two rotations take says so.
    assert not [gap for gap in report.verdict.gaps if gap.endswith("certain")]
    assert report.history.meanwhile.total() == len(meanwhile)
    assert report.verdict.published > FROZEN_SECONDS * 200, "there was no load to speak of"
    assert {name: after[name] - before[name] for name in undisturbed if after[name] != before[name]} == {}
    assert conductor.worker.heard("publish_failed"), "the outage was not noticed at all"


async def test_another_producer_takes_over_the_transactional_ids(site: Site) -> None:
    async with playing(site, seed=4) as play:
        conductor = play.conductor
        await conductor.worker.start()
        async with conductor.load(play.printer):
            await conductor.settle("the start")
            for _ in range(2):
                for shard in range(SHARDS):
                    await take_over(site, f"falco-streamer.{site.name}-{shard}")
                await conductor.settle("the take-over")
        report = await play.finish()
    assert report.violations == [], f"\n{report}"
    assert report.verdict.missing == 0
    fenced = {each["shard"] for each in conductor.worker.heard("shard_fenced")}
    # A pod's shard is up to its uid: ten pods need not be on every one.
    assert len(fenced) >= SHARDS - 1
    assert not conductor.worker.heard("shard_realigned"), "the other one committed nothing"


async def take_over(site: Site, transactional_id: str) -> None:
    other = AIOKafkaProducer(bootstrap_servers=site.bootstrap, transactional_id=transactional_id)
    await other.start()
    await other.stop()


async def test_kafka_is_away_at_the_start(own_servers: Bed) -> None:
    async with playing(own_servers, seed=3) as play:
        worker = play.conductor.worker
        await asyncio.to_thread(own_servers.kafka.kill)
        await worker.start()
        async with play.conductor.load(play.printer):
            told = await worker.until_heard("kafka_unavailable")
            assert "cannot reach" in told["cause"]
            assert told["level"] == "warning"
            port = (await worker.until_heard("http_serving"))["port"]
            assert await status(port, "livez") == 200
            assert await status(port, "readyz") == 503
            await asyncio.to_thread(own_servers.kafka.start)
            await play.conductor.settle("Kafka's return")
            assert await status(port, "readyz") == 200
        report = await play.finish()
    assert report.violations == [], f"\n{report}"
    assert report.verdict.missing == 0
    assert report.verdict.gaps == Counter()


async def status(port: int, probe: str) -> int:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}/{probe}") as answer,
    ):
        return answer.status


MOST_LINE_BYTES = 100_000


async def test_lines_that_kafka_may_refuse_cost_one_dead_letter_each_at_most(site: Site) -> None:
    """Too large for a topic that has shrunk, of a clock two hours ahead, and of exactly the longest line."""
    settings: dict[str, Mapping[str, Any]] = {
        "kubernetes": {"max_line_bytes": MOST_LINE_BYTES},
        "kafka": {"compression": "none"},  # a size is to be what it says
        "log": {"level": "debug"},
    }
    async with playing(site, 2, RATE, **settings) as play:
        worker, pod = play.conductor.worker, play.conductor.pods["quiet-0"]
        await worker.start()
        async with play.conductor.load(play.printer):
            await play.conductor.settle("the start")
        await change_topic(site.bootstrap, f"{site.name}.alerts.warning", {"max.message.bytes": "50000"})
        opened = len(worker.heard("shard_opened"))

        too_large, longest = alert(1, 60_000), alert(2, MOST_LINE_BYTES, priority="Error")
        assert len(longest) == MOST_LINE_BYTES
        ahead_ns = time.time_ns() + 2 * HOUR_NS
        ahead = alert(3, 500, ahead_ns)
        play.printer.print(pod, 500, Kind.ALERT)
        for line in (too_large, longest):
            pod.log().line(line)
        pod.log().line(ahead, at=ahead_ns)
        play.printer.print(pod, 500, Kind.ALERT)  # the clock has been set right
        async with oracle(site.bootstrap, site.topics) as seen:
            await seen.until(lambda _: len(play.watch.seen) >= len(play.journal.by_body), 5)
            await play.conductor.worker.stop()
            await seen.read_to_end()
        async with oracle(site.bootstrap, [site.state_topic]) as state:
            await state.read_to_end()
    values = Counter(record.value for record in seen.records)
    letters = [
        (found["line"], found["reason"])
        for found in map(orjson.loads, (r.value for r in seen.of(f"{site.name}.dead-letter")))
    ]
    broken = Counter(line.kind for line in play.journal.lines())[Kind.BROKEN]
    assert len(letters) <= broken + 3
    assert [reason for line, reason in letters if line[:60] == too_large.decode()[:60]] == [
        "record_too_large"
    ]
    assert values[longest] == 1
    for line in (too_large, ahead):
        found = values[line] + sum(line.decode().startswith(text) for text, _ in letters)
        assert found == 1, f"{line[:60]!r} has {found} outcomes"
    printed = [line for line in play.journal.lines() if line.kind is Kind.ALERT]
    assert [line for line in printed if values[line.body] != 1] == []  # those before, between and after
    assert len(worker.heard("shard_opened")) - opened <= 2
    stopped = worker.heard("worker_stopped")[-1]
    assert stopped["balanced"]
    assert stopped["lines"] == len(play.journal.by_body) + 3
    places = [orjson.loads(each.value) for each in state.records if each.key.startswith(b"position/")]
    behind = max(place["lines"] for place in places if place["target"]["uid"] == pod.uid)
    assert behind == len(play.journal.targets[pod.uid].lines) + 3


def alert(seed: int, size: int, at_ns: int | None = None, *, priority: str = "Warning") -> bytes:
    """An alert of so many bytes."""
    when = time.time_ns() if at_ns is None else at_ns
    seconds, nanoseconds = divmod(when, 1_000_000_000)
    stamp = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{nanoseconds:09d}Z"
    frame = f'{{"output":"{seed} %s","priority":"{priority}","rule":"large","time":"{stamp}","output_fields":{{}}}}'
    return frame.encode().replace(b"%s", noise(random.Random(seed), size - len(frame) + 2))
