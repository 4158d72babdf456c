"""Real parts for a benchmark: an API server, a log endpoint, a broker, pods, and the worker as a process of its own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson
import yaml

from tests.testbed.apiserver import KubeApiServer
from tests.testbed.client import KubeApi
from tests.testbed.cluster import FalcoCluster
from tests.testbed.kafka import Kafka
from tests.testbed.kubelet import Kubelet
from tests.testbed.pod import Pod
from tests.testbed.process import free_port

EVERYTHING_PASSES: Final[Mapping[str, Any]] = {"dedupe": {"enabled": False}, "limits": {"enabled": False}}
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_START_SECONDS: Final = 600.0


@dataclass(frozen=True)
class Site:
    """A cluster with Falco pods, and a broker."""

    kubeconfig: Path
    kafka: Kafka
    cluster: FalcoCluster
    pods: list[Pod]
    folder: Path


@contextlib.asynccontextmanager
async def site(folder: Path, kafka: Kafka, pods: int) -> AsyncIterator[Site]:
    """So many pods that have logged nothing yet."""
    with KubeApiServer() as server, Kubelet(server.authority) as kubelet:
        async with KubeApi(server.kubeconfig) as api, FalcoCluster(api, kubelet) as cluster:
            print(f"bench: {pods:,} pods", file=sys.stderr)
            added = [await cluster.add_pod(f"falco-{n}") for n in range(pods)]
            yield Site(server.kubeconfig, kafka, cluster, added, folder)


class Worker:
    """`falco-streamer run` as a process."""

    def __init__(self, at: Site, name: str, more: Mapping[str, Any]) -> None:
        self._port = free_port()
        config = at.folder / f"{name}.yaml"
        self.log = at.folder / f"{name}.log"
        settings = {
            "cluster": name,
            "kubernetes": {"kubeconfig": str(at.kubeconfig)},
            "kafka": {"bootstrap_servers": [at.kafka.bootstrap]},
            "topics": {"prefix": name, "create": True},
            "http": {"host": "127.0.0.1", "port": self._port},
            **more,
        }
        config.write_text(yaml.safe_dump(settings))
        self.command = [sys.executable, "-m", "streamer", "run", "--config", str(config)]
        self._process: subprocess.Popen[bytes] | None = None

    @contextlib.contextmanager
    def running(self) -> Iterator[Worker]:
        """Until the end of the context; RuntimeError if the worker does not end well."""
        with self.log.open("ab") as log:
            self._process = process = subprocess.Popen(self.command, stdout=log, stderr=log)
            try:
                yield self
                process.terminate()
                if process.wait(60):
                    raise RuntimeError(f"the worker failed: {self.log.read_text()[-2000:]}")
            finally:
                process.kill()
                process.wait()

    def ledger(self) -> dict[str, int]:
        """The committed ledger; empty while the worker does not answer yet."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/ledger", timeout=5) as answer:
                return dict(orjson.loads(answer.read()))
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return {}

    def wait_for(self, counter: str, count: int) -> None:
        """Wait until a counter of the ledger has reached this; TimeoutError after ten minutes."""
        end = time.monotonic() + _START_SECONDS
        while self.ledger().get(counter, -1) < count:
            if time.monotonic() > end:
                raise TimeoutError(f"{counter} is not {count}: {self.ledger()}; see {self.log}")
            time.sleep(0.1)

    def cpu_seconds(self) -> float:
        """User and system time so far."""
        assert self._process is not None
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def resident_bytes(self) -> int:
        """What of the process is in memory now."""
        assert self._process is not None
        return int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1]) * os.sysconf(
            "SC_PAGE_SIZE"
        )
