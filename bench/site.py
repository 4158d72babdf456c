"""Real parts for a benchmark: an API server, a log endpoint, a broker, pods, and the worker as a process of its own."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson
import yaml

from bench.measure import environment
from tests.testbed.apiserver import KubeApiServer
from tests.testbed.client import KubeApi
from tests.testbed.cluster import FalcoCluster
from tests.testbed.kafka import Kafka
from tests.testbed.kubelet import Kubelet
from tests.testbed.pod import Pod
from tests.testbed.process import free_port
from tests.testbed.proxy import Proxy

EVERYTHING_PASSES: Final[Mapping[str, Any]] = {"dedupe": {"enabled": False}, "limits": {"enabled": False}}
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_START_SECONDS: Final = 600.0
_STOP_SECONDS: Final = 60.0
_INOTIFY: Final = Path("/proc/sys/fs/inotify/max_user_instances")
# One line for each of the worker's requests, as soon as it comes in.
_AUDIT: Final = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["ResponseStarted", "ResponseComplete", "Panic"],
    "rules": [
        {
            "level": "Metadata",
            "verbs": ["get", "list", "watch"],
            "resources": [{"group": "", "resources": ["pods", "pods/log"]}],
        },
        {"level": "None"},
    ],
}


@dataclass(frozen=True)
class Reach:
    """What a worker has to reach: an API server, by a kubeconfig, and a broker."""

    folder: Path
    kafka: Kafka
    kubeconfig: Path
    url: str

    def through(self, proxy: Proxy) -> Path:
        """A kubeconfig that leads to the API server through a proxy."""
        path = self.folder / f"kubeconfig-{proxy.port}"
        scheme = self.url.partition(":")[0]
        path.write_text(self.kubeconfig.read_text().replace(self.url, f"{scheme}://127.0.0.1:{proxy.port}"))
        return path


@dataclass(frozen=True)
class Site(Reach):
    """A real cluster with Falco pods, and a broker."""

    server: KubeApiServer
    cluster: FalcoCluster
    pods: list[Pod]
    audit: Path

    def requests(self) -> Counter[str]:
        """How many requests for pods came in, by verb and resource; the bench itself reads none."""
        events = map(orjson.loads, self.audit.read_bytes().splitlines())
        return Counter(
            "/".join(filter(None, (one["verb"], one["objectRef"].get("subresource")))) for one in events
        )


@contextlib.asynccontextmanager
async def site(folder: Path, kafka: Kafka, pods: int) -> AsyncIterator[Site]:
    """So many pods, each on a node of its own, that have logged nothing yet."""
    policy, audit = folder / "audit.yaml", folder / f"audit-{time.monotonic_ns()}.log"
    policy.write_text(yaml.safe_dump(_AUDIT))
    audit.touch()
    arguments = [f"--audit-policy-file={policy}", f"--audit-log-path={audit}"]
    with KubeApiServer(extra_arguments=arguments) as server, Kubelet(server.authority) as kubelet:
        async with KubeApi(server.kubeconfig) as api, FalcoCluster(api, kubelet) as cluster:
            print(f"bench: {pods:,} pods", file=sys.stderr)
            added = [await add_pod(cluster, f"falco-{n}") for n in range(pods)]
            yield Site(folder, kafka, server.kubeconfig, server.url, server, cluster, added, audit)


async def add_pod(cluster: FalcoCluster, name: str, *, kubelet: Kubelet | None = None) -> Pod:
    """A pod on a node of its own, as those of a DaemonSet are."""
    node = f"{cluster.namespace}-{name}"
    await cluster.add_node(node, kubelet=kubelet)
    return await cluster.add_pod(name, node=node)


def allow_streams(count: int) -> None:
    """Each stream holds connections and files in API server and log endpoint, and a watch of the kernel's."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, hard), hard))
    needed = 2 * count
    if int(_INOTIFY.read_text()) < needed:
        try:
            _INOTIFY.write_text(str(needed))
        except PermissionError as error:
            raise RuntimeError(
                f"this needs root, or: sysctl fs.inotify.max_user_instances={needed}"
            ) from error


class Worker:
    """`falco-streamer run` as a process, with what can be asked of it while it runs."""

    def __init__(
        self, at: Reach, name: str, more: Mapping[str, Any], *, kubeconfig: Path | None = None
    ) -> None:
        """`more` are further settings; a section of them is added to ours, the rest replaces it."""
        self._port = free_port()
        config = at.folder / f"{name}.yaml"
        self.log = at.folder / f"{name}.log"
        settings: dict[str, Any] = {
            "cluster": name,
            "kubernetes": {"kubeconfig": str(kubeconfig or at.kubeconfig)},
            "kafka": {"bootstrap_servers": [at.kafka.bootstrap]},
            "topics": {"prefix": name, "create": True},
            "http": {"host": "127.0.0.1", "port": self._port},
        }
        for section, values in more.items():
            settings[section] = settings.get(section, {}) | values
        config.write_text(yaml.safe_dump(settings))
        self.command = [sys.executable, "-m", "streamer", "run", "--config", str(config)]
        self._process: subprocess.Popen[bytes] | None = None

    @contextlib.contextmanager
    def running(self) -> Iterator[Worker]:
        """Until the end of the context. That it does not end well then is said, and costs no figures."""
        with self.log.open("ab") as log:
            self._process = process = subprocess.Popen(
                self.command, stdout=log, stderr=log, env=environment()
            )
            try:
                yield self
                process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_STOP_SECONDS)
                if process.returncode != 0:
                    print(f"bench: the worker did not end well: {process.returncode}", file=sys.stderr)
            finally:
                process.kill()
                process.wait()

    def ledger(self) -> dict[str, int]:
        """The committed ledger; empty while the worker does not answer."""
        return dict(self._ask("ledger"))

    def status(self) -> dict[str, Any]:
        """How it stands; empty while it does not answer."""
        return self._ask("status")

    def following(self) -> int:
        """How many targets it follows: aligned, with a stream open."""
        return sum(target["state"] == "following" for target in self.status().get("targets", ()))

    def ready(self) -> bool:
        """Whether nothing that it needs is missing."""
        checks = self.status().get("checks", ())
        return bool(checks) and not any(check["why"] for check in checks if check["needed"])

    def wait_for(self, counter: str, count: int) -> None:
        """Wait until a counter of the ledger has reached this; TimeoutError after ten minutes."""
        if not until(lambda: self.ledger().get(counter, -1) >= count, _START_SECONDS):
            raise TimeoutError(f"{counter} is not {count}: {self.ledger()}; see {self.log}")

    def cpu_seconds(self) -> float:
        """User and system time so far."""
        fields = self._proc("stat").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def resident_bytes(self) -> int:
        """What of the process is in memory now."""
        return int(self._proc("statm").split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def peak_bytes(self) -> int:
        """The most that was in memory since its start."""
        line = next(line for line in self._proc("status").splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024

    def _proc(self, name: str) -> str:
        assert self._process is not None
        return Path(f"/proc/{self._process.pid}/{name}").read_text()

    def _ask(self, page: str) -> dict[str, Any]:
        if self._process is not None and self._process.poll() is not None:
            raise RuntimeError(f"the worker has ended: {self.log.read_text()[-2000:]}")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/{page}", timeout=10) as answer:
                return dict(orjson.loads(answer.read()))
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return {}


def until(condition: Callable[[], bool], seconds: float, *, every_seconds: float = 0.1) -> bool:
    """Wait until a condition holds; False if it does not in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(every_seconds)
    return True
