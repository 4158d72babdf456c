"""What README.md has people type on a laptop, typed: alerts flow with a kubeconfig and a broker and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import sys
import time
import uuid
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest

from streamer.simulator import AlertGenerator
from tests.testbed.apiserver import KubeApiServer
from tests.testbed.cluster import FalcoCluster
from tests.testbed.kafka import Kafka

pytestmark = pytest.mark.real

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
SECONDS = 60.0


def typed(command: str) -> str:
    """The one line of README's console blocks that calls this command, joined where it goes over several."""
    lines = [
        line.removeprefix("$ ").strip()
        for block in re.findall(r"```console\n(.*?)```", README, re.DOTALL)
        for line in block.replace("\\\n", "").splitlines()
    ]
    [found] = [str(line) for line in lines if line.startswith(f".venv/bin/falco-streamer {command} ")]
    return found


class Laptop:
    """A home with the usual kubeconfig; a name of its own on the broker that other tests use, too."""

    def __init__(self, home: Path, server: KubeApiServer, cluster: FalcoCluster, kafka: Kafka) -> None:
        (home / ".kube").mkdir()
        shutil.copy(server.kubeconfig, home / ".kube" / "config")
        self.name = f"laptop-{uuid.uuid4().hex[:8]}"
        self._broker = kafka.bootstrap
        self._environ = os.environ | {
            "HOME": str(home),
            "FALCO_STREAMER__KUBERNETES__NAMESPACES": cluster.namespace,
            "FALCO_STREAMER__TOPICS__PREFIX": self.name,
            "FALCO_STREAMER__HTTP__PORT": "0",
            "FALCO_STREAMER__LOG__FORMAT": "json",
        }

    @contextlib.asynccontextmanager
    async def types(self, command: str) -> AsyncIterator[Process]:
        line = command.replace("localhost:9092", self._broker).replace("cluster=dev", f"cluster={self.name}")
        assert line != command
        line = line.replace(".venv/bin/falco-streamer", str(Path(sys.executable).with_name("falco-streamer")))
        process = await asyncio.create_subprocess_shell(
            f"exec {line}", stdout=PIPE, stderr=PIPE, env=self._environ
        )
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


async def until(stream: asyncio.StreamReader | None, word: bytes) -> bytes:
    """The first line with a word in it."""
    assert stream is not None
    while word not in (line := await stream.readline()):
        assert line, f"it ended without {word!r}"
    return line


async def test_alerts_flow_with_what_the_readme_has_people_type(
    kafka: Kafka, api_server: KubeApiServer, cluster: FalcoCluster, tmp_path: Path
) -> None:
    laptop = Laptop(tmp_path, api_server, cluster, kafka)
    pod = await cluster.add_pod("falco-a")
    generator = AlertGenerator(7, sources=("syscall",))
    alert = generator.alert(time.time_ns(), "node-1")
    pod.log().line(alert)
    async with asyncio.timeout(SECONDS), laptop.types(typed("run")) as worker:
        committed = orjson.loads(await until(worker.stderr, b"lines_committed"))
        assert (committed["lines"], committed["published"], committed["following"]) == (1, 1, 1)
        async with laptop.types(typed("tap")) as tap:
            shown = await until(tap.stdout, orjson.loads(alert)["rule"].encode())
            assert orjson.loads(alert)["output_fields"]["k8s.pod.name"] in shown.decode()
            later = generator.alert(time.time_ns(), "node-1")
            pod.log().line(later)
            await until(tap.stdout, orjson.loads(later)["rule"].encode())
        async with laptop.types(typed("doctor")) as doctor:
            found, said = await doctor.communicate()
            assert (doctor.returncode, said) == (0, b"Nothing is wrong.\n"), found.decode()
        worker.send_signal(signal.SIGINT)
        assert await worker.wait() == 0
