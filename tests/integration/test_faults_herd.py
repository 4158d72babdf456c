"""Many pods at once, and something slow or dead: what is asked for and held stays in bounds. Bytes and counts only.

The same at production size, with times, is in bench/: `make bench ARGS='herd deadnodes memory pending'`.
"""

from __future__ import annotations

import asyncio
import signal
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

import aiohttp
import orjson
import pytest

from streamer.simulator import AlertGenerator, Cluster, SimulatedApiServer
from streamer.simulator.pods import Pod
from tests.chaos.bed import Site
from tests.integration.oracle import PRIORITIES, oracle
from tests.integration.worker import WorkerProcess
from tests.testbed.apiserver import KubeApiServer
from tests.testbed.crilog import record
from tests.testbed.kafka import Kafka
from tests.testbed.proxy import Proxy

pytestmark = pytest.mark.real

MIB = 2**20
SECONDS = 90.0
"""A deadline for what should take a few seconds: a busy machine is not a failure."""
TAIL_LINES = 512
"""The end of a log in which its place is found again, as a rule."""
STAMP_BYTES = 32
"""What the log API puts around each line."""
LINK_BYTES = 2_000_000
"""A second: the tails alone take several seconds."""
HERD, HERD_LINES = 24, 1_500
HUNG, HEALTHY = 60, 20
HUNG_SECONDS = 20.0
"""Less than a request waits for an answer: who is behind one that hangs is too late."""
BEHIND, BEHIND_LINES = 100, 1_200
BUSY, BUSY_LINES = 200, 700
PENDING, PENDING_SECONDS = 100, 15.0


class Worker(WorkerProcess):
    """The worker with what can be asked of it."""

    async def status(self) -> dict[str, Any]:
        """How it stands; empty while it does not answer yet."""
        if not self.said("http_serving"):
            return {}
        try:
            return dict(orjson.loads(await self.get("status")))
        except aiohttp.ClientError:
            return {}

    async def until(
        self, condition: Callable[[Mapping[str, Any]], bool], what: str, seconds: float = SECONDS
    ) -> dict[str, Any]:
        """Wait until its status meets a condition."""
        deadline = time.monotonic() + seconds
        while not (status := await self.status()) or not condition(status):
            assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}\n{shown(status)}"
            await asyncio.sleep(0.1)
        return status

    async def until_committed(self, lines: int, seconds: float = SECONDS) -> None:
        """Wait until so many lines are committed."""
        what = f"{lines} lines are committed"
        await self.until(lambda status: status["ledger"]["lines"] >= lines, what, seconds)

    @asynccontextmanager
    async def runs(self) -> AsyncIterator[Self]:
        """From its start to a good end, or to its death where the test fails."""
        self.log.write_bytes(b"")
        with self.shown_on_failure():
            await self.start()
            try:
                yield self
                assert await self.stop() == 0
            finally:
                if self._process is not None:
                    await self.stop(signal.SIGKILL)

    def peak_bytes(self) -> int:
        """The most memory that it has had."""
        assert self._process is not None
        text = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(text.partition("VmHWM:")[2].split()[0]) * 1024


def shown(status: Mapping[str, Any]) -> str:
    """What matters of a status where it is not as it should be."""
    states = [target["state"] for target in status.get("targets", ())]
    return (
        f"ledger {status.get('ledger')}, states {[(one, states.count(one)) for one in sorted(set(states))]}"
    )


class Herd:
    """Simulated pods, each on a node of its own, and what a worker needs to follow them."""

    def __init__(self, folder: Path, kafka: Kafka, name: str) -> None:
        self.cluster = Cluster(seed=1)
        self.server = SimulatedApiServer(self.cluster)
        self.printed = 0
        self.topics = [f"{name}.alerts.{priority}" for priority in PRIORITIES]
        self._alerts = AlertGenerator(1)
        self._folder = folder
        self._settings = {
            "cluster": name,
            "kafka": {"bootstrap_servers": kafka.bootstrap, "shards": 4},
            "topics": {"prefix": name, "create": True, "partitions": 2},
            "http": {"host": "127.0.0.1", "port": 0},
            "log": {"format": "json"},
        }

    def add(self, count: int, prefix: str, **how: Any) -> list[Pod]:
        """So many pods more."""
        names = [f"{prefix}-{n}" for n in range(count)]
        return [self.cluster.add_pod("falco", name, node=f"node-of-{name}", **how) for name in names]

    def print(self, pods: list[Pod], lines: int = 1) -> None:
        """Let each of these pods print alerts."""
        for pod in pods:
            self.cluster.append(pod, *(self._alerts.alert(time.time_ns(), "node") for _ in range(lines)))
            self.printed += lines

    @asynccontextmanager
    async def followed(self) -> AsyncIterator[Worker]:
        """A worker that runs."""
        kubeconfig = self.server.kubeconfig(self._folder / "kubeconfig")
        worker = Worker(self._folder, {**self._settings, "kubernetes": {"kubeconfig": str(kubeconfig)}})
        async with worker.runs():
            yield worker


