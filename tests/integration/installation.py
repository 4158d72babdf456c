"""Falco pods on a real API server, topics on a real broker, and what was written: the stage of whole-worker tests."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from streamer.simulator import AlertGenerator
from tests.integration.oracle import PRIORITIES
from tests.testbed.apiserver import KubeApiServer
from tests.testbed.client import KubeApi
from tests.testbed.cluster import FalcoCluster
from tests.testbed.kafka import Kafka
from tests.testbed.kubelet import Kubelet
from tests.testbed.pod import Pod
from tests.testbed.topics import create_topic


class Installation:
    """Falco pods in some namespaces, topics of its own, and what was written to each pod's log."""

    def __init__(
        self,
        kubeconfig: Path,
        clusters: list[FalcoCluster],
        pods: list[Pod],
        kafka: Kafka,
        generator: AlertGenerator,
    ) -> None:
        self.kubeconfig = kubeconfig
        self.clusters = clusters
        self.pods = pods
        self.kafka = kafka
        self.name = f"it-{uuid.uuid4().hex[:8]}"
        self.written: list[tuple[Pod, bytes]] = []
        self._generator = generator
        self._turn = 0

    @property
    def alert_topics(self) -> list[str]:
        return [f"{self.name}.alerts.{priority}" for priority in PRIORITIES]

    @property
    def topics(self) -> list[str]:
        return [
            *self.alert_topics,
            f"{self.name}.summaries",
            f"{self.name}.overflow",
            f"{self.name}.dead-letter",
            f"{self.name}.health",
        ]

    @property
    def state_topic(self) -> str:
        return f"falco-streamer.{self.name}.state"

    def settings(self, **more: Any) -> dict[str, Any]:
        return more | {
            "cluster": self.name,
            "kubernetes": {
                "kubeconfig": str(self.kubeconfig),
                "namespaces": [cluster.namespace for cluster in self.clusters],
            },
            "kafka": {"bootstrap_servers": [self.kafka.bootstrap], "shards": 4},
            "topics": {"prefix": self.name, "create": True, "partitions": 3},
            "http": {"host": "127.0.0.1", "port": 0},
            "log": {"format": "json"},
        }

    async def create_topics(self) -> None:
        """As the worker would; made beforehand, so that the oracle can read from the start."""
        for topic in self.topics:
            await create_topic(self.kafka.bootstrap, topic, partitions=3)
        await create_topic(
            self.kafka.bootstrap, self.state_topic, partitions=4, config={"cleanup.policy": "compact"}
        )

    def write(self, count: int) -> None:
        """Let pods print alerts, a few at a time, in turn."""
        while count:
            pod = self.pods[self._turn % len(self.pods)]
            self._turn += 1
            burst = [self._generator.alert(time.time_ns(), f"node-{pod.name}") for _ in range(min(count, 7))]
            pod.log().lines(burst)
            self.written += [(pod, alert) for alert in burst]
            count -= len(burst)


@asynccontextmanager
async def installed(
    api_server: KubeApiServer,
    api: KubeApi,
    kubelet: Kubelet,
    kafka: Kafka,
    *,
    pods: int,
    namespaces: int,
    generator: AlertGenerator,
) -> AsyncIterator[Installation]:
    """An installation with its pods running and its topics made."""
    async with AsyncExitStack() as stack:
        clusters = [await stack.enter_async_context(FalcoCluster(api, kubelet)) for _ in range(namespaces)]
        started = [await clusters[n % namespaces].add_pod(f"falco-{n}") for n in range(pods)]
        made = Installation(api_server.kubeconfig, clusters, started, kafka, generator)
        await made.create_topics()
        yield made
