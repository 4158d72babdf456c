"""Every example of the commands' help, typed into a shell, with a real Kafka, API server and kubectl."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import os
import re
import signal
import sys
import time
import uuid
from asyncio.subprocess import PIPE, Process
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import orjson
import pytest
import yaml
from click.testing import CliRunner

from streamer.cli import main
from streamer.simulator import AlertGenerator
from streamer.transform.stamp import to_rfc3339
from tests.testbed.apiserver import KubeApiServer
from tests.testbed.certs import Authority
from tests.testbed.cluster import FalcoCluster
from tests.testbed.kafka import Kafka
from tests.testbed.kubectl import kubectl_of
from tests.testbed.pod import Pod

pytestmark = pytest.mark.real

SECONDS = 60.0
POD = "falco-x7k2p"
ALERTS = 25
"""More than the ten lines that kubectl prints of a pod if it is not asked for all."""
# What does not end by itself, and what it says once it works.
GOES_ON = {
    "run": b"lines_committed",
    "view": b"The alerts are at http",
    "demo": b"falco/falco-",
    "simulate": b"kubeconfig: ",
    "follow": b'"rule":',
}
OURS = str(Path(sys.executable).parent)
SHELL = """
fpath=(. zsh)
mkdir -p zsh ~/.config/fish/completions
kubectl() {
  case " $* " in
    *" exec "*) while [ "$1" != -- ]; do shift; done; shift; "$@" --config streamer.yaml ;;
    *" apply "*) cat > applied.yaml ;;
    *" --kubeconfig "*) "$KUBECTL" "$@" ;;
    *) "$KUBECTL" --kubeconfig "$HOME/.kube/config" "$@" ;;
  esac
}
"""
"""The cluster has no deployment, whose pods have the configuration in its usual place, and Kafka no ACLs."""


def commands(command: click.Command, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield above
    if isinstance(command, click.Group):
        for name, one in command.commands.items():
            yield from commands(one, (*above, name))


def examples() -> list[tuple[str, ...]]:
    """Each command's examples; those of a group are mostly those of its commands."""
    found: dict[tuple[str, ...], None] = {}
    for path in commands(main):
        shown = CliRunner().invoke(main, [*path, "--help"]).stdout
        lines = tuple(line.strip() for line in shown.partition("Examples:\n")[2].splitlines() if line.strip())
        if path == ("simulate",):
            found[lines] = None  # the second needs what the first serves
        else:
            found |= {(line,): None for line in lines}
    return list(found)


@dataclass
class Desk:
    """A folder with what the examples name, and a name of its own on the servers."""

    folder: Path
    name: str
    environ: dict[str, str]
    replaced: dict[str, str]
    rule: bytes
    """That of most alerts in the pod's log."""

    def typed(self, example: str) -> str:
        for word, ours in self.replaced.items():
            example = example.replace(word, ours)
        return example

    @contextlib.asynccontextmanager
    async def types(self, command: str) -> AsyncIterator[Process]:
        process = await asyncio.create_subprocess_exec(
            "bash", "-c", f"{SHELL}\nset -euo pipefail\n{command}",
            cwd=self.folder, env=self.environ, stdin=PIPE, stdout=PIPE, stderr=PIPE, start_new_session=True,
        )  # fmt: skip
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()

    async def runs(self, command: str) -> tuple[bytes, bytes]:
        """Run it to its end, and answer whatever it asks."""
        async with asyncio.timeout(SECONDS), self.types(command) as process:
            said = await process.communicate(b"y\n")
        assert process.returncode == 0, f"{command}\n{said[1].decode()}"
        return said

    @contextlib.asynccontextmanager
    async def works(self, command: str, word: bytes) -> AsyncIterator[None]:
        """Until it says a word, and then as long as the block; Ctrl-C ends it."""
        async with asyncio.timeout(SECONDS), self.types(f"{command} 2>&1") as process:
            assert process.stdout is not None
            said = b""
            while word not in said:
                line = await process.stdout.readline()
                assert line, f"it ended without {word!r}: {command}\n{said.decode()}"
                said += line
            yield
            os.killpg(process.pid, signal.SIGINT)
            await process.communicate()


@pytest.fixture
async def pod(cluster: FalcoCluster) -> Pod:
    pod = await cluster.add_pod(POD)
    generator = AlertGenerator(5, sources=("syscall",))
    for _ in range(ALERTS):
        pod.log().line(generator.alert(time.time_ns(), "node-1"))
    return pod


