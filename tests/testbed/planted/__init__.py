"""Faults that people have in their set-ups, each planted into one that works, on real parts.

A fault changes a `Setup`: its kubeconfig, its settings, its pods, its topics. `cause` is what `doctor` says of it, and
`run` within seconds.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from streamer.config import Settings
from streamer.simulator import AlertGenerator
from tests.testbed.apiserver import KubeApiServer
from tests.testbed.client import KubeApi
from tests.testbed.cluster import FalcoCluster
from tests.testbed.identity_provider import IdentityProvider
from tests.testbed.kafka import Kafka
from tests.testbed.kubelet import Kubelet
from tests.testbed.pod import Pod
from tests.testbed.secure_kafka import SecureKafka

SECOND_NS = 1_000_000_000
_GENERATOR = AlertGenerator(5, sources=("syscall",))


@dataclass(frozen=True)
class Servers:
    """What all set-ups share."""

    api_server: KubeApiServer
    api: KubeApi
    kubelet: Kubelet
    kafka: Kafka
    secure: SecureKafka
    identity: IdentityProvider
    falco: FalcoCluster
    """With one pod whose alerts can be published."""


@dataclass
class Setup:
    """All that a worker needs, and in which it publishes, until a fault is planted."""

    servers: Servers
    stack: AsyncExitStack
    """Ends whatever a fault has started."""
    folder: Path
    shared_topics: str
    """The prefix of topics in which nobody looks."""
    server: dict[str, Any] = field(default_factory=dict)
    """The kubeconfig's section about the API server."""
    user: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.name = f"planted-{uuid.uuid4().hex[:8]}"
        self.folder.mkdir(parents=True, exist_ok=True)
        admin = yaml.safe_load(self.servers.api_server.kubeconfig.read_text())
        self.server, self.user = admin["clusters"][0]["cluster"], admin["users"][0]["user"]
        self.settings = {
            "cluster": self.name,
            "kubernetes": {
                "kubeconfig": str(self.folder / "kubeconfig"),
                "namespaces": [self.servers.falco.namespace],
                "max_line_bytes": 700_000,
            },
            "kafka": {"bootstrap_servers": [self.servers.kafka.bootstrap], "shards": 2},
            "topics": {"prefix": self.shared_topics, "create": True},
            "http": {"host": "127.0.0.1", "port": 0},
        }

    @property
    def kubernetes(self) -> dict[str, Any]:
        return self.part("kubernetes")

    @property
    def kafka(self) -> dict[str, Any]:
        return self.part("kafka")

    @property
    def topics(self) -> dict[str, Any]:
        return self.part("topics")

    def part(self, name: str) -> dict[str, Any]:
        """A section of the settings, to be changed."""
        found: dict[str, Any] = self.settings.setdefault(name, {})
        return found

    def own_topics(self) -> None:
        """For a fault in a topic, and for whoever reads them."""
        self.topics["prefix"] = self.name

    async def own_falco(self) -> FalcoCluster:
        """A namespace without pods in place of the one that all share."""
        made = await self.stack.enter_async_context(FalcoCluster(self.servers.api, self.servers.kubelet))
        self.kubernetes["namespaces"] = [made.namespace]
        return made

    def write(self) -> Settings:
        """Write the kubeconfig; the settings, as the commands load them."""
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": self.server}],
            "users": [{"name": "u", "user": self.user}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "c",
        }
        (self.folder / "kubeconfig").write_text(yaml.safe_dump(config))
        return Settings.model_validate(self.settings)


Plant = Callable[[Setup], Awaitable[None]]


@dataclass(frozen=True)
class Fault:
    """One that keeps `run` from publishing alerts, now or at its next start."""

    plant: Plant
    name: str
    cause: str
    """What `doctor` says."""
    run: str
    """What `run` says; "" where it publishes for now."""


class Table(list[Fault]):
    """The faults of one kind."""

    def fault(self, cause: str, *, run: str | None = None) -> Callable[[Plant], Plant]:
        """Have a function in the table."""

        def add(plant: Plant) -> Plant:
            self.append(Fault(plant, plant.__name__, cause, cause if run is None else run))
            return plant

        return add

    def add(self, name: str, plant: Plant, cause: str, *, run: str | None = None) -> None:
        """One of several that are alike."""
        self.append(Fault(plant, name, cause, cause if run is None else run))


def alert(at_ns: int) -> bytes:
    """An alert of that time."""
    return _GENERATOR.alert(at_ns, "node-1")


def print_alerts(pod: Pod, count: int = 10, name: str | None = None) -> None:
    """Let a pod print alerts as Falco does: as JSON, and at once."""
    now = time.time_ns()
    for n in range(count):
        at = now - (count - n) * SECOND_NS
        pod.log(name).line(alert(at), at=at + 3_000_000)
