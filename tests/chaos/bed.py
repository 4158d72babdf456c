"""Real servers of one's own for a run of chaos, with proxies between the worker and them."""

from __future__ import annotations

import asyncio
import sys
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import yaml

from tests.chaos.load import SHARDS
from tests.integration.oracle import PRIORITIES
from tests.integration.worker import EVERY_ALERT_PASSES
from tests.testbed.apiserver import KubeApiServer
from tests.testbed.client import KubeApi
from tests.testbed.cluster import FalcoCluster
from tests.testbed.kafka import Kafka
from tests.testbed.kubelet import Kubelet
from tests.testbed.process import Process, free_port
from tests.testbed.proxy import Proxy
from tests.testbed.topics import create_topic

PARTITIONS = 2
STREAM_SECONDS = 4 * 3600.0
"""A kubelet's limit."""
# One line for each request of a log, as soon as it comes in.
_AUDIT = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["ResponseStarted", "ResponseComplete", "Panic"],
    "rules": [
        {"level": "Metadata", "resources": [{"group": "", "resources": ["pods/log"]}]},
        {"level": "None"},
    ],
}


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

    def __init__(self, folder: Path, settings: Mapping[str, Any], program: Sequence[str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        config = folder / "streamer.yaml"
        config.write_text(yaml.safe_dump({**EVERY_ALERT_PASSES, **settings}))
        self.log = folder / "worker.log"
        self.log.touch()
        command = [sys.executable, *program, "run", "--config", str(config)]
        self.process = Process("falco-streamer", command, self.log)

    async def start(self) -> None:
        await asyncio.to_thread(self.process.spawn)

    async def kill(self) -> None:
        await asyncio.to_thread(self.process.kill)

    async def stop(self) -> int:
        """SIGTERM, as soon as it has begun: before that Python itself would end; returns the exit code."""
        if self.process.running:
            begun = partial(self.process.has_said, r"(?m)^\{")
            await asyncio.to_thread(self.process.wait_until, begun, seconds=20)
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

    def heard(self, event: str) -> list[dict[str, Any]]:
        """Every time it logged this."""
        return [each for each in self.events() if each["event"] == event]

    async def until_heard(self, event: str, seconds: float = 20) -> dict[str, Any]:
        """Wait until it has logged this; AssertionError if it does not, or ends before."""
        deadline = time.monotonic() + seconds
        while not (found := self.heard(event)):
            assert self.process.running, self.process.last_words()
            assert time.monotonic() < deadline, f"no {event} in {seconds} s:\n{self.process.last_words()}"
            await asyncio.sleep(0.05)
        return found[0]

    def tracebacks(self) -> int:
        """How often Python, not our log, had the word: nothing should end so."""
        return self.log.read_bytes().count(b"Traceback (most recent call last)")


@dataclass
class Site:
    """One installation: Falco's namespace, topics with names of their own, and how a worker is to be set up."""

    folder: Path
    cluster: FalcoCluster
    kubeconfig: Path
    bootstrap: str
    worker_bootstrap: str
    """Where a worker finds Kafka; the judge goes the direct way."""
    program: Sequence[str] = ("-m", "streamer")
    """What Python runs as the worker: a test may plant a fault."""
    name: str = field(default_factory=lambda: f"chaos-{uuid.uuid4().hex[:8]}")

    @property
    def topics(self) -> list[str]:
        """All that a consumer may read; the judge's names for them, not the worker's."""
        kinds = [f"alerts.{priority}" for priority in PRIORITIES]
        return [f"{self.name}.{kind}" for kind in [*kinds, "summaries", "overflow", "dead-letter", "health"]]

    @property
    def state_topic(self) -> str:
        return f"falco-streamer.{self.name}.state"

    def settings(self) -> dict[str, Any]:
        return {
            "cluster": self.name,
            "kubernetes": {"kubeconfig": str(self.kubeconfig), "namespaces": [self.cluster.namespace]},
            "kafka": {"bootstrap_servers": self.worker_bootstrap.split(","), "shards": SHARDS},
            "topics": {"prefix": self.name, "create": True, "partitions": PARTITIONS},
            "http": {"host": "127.0.0.1", "port": 0},
            "log": {"format": "json"},
        }

    def worker(self, name: str = "worker", /, **changed: Any) -> Worker:
        """A worker, not yet started; `changed` settings by section.

        As a pod has, it has a name of its own that survives a crash, so that it need not wait for itself to be missed.
        """
        settings = self.settings()
        settings["kafka"]["group_instance_id"] = name
        for section, values in changed.items():
            known = settings.get(section)
            settings[section] = known | values if isinstance(known, dict) else values
        return Worker(self.folder / name, settings, self.program)

    async def create_topics(self) -> None:
        """As the worker would; made beforehand, so that there is something to look at from the start."""
        for topic in self.topics:
            await create_topic(self.bootstrap, topic, partitions=PARTITIONS)
        compact = {"cleanup.policy": "compact"}
        await create_topic(self.bootstrap, self.state_topic, partitions=SHARDS, config=compact)


@dataclass(kw_only=True)
class Bed(Site):
    """A site with servers of its own, to be killed, frozen and cut off."""

    kafka: ProxiedKafka
    server: KubeApiServer
    kubelet: Kubelet
    api_proxy: Proxy
    audit_log: Path

    @property
    def kafka_proxy(self) -> Proxy:
        return self.kafka.proxy

    def streams_opened(self) -> Counter[str]:
        """How often a stream of each pod's log was requested, by the API server's own account.

        Checks of streams are not counted: how many there are depends on how long a pod was silent.
        """
        events = map(orjson.loads, self.audit_log.read_bytes().splitlines())
        return Counter(event["objectRef"]["name"] for event in events if "follow=true" in event["requestURI"])


@asynccontextmanager
async def bed(folder: Path, *, stream_seconds: float = STREAM_SECONDS) -> AsyncIterator[Bed]:
    """Start everything but a worker (about 8 s), with empty topics; no log stream lasts longer than said."""
    policy, audit_log = folder / "audit.yaml", folder / "audit.log"
    policy.write_text(yaml.safe_dump(_AUDIT))
    audit = [f"--audit-policy-file={policy}", f"--audit-log-path={audit_log}"]
    async with AsyncExitStack() as stack:
        server, kafka = KubeApiServer(extra_arguments=audit), ProxiedKafka()
        stack.callback(server.close)
        stack.callback(kafka.close)
        kubelet = Kubelet(server.authority, write_timeout_seconds=stream_seconds)
        stack.callback(kubelet.close)
        await asyncio.gather(*(asyncio.to_thread(part.start) for part in (server, kafka, kubelet)))
        api_proxy = await stack.enter_async_context(Proxy(server.port))
        await stack.enter_async_context(kafka.proxy)
        admin = await stack.enter_async_context(KubeApi(server.kubeconfig))
        cluster = await stack.enter_async_context(FalcoCluster(admin, kubelet))
        kubeconfig = folder / "kubeconfig"
        text = server.kubeconfig.read_text()
        kubeconfig.write_text(text.replace(server.url, f"https://127.0.0.1:{api_proxy.port}"))
        made = Bed(
            folder,
            cluster,
            kubeconfig,
            kafka.bootstrap,
            f"127.0.0.1:{kafka.proxy.port}",
            kafka=kafka,
            server=server,
            kubelet=kubelet,
            api_proxy=api_proxy,
            audit_log=audit_log,
        )
        await made.create_topics()
        yield made
