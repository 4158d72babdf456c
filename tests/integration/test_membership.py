"""The group of workers on a real broker: who gets what when members come, go, fall silent, and come back."""

from __future__ import annotations

import asyncio
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from aiokafka.cluster import ClusterMetadata
from structlog.testing import capture_logs

from streamer.config import load
from streamer.sink import Connection, GroupMembership
from streamer.sink.group import group_members
from tests.testbed.kafka import Kafka
from tests.testbed.topics import create_topic

pytestmark = pytest.mark.real

SHARDS = 8
SESSION_SECONDS = 6.0
"""The shortest that a broker allows by default."""


MEMBER = """
import asyncio, sys
from streamer.config import load
from streamer.sink import Connection, GroupMembership

async def main():
    bootstrap, cluster, topic, seconds, *name = sys.argv[1:]
    connection = Connection(load(None, [f"kafka.bootstrap_servers={bootstrap}"], {}, require=()).kafka)
    member = GroupMembership(connection, cluster=cluster, state_topic=topic, session_seconds=float(seconds),
                             instance_id=name[0] if name else None)
    running = asyncio.create_task(member.run())
    async for shards in member.assignments():
        print("has", len(shards), flush=True)

asyncio.run(main())
"""
"""A member in a process of its own, which says how many shards it has; it can be killed."""


class Members:
    """Memberships of one cluster, each with its task. All in one process, where aiokafka's classes meet."""

    def __init__(self, kafka: Kafka) -> None:
        self._cluster = f"group-{uuid.uuid4().hex[:8]}"
        self._kafka = kafka
        self.state_topic = f"falco-streamer.{self._cluster}.state"
        self.tasks: dict[GroupMembership, asyncio.Task[None]] = {}

    def join(self, instance_id: str | None = None) -> GroupMembership:
        settings = load(None, [f"kafka.bootstrap_servers={self._kafka.bootstrap}"], {}, require=())
        made = GroupMembership(
            Connection(settings.kafka),
            cluster=self._cluster,
            state_topic=self.state_topic,
            instance_id=instance_id,
            session_seconds=SESSION_SECONDS,
        )
        self.tasks[made] = asyncio.create_task(made.run())
        return made

    async def join_and_be_killed(self, *instance_id: str) -> None:
        """A worker that joins, has all shards, and ends without a word."""
        given = [self._kafka.bootstrap, self._cluster, self.state_topic, str(SESSION_SECONDS), *instance_id]
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", MEMBER, *given, stdout=asyncio.subprocess.PIPE
        )
        try:
            assert process.stdout is not None
            async with asyncio.timeout(60):
                await process.stdout.readuntil(b"has %d\n" % SHARDS)
        finally:
            process.kill()
            await process.wait()

    async def names(self) -> list[str]:
        """The members, as the group knows them, dead ones among them."""
        settings = load(None, [f"kafka.bootstrap_servers={self._kafka.bootstrap}"], {}, require=())
        return [one.name for one in await group_members(Connection(settings.kafka), self._cluster)]

    async def leave(self, member: GroupMembership) -> None:
        task = self.tasks.pop(member)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()


@asynccontextmanager
async def group_on(kafka: Kafka) -> AsyncIterator[Members]:
    group = Members(kafka)
    await create_topic(kafka.bootstrap, group.state_topic, partitions=SHARDS)
    try:
        yield group
    finally:
        for member in list(group.tasks):
            await group.leave(member)


async def until(condition: Callable[[], bool], seconds: float = 30.0) -> float:
    """Wait for a condition; returns how long it took."""
    began = time.monotonic()
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  # nothing tells
            await asyncio.sleep(0.01)
    return time.monotonic() - began


def shared(*members: GroupMembership) -> bool:
    """Whether these have all shards among them, each once, and none has two more than another."""
    held = [member.assigned or frozenset() for member in members]
    sizes = [len(each) for each in held]
    return sum(sizes) == SHARDS == len(frozenset().union(*held)) and max(sizes) - min(sizes) <= 1


