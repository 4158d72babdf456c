"""A whole worker that is asked to stop while the group divides the shards: a simulated cluster and a mock broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from streamer.app import Worker
from streamer.config import load
from streamer.flow.stop import StopLadder
from streamer.simulator import Cluster, SimulatedApiServer
from streamer.sink.mock_broker import MockBroker
from tests.flow.following import eventually, numbered


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
async def worker(cluster: Cluster, server: SimulatedApiServer, tmp_path: Path) -> AsyncIterator[Worker]:
    given = {
        "cluster": "demo",
        "kubernetes.kubeconfig": server.kubeconfig(tmp_path / "kubeconfig"),
        "kafka.delivery": "at_least_once",
        "kafka.shards": 2,
        "topics.partitions": 1,
        "http.port": 0,
    }
    with MockBroker() as broker:
        overrides = [f"{key}={value}" for key, value in given.items()]
        settings = load(None, [*overrides, f"kafka.bootstrap_servers={broker.bootstrap}"], {})
        for spec in settings.topic_specs:
            broker.create_topic(spec.name, max(1, spec.partitions))
        stop = StopLadder()
        yield Worker(settings, stop, membership=Dividing(stop), check_crcs=False)


async def test_a_shard_that_is_gained_while_we_stop_does_not_hold_us_up(
    worker: Worker, cluster: Cluster
) -> None:
    for number in range(8):  # of both shards
        cluster.append(cluster.add_pod("falco", f"falco-{number}"), *numbered(0, 3))
    running = asyncio.create_task(worker.run())
    await eventually(lambda: bool(worker.shards) and worker.ledger.lines > 0)
    worker._stop.request()
    async with asyncio.timeout(10):
        assert await running
