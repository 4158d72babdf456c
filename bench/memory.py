"""What a worker needs at its worst: many logs far behind at once, and many busy pods while Kafka is down."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiokafka

from bench.file_to_kafka import delete_topics
from bench.latency import LEVELS
from bench.site import EVERYTHING_PASSES, Worker, allow_streams, site, until
from bench.writing import write
from tests.testbed.kafka import Kafka

_LINES_PER_SECOND: Final = 2_000
"""What a worker is allowed to be slow at."""
_SETTLE_SECONDS: Final = 30.0
_BACK_SECONDS: Final = 120.0


@dataclass(frozen=True)
class Sizes:
    """How many pods, and how many lines of each."""

    behind_pods: int = 250
    behind_lines: int = 1_200
    busy_pods: int = 1_000
    busy_lines: int = 700


async def bench(folder: Path, kafka: Kafka, sizes: Sizes) -> str:
    """The table of this benchmark; it stops the broker and starts it again."""
    lines = [
        "### Memory",
        "",
        "| | peak | all committed after | lines committed | alerts in the topics, all different |",
        "|---|---:|---:|---:|---:|",
        await _behind(folder, kafka, sizes.behind_pods, sizes.behind_lines),
        await _kafka_down(folder, kafka, sizes.busy_pods, sizes.busy_lines),
    ]
    return "\n".join(lines) + "\n"


async def _behind(folder: Path, kafka: Kafka, pods: int, lines: int) -> str:
    """Restart with so many logs that have gone on for so many lines."""
    allow_streams(pods)
    async with site(folder, kafka, pods) as at:
        write(at.pods, 1)
        with Worker(at, "behind", EVERYTHING_PASSES).running() as worker:
            await asyncio.to_thread(worker.wait_for, "lines", pods)
        await asyncio.to_thread(write, at.pods, lines)
        with Worker(at, "behind", EVERYTHING_PASSES).running() as worker:
            cells = await _exact(worker, kafka, "behind", pods * (lines + 1), time.monotonic())
    await delete_topics(kafka.bootstrap, "behind")
    return f"| {pods:,} pods, each {lines:,} lines behind | {cells} |"


async def _kafka_down(folder: Path, kafka: Kafka, pods: int, lines: int) -> str:
    """The broker is stopped while so many pods are followed, and each prints so many lines."""
    allow_streams(pods)
    async with site(folder, kafka, pods) as at:
        write(at.pods, 1)
        with Worker(at, "down", EVERYTHING_PASSES).running() as worker:
            await asyncio.to_thread(worker.wait_for, "lines", pods)
            await asyncio.to_thread(kafka.stop)
            await asyncio.to_thread(write, at.pods, lines)
            await asyncio.sleep(_SETTLE_SECONDS)
            down_bytes = worker.peak_bytes()
            await asyncio.to_thread(kafka.start)
            cells = await _exact(worker, kafka, "down", pods * (lines + 1), time.monotonic())
    await delete_topics(kafka.bootstrap, "down")
    label = (
        f"Kafka down, {pods:,} busy pods with {lines:,} lines each ({down_bytes / 2**20:.0f} MiB while down)"
    )
    return f"| {label} | {cells} |"


async def _exact(worker: Worker, kafka: Kafka, name: str, wanted: int, began: float) -> str:
    """Wait until all lines are committed, at most for a while; the cells of a row."""
    seconds = _BACK_SECONDS + wanted / _LINES_PER_SECOND

    def committed() -> int:
        return worker.ledger().get("lines", 0)

    met = await asyncio.to_thread(until, lambda: committed() >= wanted, seconds)
    took = f"{time.monotonic() - began:.0f} s" if met else f"not after {seconds:.0f} s"
    peak, lines = worker.peak_bytes(), committed()
    records, different = await _count(kafka.bootstrap, [f"{name}.alerts.{level}" for level in LEVELS])
    alerts = f"{records:,}" if records == different else f"{records:,}, of which {different:,} different"
    return f"{peak / 2**20:.0f} MiB | {took} | {lines:,} of {wanted:,} | {alerts}"


async def _count(bootstrap: str, topics: Sequence[str]) -> tuple[int, int]:
    """How many committed records there are, and how many different ids."""
    consumer = aiokafka.AIOKafkaConsumer(
        *topics,
        bootstrap_servers=bootstrap,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=4 << 20,
    )
    await consumer.start()
    try:
        await consumer.seek_to_beginning()
        ends = await consumer.end_offsets(consumer.assignment())
        records, ids = 0, set[bytes]()
        while True:
            behind = [each for each, end in ends.items() if await consumer.position(each) < end]
            if not behind:
                return records, len(ids)
            for fetched in (await consumer.getmany(*behind, timeout_ms=500)).values():
                records += len(fetched)
                ids.update(dict(record.headers)["ce_id"] for record in fetched)
    finally:
        await consumer.stop()