async def test_members_share_the_shards_and_keep_what_they_can(kafka: Kafka) -> None:
    async with group_on(kafka) as group:
        first = group.join()
        await until(lambda: shared(first))
        second = group.join()
        await until(lambda: shared(first, second))
        had = {member: member.assigned or frozenset() for member in (first, second)}
        third = group.join()
        await until(lambda: shared(first, second, third))
        for member, before in had.items():
            assert (member.assigned or frozenset()) < before, "who gives some away gains none"
        had = {member: member.assigned or frozenset() for member in (first, second)}
        await group.leave(third)
        assert await until(lambda: shared(first, second)) < 1.5
        for member, before in had.items():
            assert (member.assigned or frozenset()) > before, "who gains some gives none away"


async def test_a_leader_with_odd_metadata_assigns_nothing_and_joins_again(
    kafka: Kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failures() -> list[str]:
        return [one["cause"] for one in logs if one["event"] == "group_failed"]

    async with group_on(kafka) as group:
        with capture_logs() as logs, monkeypatch.context() as planted:
            planted.setattr(ClusterMetadata, "partitions_for_topic", lambda *_: set())
            member = group.join()
            await until(lambda: bool(failures()))
        assert failures()[0] == f"topic {group.state_topic} has no partitions by the metadata of this worker"
        assert member.assigned is None, "nothing was assigned"
        await until(lambda: shared(member))


async def test_a_confirmation_is_an_answer_to_what_was_asked_later(private_kafka: Kafka) -> None:
    async with group_on(private_kafka) as group:
        member = group.join()
        await until(lambda: shared(member))
        async with asyncio.timeout(5):
            await member.confirmed()
        held, generation = member.assigned, member.generation
        await asyncio.to_thread(private_kafka.freeze)
        asking = asyncio.create_task(member.confirmed())
        await asyncio.wait([asking], timeout=3)
        assert not asking.done(), "nobody can have confirmed it"
        assert member.assigned == held, "a broker that is away takes nothing"
        private_kafka.resume()
        async with asyncio.timeout(30):
            await asking
        assert member.assigned == held
        assert member.generation >= generation


async def test_a_broker_that_was_away_finds_its_member_again(private_kafka: Kafka) -> None:
    async with group_on(private_kafka) as group:
        member = group.join()
        await until(lambda: shared(member))
        await asyncio.to_thread(private_kafka.kill)
        await asyncio.sleep(2 * SESSION_SECONDS)
        assert shared(member)
        await asyncio.to_thread(private_kafka.start)
        async with asyncio.timeout(60):
            await member.confirmed()
        assert shared(member)


async def test_two_members_of_one_name_are_told_of_it(kafka: Kafka) -> None:
    async with group_on(kafka) as group:
        first = group.join("falco-streamer-0")
        await until(lambda: shared(first))
        with capture_logs() as said:
            group.join("falco-streamer-0")
            await until(lambda: any(each["event"] == "group_failed" for each in said))
        told = next(each for each in said if each["event"] == "group_failed")
        assert "another worker is in the group under our name falco-streamer-0" in told["cause"]
        assert "kafka.group_instance_id" in told["fix"]


async def test_a_member_with_a_name_leaves_when_it_is_asked_to(kafka: Kafka) -> None:
    async with group_on(kafka) as group:
        first, second = group.join("falco-streamer-0"), group.join("falco-streamer-1")
        await until(lambda: shared(first, second))
        await group.leave(second)
        assert await until(lambda: shared(first)) < 1.5


async def test_a_worker_killed_again_and_again_under_one_name_leaves_no_dead_member(kafka: Kafka) -> None:
    """As a container that is restarted in its pod: the chart gives it the pod's name."""
    async with group_on(kafka) as group:
        for _ in range(3):
            await group.join_and_be_killed("falco-streamer-7d4f9c-x2x9z")
        last = group.join("falco-streamer-7d4f9c-x2x9z")
        assert await until(lambda: shared(last)) < SESSION_SECONDS - 1
        assert await group.names() == ["falco-streamer-7d4f9c-x2x9z"]


async def test_without_a_name_the_next_worker_waits_for_the_dead_one(kafka: Kafka) -> None:
    """Why the chart sets it."""
    async with group_on(kafka) as group:
        await group.join_and_be_killed()
        last = group.join()
        assert await until(lambda: shared(last)) > SESSION_SECONDS / 2
