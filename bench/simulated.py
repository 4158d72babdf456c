"""The simulated cluster for a benchmark, in a process of its own: thousands of pods that real parts would not carry."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import uvloop

from bench.site import Reach
from streamer.simulator import AlertGenerator, Cluster, SimulatedApiServer
from streamer.simulator.logs import ContainerLog
from streamer.simulator.pods import Pod
from tests.testbed.kafka import Kafka

_START_SECONDS: Final = 60.0
_NAMESPACE: Final = "falco"


@dataclass(frozen=True)
class SimulatedSite(Reach):
    """The parent's end: each call is answered by the process that serves the cluster."""

    count: int
    _pipe: Connection

    def _call(self, name: str, *arguments: Any) -> Any:
        self._pipe.send((name, arguments))
        return self._pipe.recv()

    def requests(self) -> Counter[str]:
        """How many requests for pods and logs came in, by verb and resource."""
        return Counter(self._call("requests"))

    def print_lines(self, lines: int) -> None:
        """Every pod that runs prints so many alerts."""
        self._call("print_lines", lines)

    def begin_with(self, alerts: Sequence[bytes]) -> None:
        """Every pod's log begins with these alerts, before what it has printed."""
        self._call("begin_with", list(alerts))


class _Served:
    """The process's end."""

    def __init__(self, cluster: Cluster, server: SimulatedApiServer) -> None:
        self._cluster = cluster
        self._server = server
        self._generator = AlertGenerator(5)
        self._began_ns = time.time_ns()

    def requests(self) -> dict[str, int]:
        return dict(self._server.requests)

    def print_lines(self, lines: int) -> None:
        now = time.time_ns()
        for pod in self._pods():
            for n in range(lines):
                self._cluster.append(pod, self._generator.alert(now + n, "node"), time_ns=now + n)

    def begin_with(self, alerts: list[bytes]) -> None:
        history = ContainerLog()
        for n, alert in enumerate(alerts):
            history.append(alert, self._began_ns + n)
        for pod in self._pods():
            self._cluster.log(pod).begin_with(history)

    def _pods(self) -> list[Pod]:
        return [pod for pod in self._cluster.pods.values() if pod.phase == "Running"]


@contextlib.asynccontextmanager
async def simulated(
    folder: Path, kafka: Kafka, pods: int, *, waiting_reason: str = ""
) -> AsyncIterator[SimulatedSite]:
    """So many pods, one a node, that have logged nothing yet; with a reason, they wait instead of running."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    kubeconfig = folder / f"simulated-{time.monotonic_ns()}"
    process = context.Process(target=_main, args=(theirs, pods, waiting_reason, kubeconfig), daemon=True)
    process.start()
    try:
        if not await asyncio.to_thread(ours.poll, _START_SECONDS):
            raise TimeoutError("the simulated cluster did not start")
        yield SimulatedSite(folder, kafka, kubeconfig, ours.recv(), pods, ours)
    finally:
        process.kill()
        await asyncio.to_thread(process.join)
        process.close()


def _main(pipe: Connection, pods: int, waiting_reason: str, kubeconfig: Path) -> None:
    uvloop.run(_serve(pipe, pods, waiting_reason, kubeconfig))


async def _serve(pipe: Connection, pods: int, waiting_reason: str, kubeconfig: Path) -> None:
    cluster = Cluster(seed=1, history=10 * pods + 10_000)
    waiting = {"waiting": True, "waiting_reason": waiting_reason} if waiting_reason else {}
    for n in range(pods):
        cluster.add_pod(_NAMESPACE, f"falco-{n}", node=f"node-{n}", **waiting)  # type: ignore[arg-type]
    async with SimulatedApiServer(cluster) as server:
        served = _Served(cluster, server)
        server.kubeconfig(kubeconfig)
        pipe.send(server.url)
        while True:
            name, arguments = await asyncio.to_thread(pipe.recv)
            pipe.send(getattr(served, name)(*arguments))
