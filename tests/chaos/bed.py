"""Real servers of one's own for a run of chaos, with proxies between the worker and them."""

from __future__ import annotations

import asyncio
import sys
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import yaml

from tests.chaos.proxy import Proxy
from tests.integration.oracle import PRIORITIES
from tests.testbed.apiserver import KubeApiServer
from tests.testbed.client import KubeApi
from tests.testbed.cluster import FalcoCluster
from tests.testbed.kafka import Kafka
from tests.testbed.kubelet import Kubelet
from tests.testbed.process import Process, free_port
from tests.testbed.topics import create_topic

SHARDS = 4


class ProxiedKafka(Kafka):
    """A broker with one more listener, whose clients find it behind a proxy."""

    def __init__(self) -> None:
        self.inner_port = free_port()
        self.proxy = Proxy(self.inner_port)
        super().__init__()

    def _defaults(self) -> dict[str, str]:
        found = super()._defaults()
        found["listeners"] += f",PROXIED://127.0.0.1:{self.inner_port}"
        found["advertised.listeners"] += f",PROXIED://127.0.0.1:{self.proxy.port}"
        found["listener.security.protocol.map"] += ",PROXIED:PLAINTEXT"
        return found


class Worker:
    """`falco-streamer run` as a process that can be killed, frozen and started again; its log is kept."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        config = folder / "streamer.yaml"
        config.write_text(yaml.safe_dump(dict(settings)))
        self.log = folder / "worker.log"
        self.log.touch()
        command = [sys.executable, "-m", "streamer", "run", "--config", str(config)]
        self.process = Process("falco-streamer", command, self.log)

    async def start(self) -> None:
        await asyncio.to_thread(self.process.spawn)

    async def kill(self) -> None:
        await asyncio.to_thread(self.process.kill)

    async def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        child = self.process._child
        assert child is not None
        await asyncio.to_thread(self.process.stop, seconds=40)
        return int(child.returncode)

    def events(self) -> list[dict[str, Any]]:
        """What it logged; a kill may have cut the last line."""
        found = []
        for line in self.log.read_bytes().splitlines():
            try:
                found.append(orjson.loads(line))
            except orjson.JSONDecodeError:
                continue
        return found

    def tracebacks(self) -> int:
        """How often Python, not our log, had the word: nothing should end so."""
        return self.log.read_bytes().count(b"Traceback (most recent call last)")


@dataclass
class Bed:
    """Everything a run needs."""

    folder: Path
    kafka: ProxiedKafka
    server: KubeApiServer
    kubelet: Kubelet
    api_proxy: Proxy
    cluster: FalcoCluster
    name: str
    kubeconfig: Path

    @property
    def kafka_proxy(self) -> Proxy:
        return self.kafka.proxy

    @property
    def topics(self) -> list[str]:
        """All that a consumer may read; the judge's names for them, not the worker's."""
        kinds = [f"alerts.{priority}" for priority in PRIORITIES]
        return [f"{self.name}.{kind}" for kind in [*kinds, "overflow", "dead-letter", "notices"]]

    @property
    def state_topic(self) -> str:
        return f"_falco-streamer.{self.name}.state"

    def settings(self) -> dict[str, Any]:
        return {
            "cluster": self.name,
            "kubernetes": {"kubeconfig": str(self.kubeconfig), "namespaces": [self.cluster.namespace]},
            "kafka": {"bootstrap_servers": [f"127.0.0.1:{self.kafka_proxy.port}"], "shards": SHARDS},
            "topics": {"prefix": self.name, "create": True, "partitions": 2},
            "http": {"host": "127.0.0.1", "port": 0},
            "log": {"format": "json"},
        }

    def worker(self, name: str = "worker", **changed: Any) -> Worker:
        return Worker(self.folder / name, self.settings() | changed)


@asynccontextmanager
async def bed(folder: Path) -> AsyncIterator[Bed]:
    """Start everything but a worker (about 8 s), with empty topics."""
    async with AsyncExitStack() as stack:
        server, kafka = KubeApiServer(), ProxiedKafka()
        stack.callback(server.close)
        stack.callback(kafka.close)
        kubelet = Kubelet(server.authority)
        stack.callback(kubelet.close)
        await asyncio.gather(*(asyncio.to_thread(part.start) for part in (server, kafka, kubelet)))
        api_proxy = await stack.enter_async_context(Proxy(server.port))
        await stack.enter_async_context(kafka.proxy)
        admin = await stack.enter_async_context(KubeApi(server.kubeconfig))
        cluster = await stack.enter_async_context(FalcoCluster(admin, kubelet))
        kubeconfig = folder / "kubeconfig"
        text = server.kubeconfig.read_text()
        kubeconfig.write_text(text.replace(server.url, f"https://127.0.0.1:{api_proxy.port}"))
        name = f"chaos-{uuid.uuid4().hex[:8]}"
        made = Bed(folder, kafka, server, kubelet, api_proxy, cluster, name, kubeconfig)
        for topic in made.topics:
            await create_topic(kafka.bootstrap, topic, partitions=2)
        compact = {"cleanup.policy": "compact"}
        await create_topic(kafka.bootstrap, made.state_topic, partitions=SHARDS, config=compact)
        yield made
