"""One pod after another in the situations that a reader of logs meets: on the stand-in for a kubelet, and on a node."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Protocol

import aiohttp
import orjson

from tests.testbed.client import KubeApi
from tests.testbed.cluster import FalcoCluster
from tests.testbed.kubelet import Kubelet
from tests.testbed.node import Node
from tests.testbed.node_cluster import NodeCluster, NodePod
from tests.testbed.pod import Pod

Answer = tuple[int, bytes]


class Lab(Protocol):
    """A namespace with one pod, `falco`, whose container prints numbered lines."""

    async def create(self, lines: int, *, endless: bool = False, unfinished: bool = False) -> None:
        """Start the pod and wait until it has printed so many lines; then it waits, or prints on."""
        ...

    async def create_waiting(self) -> None:
        """Make the pod; its container waits in ContainerCreating."""
        ...

    async def crash(self) -> None:
        """Kill the container, and wait until the next instance runs and has printed as much."""
        ...

    async def remove(self, instance: int) -> None:
        """Have the runtime remove an instance that has ended, with its log."""
        ...

    async def delete(self, *, grace: bool) -> None:
        """Delete the pod, and wait until it is gone."""
        ...

    async def delete_and_keep(self) -> None:
        """Delete the pod and wait until its containers are removed; its object stays."""
        ...

    def written(self, instance: int) -> list[bytes]:
        """What an instance has printed."""
        ...

    def open(self, **params: str) -> aiohttp.client._RequestContextManager:
        """Ask for the log."""
        ...


class NodeLab:
    """The real node."""

    def __init__(self, cluster: NodeCluster) -> None:
        self._cluster = cluster
        self._pod: NodePod
        self._lines = 0
        self._kept = False

    async def create(self, lines: int, *, endless: bool = False, unfinished: bool = False) -> None:
        how = ["-rate=100"] if endless else [f"-count={lines}"]
        self._lines = lines
        how += ["-unfinished"] if unfinished else []
        self._pod = await self._cluster.add_pod("falco", *how, finalizer=True)
        await self._pod.until_written(lines)

    async def create_waiting(self) -> None:
        self._pod = await self._cluster.add_pod(missing_volume=True, running=False, finalizer=True)
        await self._pod.until(lambda status: "waiting" in status.get("state", {}))

    async def crash(self) -> None:
        written = self._pod.records
        count = (await self._pod.container())["restartCount"]
        await self._pod.kill()
        await self._pod.until_running(count + 1)
        await self._pod.until_written(written + self._lines)

    async def remove(self, instance: int) -> None:
        assert await asyncio.to_thread(self._cluster.node.collect_garbage, self._pod.uid) == [instance]

    async def delete(self, *, grace: bool) -> None:
        await self._pod.release()
        await self._pod.delete(grace_seconds=None if grace else 0)
        await self._pod.until_gone()

    async def delete_and_keep(self) -> None:
        await self._pod.delete()
        deadline = time.monotonic() + 30
        while self._cluster.node.has_logs(self._pod.uid):
            assert time.monotonic() < deadline, "the container is not removed"
            await asyncio.sleep(0.05)

    def written(self, instance: int) -> list[bytes]:
        return [line.text for line in self._pod.written() if line.instance == instance]

    def open(self, **params: str) -> aiohttp.client._RequestContextManager:
        return self._cluster.api.open_log(self._cluster.namespace, "falco", **params)

    async def close(self) -> None:
        with suppress(Exception):  # it is gone
            await self._pod.release()


class StandInLab:
    """The log endpoint with the kubelet's own reader; what a node would do, this does."""

    def __init__(self, cluster: FalcoCluster) -> None:
        self._cluster = cluster
        self._pod: Pod
        self._written: dict[int, list[bytes]] = {}
        self._lines = 0
        self._unfinished = False
        self._printing: asyncio.Task[None] | None = None

    async def create(self, lines: int, *, endless: bool = False, unfinished: bool = False) -> None:
        self._pod = await self._cluster.add_pod("falco")
        self._lines, self._unfinished = lines, unfinished
        self._print(0, lines)
        if endless:
            self._printing = asyncio.create_task(self._print_on())

    async def create_waiting(self) -> None:
        self._pod = await self._cluster.add_pod("falco", started=False)

    async def crash(self) -> None:
        await self._pod.restart(exit_code=137)
        self._print(self._pod.container().restart_count, self._lines)

    async def remove(self, instance: int) -> None:
        self._pod.container().remove(instance)

    async def delete(self, *, grace: bool) -> None:
        if grace:
            await self._pod.delete(grace_seconds=10)
            await self._end()
        await self._pod.delete()
        await self._stop()

    async def delete_and_keep(self) -> None:
        await self._end()
        self._pod.container().remove(0)

    async def _end(self) -> None:
        await self._stop()
        if self._unfinished:
            text = b'{"n":"unfinished"}'
            self._pod.log().part(text)
            self._written[0].append(text)
        await self._pod.end()

    def _print(self, instance: int, lines: int) -> None:
        texts = [orjson.dumps({"instance": instance, "n": number}) for number in range(lines)]
        self._pod.log().lines(texts)
        self._written.setdefault(instance, []).extend(texts)

    async def _print_on(self) -> None:
        for number in range(self._lines, 100_000):
            text = orjson.dumps({"instance": 0, "n": number})
            self._pod.log().line(text)
            self._written[0].append(text)
            await asyncio.sleep(0.01)

    async def _stop(self) -> None:
        if self._printing is not None:
            self._printing.cancel()
            with suppress(asyncio.CancelledError):
                await self._printing

    def written(self, instance: int) -> list[bytes]:
        return self._written[instance]

    def open(self, **params: str) -> aiohttp.client._RequestContextManager:
        return self._cluster.api.open_log(self._cluster.namespace, "falco", **params)


@asynccontextmanager
async def lab(node: Node, kind: str) -> AsyncIterator[Lab]:
    """A lab on the node's own API server, of the kind `stand-in` or `node`."""
    async with AsyncExitStack() as stack:
        api = await stack.enter_async_context(KubeApi(node.server.kubeconfig))
        if kind == "node":
            made = NodeLab(await stack.enter_async_context(NodeCluster(api, node)))
            stack.push_async_callback(made.close)
            yield made
        else:
            kubelet = stack.enter_context(Kubelet(node.server.authority))
            yield StandInLab(await stack.enter_async_context(FalcoCluster(api, kubelet)))
