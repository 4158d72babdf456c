"""API to Kafka: the worker, catching up with logs through the real API server, beside `kubectl logs`, which prints."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import orjson
import yaml

from bench.data import alerts
from bench.file_to_kafka import delete_topics
from bench.measure import Cost, Row, run, table
from tests.testbed.apiserver import KubeApiServer
from tests.testbed.client import KubeApi
from tests.testbed.cluster import FalcoCluster
from tests.testbed.kafka import Kafka
from tests.testbed.kubelet import Kubelet
from tests.testbed.process import free_port

PODS = 20
CONTESTANTS: dict[str, dict[str, object]] = {
    "exactly once to Kafka": {"dedupe": {"enabled": False}, "limits": {"enabled": False}},
    "and deduplicate, limit (the default)": {},
}


async def bench(folder: Path, kafka: Kafka, count: int, runs: int) -> str:
    """The table of this benchmark."""
    with KubeApiServer() as server, Kubelet(server.authority) as kubelet:
        async with KubeApi(server.kubeconfig) as api, FalcoCluster(api, kubelet) as cluster:
            pods = [await cluster.add_pod(f"falco-{n}") for n in range(PODS)]
            print(f"bench: writing {count:,} alerts to the logs of {PODS} pods", file=sys.stderr)
            share: list[list[str | bytes]] = [[] for _ in pods]
            for n, alert in enumerate(alerts(count)):
                share[n % PODS].append(alert)
                if len(share[-1]) == 500:
                    for pod, lines in zip(pods, share, strict=True):
                        pod.log().lines(lines)
                        lines.clear()
            for pod, lines in zip(pods, share, strict=True):
                pod.log().lines(lines)
            names = [(pod.namespace, pod.name) for pod in pods]
            floor: list[Cost] = []
            ours: dict[str, list[Cost]] = {name: [] for name in CONTESTANTS}
            for n in range(runs):
                print(f"bench: API to Kafka, run {n + 1} of {runs}", file=sys.stderr)
                if shutil.which("kubectl"):
                    floor.append(await asyncio.to_thread(_kubectl, folder, server.kubeconfig, names))
                for name, settings in CONTESTANTS.items():
                    ours[name].append(
                        await asyncio.to_thread(
                            _worker,
                            folder,
                            server.kubeconfig,
                            kafka,
                            f"api-{n}-{len(settings)}",
                            count,
                            settings,
                        )
                    )
                    await delete_topics(kafka.bootstrap, f"api-{n}")
    rows = [Row("kubectl logs (Go): prints", count, floor)] if floor else []
    rows += [Row(f"falco-streamer run: {name}", count, costs) for name, costs in ours.items()]
    return table(f"API (TLS) to Kafka: {count:,} alerts from {PODS} pods, catching up, {runs} runs", rows)


def _kubectl(folder: Path, kubeconfig: Path, pods: list[tuple[str, str]]) -> Cost:
    total = Cost(0, 0, 0)
    started_at = time.monotonic()
    for namespace, pod in pods:
        command = ["kubectl", f"--kubeconfig={kubeconfig}", "logs", "--timestamps", "-n", namespace, pod]
        total += run(command, folder / "kubectl.log", stdout=subprocess.DEVNULL)
    return Cost(time.monotonic() - started_at, total.cpu_seconds, total.peak_bytes)


def _worker(
    folder: Path, kubeconfig: Path, kafka: Kafka, name: str, count: int, more: dict[str, object]
) -> Cost:
    port = free_port()
    config = folder / f"{name}.yaml"
    settings = {
        "cluster": name,
        "kubernetes": {"kubeconfig": str(kubeconfig)},
        "kafka": {"bootstrap_servers": [kafka.bootstrap]},
        "topics": {"prefix": name, "create": True},
        "http": {"host": "127.0.0.1", "port": port},
        **more,
    }
    config.write_text(yaml.safe_dump(settings))

    def caught_up() -> None:
        while _settled(port) < count:
            time.sleep(0.1)

    command = [sys.executable, "-m", "streamer", "run", "--config", str(config)]
    return run(command, folder / "worker.log", until=caught_up)


def _settled(port: int) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/ledger", timeout=5) as answer:
            return int(orjson.loads(answer.read())["alerts"])
    except (urllib.error.URLError, ConnectionError):
        return 0  # not listening yet


def cores() -> int:
    """How many cores there are."""
    return len(os.sched_getaffinity(0))
