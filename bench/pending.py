"""What pods cost that cannot start."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.file_to_kafka import delete_topics
from bench.simulated import simulated
from bench.site import Worker, until
from tests.testbed.kafka import Kafka

_START_SECONDS: Final = 300.0
_SETTLE_SECONDS: Final = 20.0


@dataclass(frozen=True)
class Sizes:
    """How many pods, and for how long they are looked at."""

    pods: int = 1_000
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


def rate(requests: Counter[str], seconds: float) -> str:
    """Requests a second, and of what kind."""
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(requests.items()))
    return f"{requests.total() / seconds:.1f} requests/s ({kinds or 'none'})"
