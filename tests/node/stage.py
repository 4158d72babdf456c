"""The worker as a process between a real node and a real broker, and what is compared in the end."""

from __future__ import annotations

import asyncio
import signal
import time
import uuid
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self

import orjson

from tests.integration.oracle import Oracle, oracle
from tests.integration.worker import WorkerProcess
from tests.node.findings import Findings, compare
from tests.testbed.kafka import Kafka
from tests.testbed.node_cluster import NodeCluster, NodePod

_SETTLED_SECONDS = 20.0
"""So long after the last line was written, all of it is in the topics, or something is wrong."""


class Stage:
    """One namespace, one or more workers, topics of their own, as an async context manager."""

    def __init__(self, cluster: NodeCluster, kafka: Kafka, folder: Path) -> None:
        self.cluster = cluster
        self.node = cluster.node
        self._kafka = kafka
        self._folder = folder
        self._name = f"node-{uuid.uuid4().hex[:8]}"
        self._stack = AsyncExitStack()
        self.workers: list[WorkerProcess] = []

    async def __aenter__(self) -> Self:
        """Start a worker, and wait until it is ready."""
        await self.add_worker()
        kinds = ("alerts.warning", "dead-letter", "health")
        topics = [f"{self._name}.{kind}" for kind in kinds]
        self.topics = await self._stack.enter_async_context(oracle(self._kafka.bootstrap, topics))
        return self

    async def __aexit__(self, failed: object, *_: object) -> None:
        """End the workers; after a failure their logs are shown."""
        for worker in self.workers:
            if worker.running:
                await worker.stop(signal.SIGKILL)
            if failed is not None:
                print("\n".join(worker.log.read_text().splitlines()[-60:]))  # noqa: T201  # pytest shows it
        await self._stack.aclose()

    async def add_worker(self) -> WorkerProcess:
        """Start one more, and wait until it is ready."""
        settings: dict[str, Any] = {
            "cluster": self._name,
            "kubernetes": {
                "kubeconfig": str(self.node.server.kubeconfig),
                "namespaces": [self.cluster.namespace],
            },
            "kafka": {"bootstrap_servers": [self._kafka.bootstrap], "shards": 4},
            "topics": {"prefix": self._name, "create": True, "partitions": 2},
            "http": {"host": "127.0.0.1", "port": 0},
            "log": {"format": "json"},
        }
        worker = WorkerProcess(self._folder / f"worker-{len(self.workers)}", settings)
        self.workers.append(worker)
        await worker.start()
        await self.until_ready(worker)
        return worker

    async def until_ready(self, worker: WorkerProcess) -> None:
        """Wait until a worker that was just started has its shards and knows the pods."""

        async def ready() -> bool:
            try:
                return (await worker.get("readyz")).startswith("ok")
            except (OSError, IndexError):  # its HTTP server is not there yet
                return False

        await _until(ready, 60, "the worker is not ready")

    async def targets(self) -> dict[str, dict[str, Any]]:
        """What the workers show of the pods that they follow, by uid."""
        shown = [orjson.loads(await worker.get("status")) for worker in self.workers]
        return {target["target"]["uid"]: target for each in shown for target in each["targets"]}

    async def until_released(self, *pods: NodePod) -> None:
        """Wait until no worker follows these pods any more."""

        async def released() -> bool:
            followed = await self.targets()
            return not any(pod.uid in followed for pod in pods)

        await _until(released, 60, "deleted pods are still followed")

    async def until_quiet(self, seconds: float, *pods: NodePod) -> None:
        """Wait until the streams of these pods have been open and silent for so long."""

        async def quiet() -> bool:
            followed = await self.targets()
            return all(
                pod.uid in followed
                and followed[pod.uid]["state"] == "following"
                and followed[pod.uid]["quiet_seconds"] >= seconds
                for pod in pods
            )

        await _until(quiet, 60, "the streams are not quiet")

    async def until_published(self, *pods: NodePod) -> None:
        """Wait until all that these pods have written by now is published."""
        texts = {line.text for pod in pods for line in pod.written()}
        await self._until_seen(lambda seen: texts <= {record.value for record in seen.records})

    async def until_more(self, alerts: int) -> None:
        """Wait until so many more alerts are published."""
        await self.topics.read_to_end()
        wanted = self.topics.alerts + alerts
        await self._until_seen(lambda seen: seen.alerts >= wanted)

    async def _until_seen(self, condition: Callable[[Oracle], bool]) -> None:
        await self.topics.until(condition, 60)
        assert condition(self.topics), str(self._compare(time.time_ns()))

    def _compare(self, before_ns: int) -> Findings:
        return compare(self.cluster.pods, self.topics.records, before_ns)

    async def finish(self, *, late_ns: int | None = None) -> Findings:
        """Wait until all that was written by now is accounted for, end the workers, and compare.

        Lines that are missing though they were written after `late_ns` are named in `late`.
        """
        before_ns = time.time_ns()
        deadline = time.monotonic() + _SETTLED_SECONDS
        while self._compare(before_ns).lost and time.monotonic() < deadline:
            await self.topics.read_to_end()
            await asyncio.sleep(0.2)
        for worker in self.workers:
            assert await worker.stop() == 0
        await self.topics.read_to_end()
        found = self._compare(before_ns)
        if late_ns is not None:
            found.late = [line for line in found.missing if line.at_ns > late_ns]
        print(found)  # noqa: T201  # with -s, or on a failure
        return found


async def _until(condition: Any, seconds: float, otherwise: str) -> None:
    deadline = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < deadline, otherwise
        await asyncio.sleep(0.1)
