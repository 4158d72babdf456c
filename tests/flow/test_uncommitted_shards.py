"""Shards that share one bound on uncommitted bytes: a stuck one stops no other, and nothing waits for ever."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.flow.uncommitted import Uncommitted
from streamer.model import Target
from streamer.shard.shard import CommitPolicy, Shard
from tests.flow.publishers import Fault, MemoryKafka
from tests.flow.test_shard import GENEROUS, NOTICE, alerts, until
from tests.unit.flow.virtual_time import in_virtual_time
from tests.unit.transform.samples import FALCO, NOW_NS, SECOND_NS, START_NS, Feed

SLOW_TO_COMMIT = CommitPolicy(interval_seconds=5.0, quiet_interval_seconds=0.0, max_bytes=1_000_000)


def made(
    kafka: MemoryKafka, index: int, room: Uncommitted, commit: CommitPolicy = SLOW_TO_COMMIT
) -> tuple[Shard, Target]:
    shard = Shard(
        index,
        GENEROUS,
        kafka.publisher(index),
        commit,
        uncommitted=room,
        wall_ns=lambda: NOW_NS + int(asyncio.get_running_loop().time() * SECOND_NS),
    )
    return shard, replace(FALCO, uid=f"uid-{index}", pod=f"falco-{index}")


async def read(shard: Shard, target: Target, bodies: list[bytes], lines: int = 1) -> None:
    feed = Feed(target)
    await shard.attach(target)
    for at in range(0, len(bodies), lines):
        await shard.put(feed.batch(*((START_NS, body) for body in bodies[at : at + lines])))


async def end(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


@in_virtual_time
async def test_a_shard_that_cannot_commit_keeps_no_other_from_reading() -> None:
    stuck_kafka, kafka, room = MemoryKafka(), MemoryKafka(), Uncommitted(20_000)
    (stuck, first), (well, second) = made(stuck_kafka, 0, room), made(kafka, 1, room)
    running = [asyncio.create_task(shard.run()) for shard in (stuck, well)]
    with stuck_kafka.frozen():
        blocked = asyncio.create_task(read(stuck, first, alerts(200)))
        await asyncio.sleep(3600)
        assert not blocked.done()
        assert stuck.status(NOW_NS).uncommitted_bytes <= 10_000
        began = asyncio.get_running_loop().time()
        await read(well, second, alerts(200))
        await until(lambda: len(kafka.records) == 200)
        # A shard that its readers wait for commits at once, and not after its interval of 5 s.
        assert asyncio.get_running_loop().time() - began < 10
    await blocked
    await until(lambda: len(stuck_kafka.records) == 200)
    await until(lambda: room.held_bytes == 0)
    await end(*running)


@settings(max_examples=40, deadline=None)
@given(
    most_bytes=st.integers(1, 5_000),
    shapes=st.lists(st.tuples(st.integers(0, 40), st.integers(1, 20)), min_size=1, max_size=4),
    faults=st.lists(
        st.sampled_from([Fault.NONE, Fault.BEFORE_COMMIT, Fault.ANSWER_LOST, Fault.EXPIRED]), max_size=10
    ),
)
def test_with_any_bound_all_is_committed_once_and_the_room_is_given_back(
    most_bytes: int, shapes: list[tuple[int, int]], faults: list[Fault]
) -> None:
    @in_virtual_time
    async def play() -> None:
        room, kafka = Uncommitted(most_bytes), MemoryKafka()
        kafka.faults.extend(faults)
        shards = [made(kafka, n, room) for n in range(len(shapes))]
        running = [asyncio.create_task(shard.run()) for shard, _ in shards]
        reading = [
            asyncio.create_task(read(shard, target, alerts(count, first=1000 * n), lines))
            for n, ((shard, target), (count, lines)) in enumerate(zip(shards, shapes, strict=True))
        ]
        async with asyncio.timeout(3600):
            await asyncio.gather(*reading)
            for shard, _ in shards:
                shard.drain()
            await asyncio.gather(*running)
        expected = [body for n, (count, _) in enumerate(shapes) for body in alerts(count, first=1000 * n)]
        assert sorted(kafka.values(NOTICE)) == sorted(expected)
        assert room.held_bytes == 0

    play()