@pytest.fixture
async def herd(tmp_path: Path, kafka: Kafka) -> AsyncIterator[Herd]:
    made = Herd(tmp_path, kafka, f"herd-{uuid.uuid4().hex[:8]}")
    async with made.server:
        yield made


async def test_a_restart_behind_a_slow_link_is_served_the_tails_and_no_more(
    site: Site, api_server: KubeApiServer, tmp_path: Path
) -> None:
    pods = [await site.cluster.add_pod(f"falco-{n}") for n in range(HERD)]
    alerts = AlertGenerator(1)
    lines = [alerts.alert(time.time_ns(), "node") for _ in range(HERD_LINES)]
    history = b"".join(record(line, at=time.time_ns()) for line in lines)
    for pod in pods:
        pod.log().line(alerts.alert(time.time_ns(), "node"))
    async with Proxy(api_server.port) as link:
        kubeconfig = tmp_path / "kubeconfig"
        through = site.kubeconfig.read_text().replace(api_server.url, f"https://127.0.0.1:{link.port}")
        kubeconfig.write_text(through)
        settings = site.settings()
        settings["kubernetes"]["kubeconfig"] = str(kubeconfig)
        worker = Worker(tmp_path / "worker", settings)
        async with worker.runs():
            await worker.until_committed(HERD)
        for pod in pods:
            pod.log().begin_with(history)
        link.served_bytes_per_second = LINK_BYTES
        link.served_bytes = 0
        async with worker.runs():
            await worker.until(
                lambda status: [one["state"] for one in status["targets"]] == ["following"] * HERD,
                "all are followed",
            )
            for pod in pods:
                pod.log().line(alerts.alert(time.time_ns(), "node"))
            await worker.until_committed(2 * HERD)
            served = link.served_bytes
    tails = HERD * sum(len(line) + STAMP_BYTES for line in lines[-TAIL_LINES:])
    assert served <= 1.3 * tails, f"{served / tails:.1f} times the tails"


async def test_nodes_that_hang_hold_up_nobody_else_and_are_named(herd: Herd) -> None:
    hung, healthy = herd.add(HUNG, "a-hung"), herd.add(HEALTHY, "healthy")
    herd.server.hang_nodes(*(pod.node or "" for pod in hung))
    herd.print(healthy)
    async with herd.followed() as worker:
        await worker.until_committed(HEALTHY, HUNG_SECONDS)
        herd.print(herd.add(1, "new"))
        await worker.until_committed(HEALTHY + 1, HUNG_SECONDS)
        status = await worker.status()
        unread = {one["target"]["uid"] for one in status["targets"] if one["unread_seconds"] > 0}
        assert unread == {pod.uid for pod in hung}
        assert status["lag_seconds"] > 0
        herd.print(hung)
        herd.server.resume_nodes()
        await worker.until_committed(herd.printed)


async def test_many_logs_that_are_far_behind_do_not_add_up_in_memory(herd: Herd) -> None:
    pods = herd.add(BEHIND, "falco")
    herd.print(pods)
    async with herd.followed() as worker:
        await worker.until_committed(herd.printed)
    herd.print(pods, BEHIND_LINES)
    async with herd.followed() as worker:
        await worker.until_committed(herd.printed)
        assert worker.peak_bytes() < 230 * MIB


async def test_busy_pods_while_kafka_is_down_stay_in_bounds_and_nothing_is_lost_or_doubled(
    tmp_path: Path, private_kafka: Kafka
) -> None:
    herd = Herd(tmp_path, private_kafka, "down")
    pods = herd.add(BUSY, "falco")
    herd.print(pods)
    async with herd.server, herd.followed() as worker:
        await worker.until_committed(herd.printed)
        await asyncio.to_thread(private_kafka.kill)
        herd.print(pods, BUSY_LINES)
        await worker.until(lambda _: bool(worker.said("publish_failed")), "the outage is noticed")
        await asyncio.to_thread(private_kafka.start)
        await worker.until_committed(herd.printed)
        peak = worker.peak_bytes()
        async with oracle(private_kafka.bootstrap, herd.topics) as seen:
            await seen.read_to_end()
        assert seen.alerts == herd.printed
        assert len({dict(one.headers)["ce_id"] for one in seen.records}) == herd.printed
        assert peak < 300 * MIB


async def test_pods_that_cannot_start_wait_for_the_watch(herd: Herd) -> None:
    pending = herd.add(PENDING, "falco", waiting=True, waiting_reason="ImagePullBackOff")
    async with herd.followed() as worker:
        await worker.until(lambda status: len(status["targets"]) == PENDING, "all are known")
        before = herd.server.requests.copy()
        await asyncio.sleep(PENDING_SECONDS)
        asked = herd.server.requests - before
        herd.cluster.start_container(pending[0])
        herd.print(pending[:1])
        await worker.until_committed(1)
    # 1,000 such pods cost less than 2 requests/s.
    assert asked.total() <= PENDING * PENDING_SECONDS * 2 / 1000 + 5, asked
