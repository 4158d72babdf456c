"""A whole worker in one process, with a simulated cluster and a mock broker: what only its parts together can do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from streamer.app import Worker
from streamer.config import Settings, load
from streamer.flow.membership import Alone, Membership
from streamer.flow.stop import StopLadder
from streamer.model import PositionStatus, Target
from streamer.plan import plan_of
from streamer.shard.shard import Shard
from streamer.simulator import Cluster, SimulatedApiServer
from streamer.simulator.status import ApiError as Refusal
from streamer.sink import Connection, ShardProducer
from streamer.sink.mock_broker import MockBroker
from streamer.telemetry.status import CheckState
from streamer.transform.load import load as load_state
from streamer.transform.process import Processor
from tests.flow.following import eventually, numbered
from tests.unit.transform.samples import NOW_NS, Feed


class Dividing:
    """Gives us the first shard, and the second one at the moment when we are asked to stop."""

    def __init__(self, stop: StopLadder) -> None:
        self._stop = stop
        self.assigned: frozenset[int] | None = frozenset({0})
        self.trouble = ""

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def assignments(self) -> AsyncIterator[frozenset[int]]:
        yield frozenset({0})
        await self._stop.wait()
        await asyncio.sleep(0)  # the worker has heard it as well
        yield frozenset({0, 1})
        await asyncio.Event().wait()

    async def confirmed(self) -> None:
        await asyncio.sleep(0)


@pytest.fixture
def settings(server: SimulatedApiServer, tmp_path: Path) -> Iterator[Settings]:
    """Of a broker that is there: without transactions, which it does not have."""
    with MockBroker() as broker:
        given = {
            "cluster": "demo",
            "kubernetes.kubeconfig": server.kubeconfig(tmp_path / "kubeconfig"),
            "kafka.bootstrap_servers": broker.bootstrap,
            "kafka.delivery": "at_least_once",
            "kafka.shards": 2,
            "topics.partitions": 1,
            "http.port": 0,
        }
        made = load(None, [f"{key}={value}" for key, value in given.items()], {})
        for spec in made.topic_specs:
            broker.create_topic(spec.name, max(1, spec.partitions))
        yield made


@asynccontextmanager
async def working(settings: Settings, stop: StopLadder, membership: Membership) -> AsyncIterator[Worker]:
    worker = Worker(settings, stop, membership=membership, check_crcs=False)
    running = asyncio.create_task(worker.run())
    try:
        yield worker
        stop.request()
        async with asyncio.timeout(10):
            assert await running
    finally:
        running.cancel()
        await asyncio.wait([running])


async def test_a_shard_that_is_gained_while_we_stop_does_not_hold_us_up(
    settings: Settings, cluster: Cluster
) -> None:
    for number in range(8):  # of both shards
        cluster.append(cluster.add_pod("falco", f"falco-{number}"), *numbered(0, 3))
    stop = StopLadder()
    async with working(settings, stop, Dividing(stop)) as worker:
        await eventually(lambda: worker.ledger.lines > 0)
    assert set(worker.shards) == {0}


class Unheard:
    """The group has not answered yet; then it assigns both shards."""

    def __init__(self) -> None:
        self.assigned: frozenset[int] | None = None
        self.trouble = ""
        self.answered = asyncio.Event()

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def assignments(self) -> AsyncIterator[frozenset[int]]:
        await self.answered.wait()
        self.assigned = frozenset({0, 1})
        yield self.assigned
        await asyncio.Event().wait()

    async def confirmed(self) -> None:
        await asyncio.sleep(0)


async def test_a_condition_is_unknown_until_it_succeeds_or_fails(
    settings: Settings, cluster: Cluster, server: SimulatedApiServer
) -> None:
    cluster.append(cluster.add_pod("falco", "falco-0"), *numbered(0, 1))
    hung, membership = server.faults.hold("/pods"), Unheard()
    async with working(settings, StopLadder(), membership) as worker:

        def health() -> dict[str, CheckState]:
            return {check.name: check.state for check in worker.overview.checks()}

        def ready() -> bool:
            return worker.overview.status().ready

        await eventually(lambda: bool(hung.struck))
        unknown = {"state loaded", "pods listed", "pods watched", "Kafka takes records", "pods found"}
        assert health() == {"topics verified": CheckState.OK, **dict.fromkeys(unknown, CheckState.UNKNOWN)}
        membership.trouble = "the coordinator is away"
        assert health()["state loaded"] is CheckState.FAILING
        membership.trouble = ""
        membership.answered.set()
        await eventually(lambda: health()["state loaded"] is CheckState.OK)
        assert not ready()
        server.faults.clear()
        await eventually(lambda: set(health().values()) == {CheckState.OK})
        assert ready()


async def test_only_a_commit_shows_that_kafka_takes_records(settings: Settings, cluster: Cluster) -> None:
    async with working(settings, StopLadder(), Alone(2)) as worker:
        await eventually(lambda: worker.overview.status().ready)
        found = {check.name: check for check in worker.overview.checks()}
        assert (
            found["Kafka takes records"].state is CheckState.UNKNOWN
        )  # there is no pod, and nothing to commit
        assert found["pods watched"].state is CheckState.OK
        assert found["pods found"].state is CheckState.FAILING
        cluster.append(cluster.add_pod("falco", "falco-0"), *numbered(0, 1))
        await eventually(lambda: worker.ledger.lines == 1)
        assert {check.state for check in worker.overview.checks()} == {CheckState.OK}


async def test_a_forbidden_namespace_keeps_no_other_from_being_followed(
    settings: Settings, cluster: Cluster, server: SimulatedApiServer
) -> None:
    good, bad = cluster.add_pod("good", "falco-a"), cluster.add_pod("bad", "falco-b")
    cluster.append(good, *numbered(0, 3))
    cluster.append(bad, *numbered(0, 2))
    forbidden = Refusal(403, "pods is forbidden", details={"kind": "pods"})
    server.faults.refuse("/namespaces/bad/", forbidden, times=1_000_000)
    kubernetes = settings.kubernetes.model_copy(update={"namespaces": ("bad", "good")})
    async with working(
        settings.model_copy(update={"kubernetes": kubernetes}), StopLadder(), Alone(2)
    ) as worker:
        await eventually(lambda: worker.ledger.lines == 3)
        checks = {check.name: check for check in worker.overview.checks()}
        assert [name for name, check in checks.items() if check.state is not CheckState.OK] == [
            "pods watched in bad"
        ]
        assert "no right to list pods in namespace bad" in checks["pods watched in bad"].why
        assert not checks["pods watched in bad"].needed
        assert worker.overview.status().blind_seconds > 0
        server.faults.clear()
        await eventually(lambda: worker.ledger.lines == 5, seconds=20)
        await eventually(lambda: worker.overview.status().blind_seconds == 0)


async def test_a_shard_sees_to_its_stored_targets_once_their_own_namespace_is_listed(
    settings: Settings, cluster: Cluster, server: SimulatedApiServer
) -> None:
    """Of a pod that left while no worker ran, and of one in a namespace that is not followed any more."""
    for namespace in ("one", "two", "three"):
        pod = cluster.add_pod(namespace, "falco")
        cluster.append(pod, *numbered(0, 1))
    async with working(settings, StopLadder(), Alone(2)) as worker:
        await eventually(lambda: worker.ledger.lines == 3)
    for namespace in ("one", "two", "three"):
        cluster.remove_pod(cluster.pod(namespace, "falco"))
    forbidden = Refusal(403, "pods is forbidden", details={"kind": "pods"})
    server.faults.refuse("/namespaces/two/", forbidden, times=1_000_000)
    asked = server.faults.refuse("/namespaces/three/", forbidden, times=1_000_000)
    kubernetes = settings.kubernetes.model_copy(update={"namespaces": ("one", "two")})
    async with working(
        settings.model_copy(update={"kubernetes": kubernetes}), StopLadder(), Alone(2)
    ) as worker:
        await eventually(lambda: worker.ledger.gaps == 1)
        shards = worker.shards.values()
        await eventually(lambda: any("three" in identity for shard in shards for identity in released(shard)))
        assert asked.struck == 0
        server.faults.clear()
        await eventually(lambda: worker.ledger.gaps == 2, seconds=20)


def released(shard: Shard) -> list[str]:
    return [
        identity
        for identity, tracked in shard._processor.state.tracked.items()
        if tracked.position.status is PositionStatus.RELEASED
    ]


async def test_a_pod_that_another_owner_has_followed_and_that_is_gone_is_seen_out(
    settings: Settings, cluster: Cluster
) -> None:
    """We stood still, another worker had the shard and saw a pod that we never will, and we have the shard again."""
    pod = cluster.add_pod("falco", "falco-here")
    target = Target("falco", "falco-gone", pod.uid, "falco", "node-2")  # of the same shard
    async with working(settings, StopLadder(), Alone(2)) as worker:
        cluster.append(pod, *numbered(0, 3))
        await eventually(lambda: worker.ledger.lines == 3)
        shard = next(shard for shard in worker.shards.values() if shard.ledger.lines)

        connection = Connection(settings.kafka, check_crcs=False)
        state = settings.topic_names.state
        other = ShardProducer(connection, cluster="demo", shard=shard.index, state_topic=state)
        found = load_state("demo", await other.open())
        found.owner = "another"
        batch = Feed(target).batch((NOW_NS, b"a line of text"))
        await other.publish(Processor(plan_of(settings), found).process([batch], NOW_NS))
        await other.close()

        await shard._publisher.discard()  # type: ignore[attr-defined]  # as after any failure
        cluster.append(pod, *numbered(3, 6))
        await eventually(lambda: worker.ledger.gaps == 1, seconds=20)
    assert worker.ledger.lines == 7
