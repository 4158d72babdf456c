"""What an open stream costs that brings nothing: memory and CPU of the worker with thousands of them, over TLS."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench.file_to_kafka import delete_topics
from bench.site import Worker, allow_streams, site
from streamer.simulator import AlertGenerator
from tests.testbed.kafka import Kafka

COUNTS: Final = (1_000, 5_000)
_SETTLE_SECONDS: Final = 15.0
_IDLE_SECONDS: Final = 60.0


async def bench(folder: Path, kafka: Kafka, counts: Sequence[int] = COUNTS) -> str:
    """The table of this benchmark."""
    allow_streams(max(counts))
    lines = [
        f"### Idle streams, over TLS, for {_IDLE_SECONDS:.0f} s",
        "",
        "| streams | worker's memory | a stream, beyond the worker alone | CPU | requests/s | all open after |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    base = 0
    for count in (0, *counts):
        resident, share, asked, opened = await _measure(folder, kafka, count)
        base = base or resident
        each = f"{(resident - base) / count / 1024:.0f} KiB" if count else ""
        lines.append(
            f"| {count:,} | {resident / 2**20:.0f} MiB | {each} | {share:.1%} | {asked:.1f} | {opened:.1f} s |"
        )
    return "\n".join(lines) + "\n"


async def _measure(folder: Path, kafka: Kafka, count: int) -> tuple[int, float, float, float]:
    name = f"streams-{count}"
    async with site(folder, kafka, count) as at:
        generator = AlertGenerator(4)
        for pod in at.pods:
            pod.log().lines([generator.alert(time.time_ns(), "node")])
        began = time.monotonic()
        with Worker(at, name, {}).running() as worker:
            await asyncio.to_thread(worker.wait_for, "lines", count)
            opened = time.monotonic() - began
            await asyncio.sleep(_SETTLE_SECONDS)
            before, asked = worker.cpu_seconds(), at.requests()
            await asyncio.sleep(_IDLE_SECONDS)
            share = (worker.cpu_seconds() - before) / _IDLE_SECONDS
            requests = (at.requests() - asked).total() / _IDLE_SECONDS
            resident = worker.resident_bytes()
    await delete_topics(kafka.bootstrap, name)
    return resident, share, requests, opened
