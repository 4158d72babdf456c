"""What pods cost that bring nothing: those that cannot start, and a rollout as discovery sees it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.file_to_kafka import delete_topics
from bench.simulated import simulated
from bench.site import Worker, allow_streams, until
from tests.testbed.kafka import Kafka

_START_SECONDS: Final = 300.0
_SETTLE_SECONDS: Final = 20.0
_CHANGES: Final = 4
"""Of each pod's object in a rollout: being deleted, gone, made, running."""
_SLICE: Final = 25
_SLICE_SECONDS: Final = 0.05


@dataclass(frozen=True)
class Sizes:
    """How many pods, and for how long they are looked at."""

    pods: int = 1_000
    rollout_pods: int = 5_000
    seconds: float = 60.0


async def bench(folder: Path, kafka: Kafka, sizes: Sizes) -> str:
    """What is said of pods that cannot start."""
    async with simulated(folder, kafka, sizes.pods, waiting_reason="ImagePullBackOff") as at:
        with Worker(at, "pending", {}).running() as worker:
            await asyncio.to_thread(until, worker.ready, _START_SECONDS)
            await asyncio.sleep(_SETTLE_SECONDS)
            asked, cpu = at.requests(), worker.cpu_seconds()
            await asyncio.sleep(sizes.seconds)
            asked, cpu = at.requests() - asked, worker.cpu_seconds() - cpu
    await delete_topics(kafka.bootstrap, "pending")
    return (
        f"### Pending pods\n\n{sizes.pods:,} simulated pods in ImagePullBackOff, for {sizes.seconds:.0f} s: "
        f"{rate(asked, sizes.seconds)}, {cpu / sizes.seconds:.1%} of a core.\n"
    )


async def rollout(folder: Path, kafka: Kafka, sizes: Sizes) -> str:
    """What is said of the changes of objects alone: no pod is replaced, so that no stream is opened for it."""
    allow_streams(sizes.rollout_pods)
    async with simulated(folder, kafka, sizes.rollout_pods) as at:
        at.print_lines(1)
        with Worker(at, "rollout", {}).running() as worker:
            everything = sizes.rollout_pods
            met = await asyncio.to_thread(until, lambda: worker.following() >= everything, _START_SECONDS)
            await asyncio.sleep(_SETTLE_SECONDS)
            idle, seconds = worker.cpu_seconds(), _CHANGES * everything / _SLICE * _SLICE_SECONDS
            await asyncio.sleep(seconds)
            idle, busy = worker.cpu_seconds() - idle, worker.cpu_seconds()
            began = time.monotonic()
            for change in range(_CHANGES):
                for first in range(0, everything, _SLICE):
                    at.annotate(first, _SLICE, str(change))
                    await asyncio.sleep(_SLICE_SECONDS)
            busy, took = worker.cpu_seconds() - busy, time.monotonic() - began
            following = "" if met else f" ({worker.following():,} of them followed)"
    await delete_topics(kafka.bootstrap, "rollout")
    return (
        f"### A rollout\n\n{_CHANGES} changes of each of {everything:,} simulated pods{following} in {took:.0f} s: "
        f"{busy - idle * took / seconds:.1f} s of CPU beyond the {idle:.1f} s that idle streams took in "
        f"{seconds:.0f} s.\n"
    )


def rate(requests: Counter[str], seconds: float) -> str:
    """Requests a second, and of what kind."""
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(requests.items()))
    return f"{requests.total() / seconds:.1f} requests/s ({kinds or 'none'})"