@pytest.fixture
def desk(pod: Pod, kafka: Kafka, api_server: KubeApiServer, tmp_path: Path) -> Desk:
    name = f"example-{uuid.uuid4().hex[:8]}"
    given: dict[str, Any] = {
        "cluster": name,
        "kafka": {"bootstrap_servers": [kafka.bootstrap]},
        "kubernetes": {"namespaces": [pod.namespace]},
        "topics": {"create": True, "prefix": name},
        "limits": {"enabled": False},
    }
    (tmp_path / "streamer.yaml").write_text(yaml.safe_dump(given))
    (tmp_path / "filters.yaml").write_text(
        "filters: [{name: x, action: drop, match: ['rule = \"x\"'], reason: y}]\n"
    )
    content = pod.log().path.read_bytes()
    alerts = [line.partition(b" F ")[2] for line in content.splitlines()]
    printed = b"".join(alert + b"\n" for alert in alerts)
    (tmp_path / "falco.log").write_bytes(printed)
    (tmp_path / "alerts-2026-11-20.json.gz").write_bytes(gzip.compress(printed))
    logs = tmp_path / "var/log/pods" / f"{pod.namespace}_{pod.name}_{pod.uid}" / "falco"
    logs.mkdir(parents=True)
    (logs / "0.log").write_bytes(content)
    target = {"namespace": pod.namespace, "pod": pod.name, "uid": pod.uid, "container": "falco", "node": "n"}
    gap = {"health": "gap", "cluster": name, "target": target, "from": None, "to": to_rfc3339(time.time_ns())}
    (tmp_path / "gaps.jsonl").write_bytes(orjson.dumps(gap))
    acls = tmp_path / "kafka-acls.sh"
    acls.write_text('#!/bin/sh\necho "$@" >> acls.txt\n')
    acls.chmod(0o755)
    (tmp_path / ".kube").mkdir()
    (tmp_path / ".kube" / "config").write_bytes(api_server.kubeconfig.read_bytes())
    environ = {key: value for key, value in os.environ.items() if not key.startswith("FALCO_STREAMER__")} | {
        "HOME": str(tmp_path),
        "KUBECTL": str(kubectl_of(api_server, tmp_path).program),
        "PATH": f"{OURS}:{tmp_path}:{os.environ['PATH']}",
        "FALCO_STREAMER__HTTP__PORT": "0",
        "FALCO_STREAMER__TOPICS__PREFIX": name,
        "FALCO_STREAMER__KUBERNETES__NAMESPACES": pod.namespace,
        "FALCO_STREAMER__KUBERNETES__KUBECONFIG": str(tmp_path / ".kube" / "config"),
        "COLUMNS": "200",
    }
    replaced = {
        "localhost:9092": kafka.bootstrap,
        "cluster=dev": f"cluster={name}",
        "kubectl logs -n falco": f"kubectl logs -n {pod.namespace}",
        "falco/falco-x7": f"{pod.namespace}/falco-x7",
        "/var/log/pods/falco_": f"{tmp_path}/var/log/pods/{pod.namespace}_",
        "replication_factor=3": "replication_factor=1",  # as many brokers as there are here
        "falco-streamer.prod.": f"falco-streamer.{name}.",
        "doctor --set": "doctor --set topics.create=true --set",  # as its worker has it
        "prod-eu-1": name,
    }  # fmt: skip
    (tmp_path / "token").write_text("a token of some length")
    pair = Authority(tmp_path / "authority").server("viewer")
    (tmp_path / "tls.crt").write_bytes(pair.public.read_bytes())
    (tmp_path / "tls.key").write_bytes(pair.key.read_bytes())
    [(rule, _)] = Counter(orjson.loads(alert)["rule"] for alert in alerts).most_common(1)
    return Desk(tmp_path, name, environ, replaced, rule.encode())


async def prepare(desk: Desk, example: str) -> None:
    """Do what people have done before they come to this example."""
    command = " ".join(re.findall(r"falco-streamer (\w+(?: \w+)?)", example)[:1])
    if (
        command.startswith(("state", "tap", "view", "topics list", "topics verify", "doctor"))
        or "exec" in example
    ):
        async with desk.works("falco-streamer run --config streamer.yaml", GOES_ON["run"]):
            pass
    if "replay --to kafka" in example:
        await desk.runs("falco-streamer topics create --config streamer.yaml")
    if "--file state.jsonl" in example:
        await desk.runs("falco-streamer state export --config streamer.yaml > state.jsonl")


@pytest.mark.parametrize("example", examples(), ids=lambda lines: lines[0][:60])
async def test_an_example_does_what_it_is_for(example: tuple[str, ...], desk: Desk) -> None:
    line, *then = map(desk.typed, example)
    await prepare(desk, line)
    if then:  # simulate, and kubectl
        (follow,) = then
        # The simulation speaks plain HTTP.
        async with desk.works(line, GOES_ON["simulate"]), desk.works(follow, GOES_ON["follow"]):
            return
    words = line.split()
    kind = words[1] if words[0] == "falco-streamer" else ""
    if kind in {"run", "tap", "view", "demo"} and not {"--no-follow", "--seconds"} & {*words}:
        if kind == "tap" and {"--namespace", "--where", "--template"} & {*words}:
            # No alert of these is in the example's cluster, or arrives from now on.
            async with desk.types(line) as process:
                await asyncio.wait([asyncio.create_task(process.wait())], timeout=3)
                assert process.returncode is None
            return
        async with desk.works(line, desk.rule if kind == "tap" else GOES_ON[kind]):
            return
    out, err = await desk.runs(line)
    if line.endswith("| sh"):
        assert "--allow-principal User:falco-streamer" in (desk.folder / "acls.txt").read_text()
    if line.startswith("kubectl logs") or kind == "replay":
        assert orjson.loads(err.splitlines()[-1])["alerts"] == ALERTS
    elif "jq -r .version" in line:
        assert re.fullmatch(rb"[\d.]+\S*\n", out)
