"""API to Kafka: the worker, catching up with logs through the real API server, and `kubectl logs`, which prints."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from bench.data import alerts
from bench.file_to_kafka import delete_topics
from bench.measure import Cost, Row, run, table
from bench.site import EVERYTHING_PASSES, Site, Worker, site, until
from tests.testbed.kafka import Kafka

PODS = 20
_READY_SECONDS = 60.0
CONTESTANTS: dict[str, Mapping[str, Any]] = {
    "exactly once to Kafka": EVERYTHING_PASSES,
    "and deduplicate, limit (the default)": {},
}


async def bench(folder: Path, kafka: Kafka, count: int, runs: int) -> str:
    """The table of this benchmark."""
    async with site(folder, kafka, PODS) as at:
        print(f"bench: writing {count:,} alerts to the logs of {PODS} pods", file=sys.stderr)
        share: list[list[str | bytes]] = [[] for _ in at.pods]
        for n, alert in enumerate(alerts(count)):
            share[n % PODS].append(alert)
            if len(share[-1]) == 500:
                for pod, lines in zip(at.pods, share, strict=True):
                    pod.log().lines(lines)
                    lines.clear()
        for pod, lines in zip(at.pods, share, strict=True):
            pod.log().lines(lines)
        names = [(pod.namespace, pod.name) for pod in at.pods]
        floor: list[Cost] = []
        floor_starts: list[Cost] = []
        starts: dict[str, list[Cost]] = {name: [] for name in CONTESTANTS}
        ours: dict[str, list[Cost]] = {name: [] for name in CONTESTANTS}
        for n in range(runs):
            print(f"bench: API to Kafka, run {n + 1} of {runs}", file=sys.stderr)
            if shutil.which("kubectl"):
                floor_starts.append(
                    await asyncio.to_thread(_kubectl, folder, at.kubeconfig, names, "--tail=0")
                )
                floor.append(await asyncio.to_thread(_kubectl, folder, at.kubeconfig, names))
            for name, settings in CONTESTANTS.items():
                starts[name].append(await asyncio.to_thread(_start, at, f"api-{n}-start", settings))
                worker = Worker(at, f"api-{n}-{len(settings)}", settings)
                ours[name].append(
                    await asyncio.to_thread(
                        run, worker.command, worker.log, until=partial(worker.wait_for, "alerts", count)
                    )
                )
                await delete_topics(kafka.bootstrap, f"api-{n}")
    rows = [Row("kubectl logs (Go): prints", count, floor, floor_starts)] if floor else []
    rows += [Row(f"falco-streamer run: {name}", count, costs, starts[name]) for name, costs in ours.items()]
    return table(f"API (TLS) to Kafka: {count:,} alerts from {PODS} pods, catching up, {runs} runs", rows)


def _start(at: Site, name: str, settings: Mapping[str, Any]) -> Cost:
    """What the worker takes until it is ready, in a namespace without pods."""
    started_at = time.monotonic()
    empty = {"kubernetes": {"namespaces": ["default"]}}
    with Worker(at, name, {**settings, **empty}).running() as worker:
        if not until(worker.ready, _READY_SECONDS, every_seconds=0.05):
            raise TimeoutError(f"it is not ready after {_READY_SECONDS:.0f} s: see {worker.log}")
        return Cost(time.monotonic() - started_at, worker.cpu_seconds(), worker.peak_bytes())


def _kubectl(folder: Path, kubeconfig: Path, pods: list[tuple[str, str]], *more: str) -> Cost:
    total = Cost(0, 0, 0)
    started_at = time.monotonic()
    for namespace, pod in pods:
        command = [
            "kubectl",
            f"--kubeconfig={kubeconfig}",
            "logs",
            "--timestamps",
            *more,
            "-n",
            namespace,
            pod,
        ]
        total += run(command, folder / "kubectl.log", stdout=subprocess.DEVNULL)
    return Cost(time.monotonic() - started_at, total.cpu_seconds, total.peak_bytes)


def cores() -> int:
    """How many cores there are."""
    return len(os.sched_getaffinity(0))
