"""A third of the nodes hang: how long new lines of the others take until a `read_committed` consumer has them.

Twice: the worker starts when the nodes have lost their power (connections to them are never opened), and the nodes'
kubelets stand still while their logs are followed (connections stay open, and nothing is answered).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiokafka

from bench.file_to_kafka import delete_topics
from bench.latency import LEVELS
from bench.site import EVERYTHING_PASSES, Site, Worker, add_pod, allow_streams, site, until
from bench.writing import Writing, write
from streamer.transform.stamp import StampReader
from tests.testbed.kafka import Kafka
from tests.testbed.kubelet import Kubelet
from tests.testbed.pod import Pod
from tests.testbed.proxy import BlackHole

_RATE: Final = 200
_DRAIN_SECONDS: Final = 30.0
_NAMED_SECONDS: Final = 10.0
"""A target counts as named if /status says that it has been unread for longer, or that no stream of it is open."""
_HEAD: Final = (
    "| 1/3 of the nodes hang | the others are followed after | new lines: p50 | p99 | worst | not committed "
    "| a new pod's first line | named by /status | lag_seconds |\n"
    "|---|---:|---:|---:|---:|---:|---:|---:|---:|"
)


@dataclass(frozen=True)
class Sizes:
    """How many pods, and for how long new lines are looked at."""

    healthy: int = 200
    dead: int = 100
    seconds: float = 75.0


async def bench(folder: Path, kafka: Kafka, sizes: Sizes) -> str:
    """The table of this benchmark."""
    allow_streams(sizes.healthy + sizes.dead)
    async with site(folder, kafka, sizes.healthy) as at:
        with Kubelet(at.server.authority) as kubelet, BlackHole() as hole:
            dead = [await add_pod(at.cluster, f"dead-{n}", kubelet=kubelet) for n in range(sizes.dead)]
            every = [*at.pods, *dead]
            write(every, 1)
            await _lead_to(at, dead, hole.port)
            rows = [await _at_start(at, dead, sizes)]
            await _lead_to(at, dead, kubelet.port)
            rows.append(await _while_followed(at, dead, kubelet, sizes))
    title = f"### Dead nodes: {sizes.dead:,} of {sizes.dead + sizes.healthy:,} pods, {_RATE} alerts/s over the others"
    return "\n".join([title, "", _HEAD, *rows]) + "\n"


async def _at_start(at: Site, dead: Sequence[Pod], sizes: Sizes) -> str:
    with _worker(at, "dead-at-start").running() as worker:
        began = time.monotonic()
        await asyncio.to_thread(until, worker.ready, 60.0)
        row = await _measure(at, worker, "dead-at-start", dead, sizes, began)
    await delete_topics(at.kafka.bootstrap, "dead-at-start")
    return f"| before the worker starts | {row}"


async def _while_followed(at: Site, dead: Sequence[Pod], kubelet: Kubelet, sizes: Sizes) -> str:
    with _worker(at, "dead-later").running() as worker:
        everything = sizes.healthy + sizes.dead
        await asyncio.to_thread(until, lambda: worker.following() >= everything, 120.0)
        kubelet.freeze()
        row = await _measure(at, worker, "dead-later", dead, sizes, time.monotonic())
        kubelet.resume()
    await delete_topics(at.kafka.bootstrap, "dead-later")
    return f"| while they are followed | {row}"


def _worker(at: Site, name: str) -> Worker:
    return Worker(at, name, {**EVERYTHING_PASSES, "kubernetes": {"namespaces": [at.cluster.namespace]}})


async def _lead_to(at: Site, pods: Sequence[Pod], port: int) -> None:
    """Let the API server look for the kubelets of these pods' nodes at a port."""
    endpoint = {"status": {"daemonEndpoints": {"kubeletEndpoint": {"Port": port}}}}
    for pod in pods:
        await at.cluster.api.patch(f"/api/v1/nodes/{pod.node}/status", endpoint)


async def _measure(
    at: Site, worker: Worker, name: str, dead: Sequence[Pod], sizes: Sizes, began: float
) -> str:
    """The cells of a row, from when lines are written on."""
    healthy = {pod.uid for pod in at.pods}
    seen, new_name = _Seen(time.time_ns()), f"new-{name}"
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
        reading = asyncio.create_task(_read(consumer, seen))
        followed = asyncio.create_task(_followed(worker, healthy, began, sizes.seconds))
        with Writing(at.pods, _RATE) as writing:
            await asyncio.sleep(sizes.seconds / 2)
            new = await add_pod(at.cluster, new_name)
            write([new], 1)
            new_at = time.monotonic()
            await asyncio.sleep(sizes.seconds / 2)
        status = await asyncio.to_thread(worker.status)
        wanted = writing.written
        await asyncio.to_thread(until, lambda: len(seen.delays) >= wanted, _DRAIN_SECONDS)
        reading.cancel()
        looked_seconds = time.monotonic() - new_at
        followed_text = await followed
    finally:
        await consumer.stop()
    first = seen.first_seconds.get(new_name)
    missing = wanted - len(seen.delays)
    return " | ".join(
        [
            followed_text,
            *_percentiles(seen.delays),
            f"{missing:,} of {wanted:,}",
            f"not in {looked_seconds:.0f} s" if first is None else f"{first:.1f} s",
            f"{_named(status, {pod.uid for pod in dead})} of {len(dead)}",
            f"{status.get('lag_seconds', 0):.0f} s |",
        ]
    )


async def _followed(worker: Worker, uids: set[str], began: float, seconds: float) -> str:
    def count() -> int:
        targets = worker.status().get("targets", ())
        return sum(one["state"] == "following" and one["target"]["uid"] in uids for one in targets)

    met = await asyncio.to_thread(until, lambda: count() >= len(uids), seconds, every_seconds=0.25)
    return f"{time.monotonic() - began:.1f} s" if met else f"{count()} after {seconds:.0f} s"


def _named(status: Mapping[str, Any], uids: set[str]) -> int:
    """How many of these targets are said to be unread, or are missing altogether where they should be."""
    return sum(
        one["target"]["uid"] in uids
        and (one["state"] != "following" or one["unread_seconds"] > _NAMED_SECONDS)
        for one in status.get("targets", ())
    )


@dataclass
class _Seen:
    since_ns: int
    """What was written before does not count."""
    delays: list[float] = field(default_factory=list)
    """Of the lines that were written at a steady rate; seconds from a line's time until it was consumed."""
    first_seconds: dict[str, float] = field(default_factory=dict)
    """Of each new pod, by its name."""


async def _read(consumer: aiokafka.AIOKafkaConsumer, seen: _Seen) -> None:
    stamps = StampReader()
    while True:
        fetched = await consumer.getmany(timeout_ms=1000)
        now_ns = time.time_ns()
        for records in fetched.values():
            for record in records:
                pod = record.key.decode().rpartition("/")[2]
                written_ns = stamps.time(dict(record.headers)["ce_time"].decode())
                assert written_ns is not None
                seconds = (now_ns - written_ns) / 1e9
                if pod.startswith("new-"):
                    seen.first_seconds.setdefault(pod, seconds)
                elif pod.startswith("falco-") and written_ns >= seen.since_ns:
                    seen.delays.append(seconds)


def _percentiles(delays: Sequence[float]) -> list[str]:
    if not delays:
        return ["", "", ""]
    ordered = sorted(delays)
    return [f"{ordered[min(len(ordered) - 1, int(len(ordered) * part))]:.1f} s" for part in (0.5, 0.99, 1)]
