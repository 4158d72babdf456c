"""Workers that share the shards of one Kafka in memory: what is assigned, lost, gained and fenced, in virtual time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from streamer.flow.membership import Alone
from streamer.model import Publication, Target
from streamer.shard.assign import shard_of
from streamer.shard.committer import Condition
from streamer.shard.ownership import Ownership
from streamer.shard.shard import CommitPolicy, Shard
from tests.flow.publishers import Fault, MemoryKafka, MemoryPublisher
from tests.flow.test_shard import GENEROUS, PodLog, alerts, check_published, pod_log, until
from tests.unit.flow.virtual_time import in_virtual_time
from tests.unit.transform.samples import NOW_NS, SECOND_NS, Feed

SHARDS = 4
HEARTBEAT_SECONDS = 1.0


def pods(*indices: int) -> list[Target]:
    """One target of each of these shards."""
    found: dict[int, Target] = {}
    number = 0
    while not set(indices) <= found.keys():
        uid = f"00000000-0000-4000-8000-{number:012d}"
        found.setdefault(shard_of(uid, SHARDS), Target("falco", f"falco-{number}", uid, "falco", "node-1"))
        number += 1
    return [found[index] for index in indices]


class Group:
    """What a coordinator says to one member; a heartbeat of it is answered only while the broker is there."""

    def __init__(self) -> None:
        self.assigned: frozenset[int] | None = None
        self.trouble = ""
        self.broker_away = False
        self.asked = 0
        self._news = asyncio.Event()

    def assign(self, *shards: int) -> None:
        self.assigned = frozenset(shards)
        self._news.set()

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def assignments(self) -> AsyncIterator[frozenset[int]]:
        while True:
            await self._news.wait()
            self._news.clear()
            assert self.assigned is not None
            yield self.assigned

    async def confirmed(self) -> None:
        self.asked += 1
        await asyncio.sleep(HEARTBEAT_SECONDS)
        while self.broker_away:  # noqa: ASYNC110  # virtual time costs nothing
            await asyncio.sleep(HEARTBEAT_SECONDS)


class Member:
    """A worker: its group, its shards, and followers of the logs of those that are its own."""

    def __init__(
        self,
        kafka: MemoryKafka,
        tasks: asyncio.TaskGroup,
        logs: Sequence[PodLog],
        publisher: Callable[[int], MemoryPublisher] | None = None,
    ) -> None:
        self.group = Group()
        self._publisher = publisher or kafka.publisher
        self._tasks = tasks
        self._logs = logs
        self._readers: dict[int, list[asyncio.Task[None]]] = {}
        self.made: list[Shard] = []
        self.released: list[int] = []
        self.ownership = Ownership(
            self.group, tasks, self._make, SHARDS, on_gained=self._gained, on_lost=self._lost
        )
        self.running = tasks.create_task(self.ownership.run())

    def _make(self, index: int) -> Shard:
        shard = Shard(
            index,
            GENEROUS,
            self._publisher(index),
            CommitPolicy(),
            wall_ns=lambda: NOW_NS + int(asyncio.get_running_loop().time() * SECOND_NS),
        )
        shard.on_realign = self._realign
        self.made.append(shard)
        return shard

    def _gained(self, shard: Shard) -> None:
        self._readers[shard.index] = [
            self._tasks.create_task(self._read(shard, log))
            for log in self._logs
            if shard_of(log.target.uid, SHARDS) == shard.index
        ]

    def _lost(self, shard: Shard) -> None:
        self.released.append(shard.index)
        for reader in self._readers.pop(shard.index):
            reader.cancel()

    def _realign(self, shard: Shard) -> None:
        self._lost(shard)
        self._gained(shard)

    async def _read(self, shard: Shard, log: PodLog) -> None:
        position = await shard.attach(log.target)
        feed, at = Feed(log.target), 0
        if position is not None:
            feed.ring, at = position.ring, position.lines
        for line in log.lines[at:]:
            await shard.put(feed.batch(line))
            await asyncio.sleep(0.1)

    async def kill(self) -> None:
        """End as a process does that is killed, but for the time that it takes to let go."""
        readers = [reader for several in self._readers.values() for reader in several]
        tasks = [self.running, *readers, *self.ownership._running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    async def stop(self) -> None:
        for readers in self._readers.values():
            for reader in readers:
                reader.cancel()
        assert await self.ownership.drain(60) == 0
        self.running.cancel()


@asynccontextmanager
async def members(kafka: MemoryKafka, count: int, *logs: PodLog) -> AsyncIterator[list[Member]]:
    async with asyncio.TaskGroup() as tasks:
        made = [Member(kafka, tasks, logs) for _ in range(count)]
        yield made
        for member in made:
            await member.stop()


def all_read(kafka: MemoryKafka, logs: Sequence[PodLog]) -> bool:
    return len(kafka.records) >= sum(len(log.lines) for log in logs)


@in_virtual_time
async def test_a_member_runs_the_shards_that_are_assigned_to_it_and_no_others() -> None:
    logs = [pod_log(target, *alerts(5, first=100 * n)) for n, target in enumerate(pods(0, 1, 2, 3))]
    kafka = MemoryKafka()
    async with members(kafka, 1, *logs) as (one,):
        await asyncio.sleep(5)
        assert one.ownership.shards == {}, "nobody has assigned anything yet"
        one.group.assign(1, 3)
        await until(lambda: len(kafka.records) == 10)
        assert sorted(one.ownership.shards) == [1, 3]
        assert {shard.condition for shard in one.ownership.shards.values()} == {Condition.WORKING}
        assert one.ownership.owner_of(logs[0].target.uid) is None
        assert one.ownership.owner_of(logs[3].target.uid) is one.ownership.shards[3]
    check_published(kafka, logs[1], logs[3])
    assert kafka.shard(0).epoch == kafka.shard(2).epoch == 0, "what is not ours is never opened"


@in_virtual_time
async def test_what_stays_is_not_touched_when_shards_come_and_go() -> None:
    logs = [pod_log(target, *alerts(40, first=100 * n)) for n, target in enumerate(pods(0, 1, 2, 3))]
    kafka = MemoryKafka()
    async with members(kafka, 2, *logs) as (one, two):
        one.group.assign(0, 1, 2)
        two.group.assign(3)
        await until(lambda: len(kafka.records) > 20)
        kept, epoch = one.ownership.shards[0], kafka.shard(0).epoch
        two.group.assign(3, 1, 2)  # the gaining one may well hear of it first
        one.group.assign(0)
        await until(lambda: all_read(kafka, logs))
        assert one.ownership.shards == {0: kept}
        assert kafka.shard(0).epoch == epoch == 1
        assert one.released == [1, 2]
        assert [shard.condition for shard in one.made[1:]] == [Condition.ENDED] * 2
        assert one.ownership.fenced.total() == two.ownership.fenced.total() == 0
    check_published(kafka, *logs)


@in_virtual_time
async def test_a_shard_that_comes_back_goes_on_where_the_other_one_stopped() -> None:
    logs = [pod_log(target, *alerts(60)) for target in pods(2)]
    kafka = MemoryKafka()
    async with members(kafka, 2, *logs) as (one, two):
        for turn in range(6):
            owner, other = (one, two) if turn % 2 == 0 else (two, one)
            owner.group.assign(2)
            other.group.assign()
            reached = 10 * turn + 5
            await until(lambda reached=reached: len(kafka.records) >= reached)  # type: ignore[misc]
        await until(lambda: all_read(kafka, logs))
        assert one.group.assigned == frozenset()
    check_published(kafka, *logs)


@in_virtual_time
async def test_fenced_while_still_the_owner_a_shard_waits_to_be_told_so_and_takes_itself_back() -> None:
    logs = [pod_log(target, *alerts(40)) for target in pods(0)]
    kafka = MemoryKafka()
    async with members(kafka, 1, *logs) as (one,):
        one.group.assign(0)
        await until(lambda: len(kafka.records) > 10)
        shard = one.ownership.shards[0]
        kafka.faults.append(Fault.EXPIRED)
        await until(lambda: shard.condition is Condition.FENCED)
        opened = kafka.opened
        await asyncio.sleep(0.9 * HEARTBEAT_SECONDS)
        assert kafka.opened == opened, "nobody has confirmed anything yet"
        await until(lambda: shard.condition is Condition.WORKING)
        assert one.ownership.shards[0] is shard
        assert one.ownership.fenced == {0: 1}
        await until(lambda: all_read(kafka, logs))
    check_published(kafka, *logs)


@in_virtual_time
async def test_fenced_again_and_again_a_shard_waits_longer_each_time() -> None:
    logs = [pod_log(target, *alerts(10)) for target in pods(0)]
    kafka = MemoryKafka()
    async with members(kafka, 1, *logs) as (one,):
        one.group.assign(0)
        kafka.faults += [Fault.EXPIRED] * 8
        started = asyncio.get_running_loop().time()
        await until(lambda: all_read(kafka, logs))
        waited = asyncio.get_running_loop().time() - started
        assert one.ownership.fenced == {0: 8}
        assert one.group.asked == 8
        assert waited > 8 * HEARTBEAT_SECONDS + 0.1 * (0.2 + 0.4 + 0.8 + 1.6 + 3.2 + 6.4 + 10 + 10)
    check_published(kafka, *logs)


@in_virtual_time
async def test_an_owner_that_slept_and_has_lost_its_shard_is_fenced_once_and_does_no_harm() -> None:
    logs = [pod_log(target, *alerts(40)) for target in pods(0)]
    kafka = MemoryKafka()
    async with members(kafka, 2, *logs) as (sleeper, other):
        sleeper.group.assign(0)
        await until(lambda: len(kafka.records) > 10)
        sleeper.group.broker_away = True  # it has not heard yet that the group has gone on without it
        other.group.assign(0)
        await until(lambda: sleeper.ownership.fenced.total() > 0)
        await until(lambda: all_read(kafka, logs))
        assert sleeper.ownership.shards[0].condition is Condition.FENCED
        sleeper.group.assign()
        await until(lambda: not sleeper.ownership.shards)
        await until(lambda: sleeper.made[0].condition is Condition.ENDED)
        assert sleeper.ownership.fenced == {0: 1}
        assert other.ownership.fenced.total() == 0
    check_published(kafka, *logs)


@in_virtual_time
async def test_a_broker_that_is_away_takes_nothing_from_anybody() -> None:
    logs = [pod_log(target, *alerts(40)) for target in pods(0)]
    kafka = MemoryKafka()
    async with members(kafka, 1, *logs) as (one,):
        one.group.assign(0)
        await until(lambda: len(kafka.records) > 10)
        one.group.broker_away, kafka.away = True, 20
        kafka.faults += [Fault.BEFORE_COMMIT, Fault.ANSWER_LOST]
        shard = one.ownership.shards[0]
        await until(lambda: kafka.away == 0)
        one.group.broker_away = False
        await until(lambda: all_read(kafka, logs))
        assert one.ownership.shards == {0: shard}
        assert one.ownership.fenced.total() == 0
    check_published(kafka, *logs)


@in_virtual_time
async def test_while_draining_nothing_is_gained_and_what_is_lost_holds_nothing_up() -> None:
    logs = [pod_log(target, *alerts(4)) for target in pods(0)]
    kafka = MemoryKafka()
    async with asyncio.TaskGroup() as tasks:
        one = Member(kafka, tasks, logs)
        one.group.assign(0)
        await until(lambda: len(kafka.records) > 0)
        with kafka.frozen():
            draining = tasks.create_task(one.ownership.drain(3600))
            await asyncio.sleep(1)
            one.group.assign(1)
            started = asyncio.get_running_loop().time()
            assert await draining == 0
            assert asyncio.get_running_loop().time() - started < 1
        assert [shard.index for shard in one.made] == [0]
        one.running.cancel()
        for readers in one._readers.values():
            for reader in readers:
                reader.cancel()


@in_virtual_time
async def test_a_shard_that_comes_and_goes_has_one_owner_here_at_a_time() -> None:
    """A producer is dropped in seconds, and the group may divide the shards twice meanwhile."""
    kafka, held = MemoryKafka(), Counter[int]()

    class Watched(MemoryPublisher):
        async def open(self) -> list[tuple[str, bytes]]:
            held[0] += 1
            assert held[0] == 1, "the one before has not let go"
            return await super().open()

        async def close(self) -> None:
            await super().close()
            await asyncio.sleep(3)
            held[0] -= 1

    async with asyncio.TaskGroup() as tasks:
        group = Group()
        ownership = Ownership(
            group, tasks, lambda index: Shard(index, GENEROUS, Watched(kafka, index), CommitPolicy()), SHARDS
        )
        running = tasks.create_task(ownership.run())
        for shards in [(0,), (), (0,), (), (0,)]:
            group.assign(*shards)
            await asyncio.sleep(0.5)
        await until(lambda: ownership.shards[0].loaded)
        assert await ownership.drain(60) == 0
        running.cancel()


@in_virtual_time
async def test_what_changes_is_logged_with_what_was_gained_and_lost() -> None:
    kafka = MemoryKafka()
    with capture_logs() as said:
        async with members(kafka, 1) as (one,):
            one.group.assign(0, 1)
            await until(lambda: len(one.ownership.shards) == 2)
            one.group.assign(0, 1)
            await asyncio.sleep(1)
            one.group.assign(1, 2)
            await until(lambda: 2 in one.ownership.shards)
    changes = [(each["gained"], each["lost"]) for each in said if each["event"] == "shards_changed"]
    assert changes == [([0, 1], []), ([2], [0])]


@in_virtual_time
async def test_alone_all_shards_are_ours_and_whoever_else_is_there_gets_a_turn() -> None:
    alone = Alone(3)
    assert alone.assigned == frozenset({0, 1, 2}) == await anext(alone.assignments())
    before = asyncio.get_running_loop().time()
    await alone.confirmed()
    assert 1 <= asyncio.get_running_loop().time() - before <= 10


class Slow(MemoryPublisher):
    """Takes its time, each time another one."""

    def __init__(self, kafka: MemoryKafka, index: int, random: Random) -> None:
        super().__init__(kafka, index)
        self._random = random

    async def open(self) -> list[tuple[str, bytes]]:
        await self._take(0, 0.05, 0.5, 2)
        found = await super().open()
        await self._take(0, 0.05, 1)
        return found

    async def publish(self, publication: Publication, *, isolate: frozenset[str] = frozenset()) -> None:
        await self._take(0, 0.01, 0.3, 3)
        await super().publish(publication, isolate=isolate)
        await self._take(0, 0.01, 0.3)

    async def close(self) -> None:
        await self._take(0, 0.5, 3)
        await super().close()

    async def _take(self, *seconds: float) -> None:
        await asyncio.sleep(self._random.choice(seconds))


WORKERS = st.integers(0, 1)
STEPS = st.lists(
    st.one_of(
        st.sampled_from([*Fault]),
        st.tuples(st.just("assign"), WORKERS, st.frozensets(st.integers(0, SHARDS - 1))),
        st.tuples(st.just("pass"), st.sampled_from([0.0, 0.1, 1.0, 7.0, 20.0])),
        st.tuples(st.sampled_from(["stop", "kill", "broker"]), WORKERS),
    ),
    max_size=20,
)


@settings(max_examples=60)
@given(STEPS, st.integers(0, 2**32))
def test_whatever_the_group_says_and_whoever_dies_every_line_is_published_once_and_in_order(
    steps: list[Any], seed: int
) -> None:
    """Two workers that may both believe to own a shard, and are slow to begin and to end."""
    logs = [pod_log(target, *alerts(12, first=100 * n)) for n, target in enumerate(pods(0, 1, 2, 3))]

    @in_virtual_time
    async def play() -> None:
        kafka, random = MemoryKafka(), Random(seed)
        async with asyncio.TaskGroup() as tasks:

            def worker() -> Member:
                return Member(kafka, tasks, logs, lambda index: Slow(kafka, index, random))

            workers = [worker(), worker()]
            for step in steps:
                match step:
                    case Fault():
                        kafka.faults.append(step)
                    case ("assign", int(which), shards):
                        workers[which].group.assign(*shards)
                    case ("pass", float(seconds)):
                        await asyncio.sleep(seconds)
                    case ("broker", int(which)):
                        workers[which].group.broker_away ^= True
                    case (end, int(which)):
                        workers[which].group.broker_away = False  # or it would wait for it, for all its grace
                        await (workers[which].stop() if end == "stop" else workers[which].kill())
                        workers[which] = worker()
            for one, shards in zip(workers, [range(SHARDS), []], strict=True):
                one.group.broker_away = False
                one.group.assign(*shards)
            await until(lambda: all_read(kafka, logs))
            for one in workers:
                await one.stop()
        check_published(kafka, *logs)

    with capture_logs():
        play()
