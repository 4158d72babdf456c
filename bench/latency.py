"""How long from the line in a pod's log until a `read_committed` consumer has the alert, and what the worker takes.

Writer, API server, log endpoint, broker, worker and consumer share the machine: what they take of it is in the times.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Final

import aiokafka

from bench.file_to_kafka import delete_topics
from bench.site import EVERYTHING_PASSES, Site, Worker, site
from bench.writing import Writing, greet
from streamer.transform.stamp import StampReader
from tests.testbed.kafka import Kafka

PODS: Final = 20
RATES: Final = (500, 2_000, 10_000)
QUIET_RATES: Final = (100, 1)
SECONDS: Final = 20.0
_WARM_SECONDS: Final = 5.0
LEVELS: Final = ["emergency", "alert", "critical", "error", "warning", "notice", "informational", "debug"]


async def bench(folder: Path, kafka: Kafka) -> str:
    """The table of this benchmark."""
    lines = [
        f"### Latency: {PODS} pods, {SECONDS:.0f} s each, default commit interval, nothing deduplicated",
        "",
        "| alerts/s | p50 | p99 | worst | worker's CPU, of a core | seen |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    for rate in RATES:
        async with site(folder, kafka, PODS) as at:
            lines.append(await _measure(at, rate))
    return "\n".join(lines) + "\n"


async def quiet(folder: Path, kafka: Kafka, *, pods: int = 100, seconds: float = 60.0) -> str:
    """What a worker takes in a quiet cluster, with everything on."""
    lines = [f"### A quiet cluster: {pods} pods, all shards busy, exactly once, {seconds:.0f} s", ""]
    lines += ["| alerts/s | worker's CPU, of a core |", "|---:|---:|"]
    async with site(folder, kafka, pods) as at:
        with Worker(at, f"quiet-{pods}", {}).running() as worker:
            await asyncio.to_thread(greet, at.pods, worker)
            for rate in QUIET_RATES:
                with Writing(at.pods, rate):
                    await asyncio.sleep(_WARM_SECONDS)
                    before = worker.cpu_seconds()
                    await asyncio.sleep(seconds)
                    share = (worker.cpu_seconds() - before) / seconds
                lines.append(f"| {rate} | {share:.1%} |")
    await delete_topics(kafka.bootstrap, f"quiet-{pods}")
    return "\n".join(lines) + "\n"


async def _measure(at: Site, rate: int) -> str:
    name = f"latency-{rate}"
    with Worker(at, name, EVERYTHING_PASSES).running() as worker:
        await asyncio.to_thread(greet, at.pods, worker)
        consumer = aiokafka.AIOKafkaConsumer(
            *[f"{name}.alerts.{level}" for level in LEVELS],
            bootstrap_servers=at.kafka.bootstrap,
            isolation_level="read_committed",
            auto_offset_reset="latest",
            fetch_max_wait_ms=100,
        )
        await consumer.start()
        try:
            await consumer.seek_to_end()
            with Writing(at.pods, rate):
                await _delays(consumer, _WARM_SECONDS)
                before = worker.cpu_seconds()
                delays = sorted(await _delays(consumer, SECONDS))
                share = (worker.cpu_seconds() - before) / SECONDS
        finally:
            await consumer.stop()
    await delete_topics(at.kafka.bootstrap, name)
    p50, p99, worst = (
        delays[min(len(delays) - 1, int(len(delays) * part))] * 1000 for part in (0.5, 0.99, 1)
    )
    return f"| {rate:,} | {p50:.0f} ms | {p99:.0f} ms | {worst:.0f} ms | {share:.0%} | {len(delays) / SECONDS:,.0f}/s |"


async def _delays(consumer: aiokafka.AIOKafkaConsumer, seconds: float) -> list[float]:
    stamps, delays = StampReader(), list[float]()
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        fetched = await consumer.getmany(timeout_ms=int(left * 1000) + 1)
        now_ns = time.time_ns()
        for records in fetched.values():
            for record in records:
                written_ns = stamps.time(dict(record.headers)["ce_time"].decode())
                assert written_ns is not None
                delays.append((now_ns - written_ns) / 1e9)
    return delays
