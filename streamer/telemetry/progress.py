"""Now and then a line in the log that work goes on: who watches sees that alerts flow, and what has become of them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import structlog

from streamer.telemetry import metrics
from streamer.telemetry.background import in_background
from streamer.telemetry.status import Status, StreamState

FIRST_SECONDS: Final = 5.0
"""After the start: somebody may wait to see whether it works."""
SECONDS: Final = 60.0

log = structlog.get_logger()


@asynccontextmanager
async def telling_progress(
    status: Callable[[], Status], first_seconds: float = FIRST_SECONDS, seconds: float = SECONDS
) -> AsyncIterator[None]:
    """Say every minute what was committed in it, while the context lasts; nothing of a minute without a line."""
    async with in_background(_tell(status, first_seconds, seconds), "tell progress"):
        yield


async def _tell(status: Callable[[], Status], first_seconds: float, seconds: float) -> None:
    reported, wait_seconds = _outcomes(), first_seconds
    while True:
        await asyncio.sleep(wait_seconds)
        found = _outcomes()
        moved = found - reported
        if not moved:
            continue
        reported, wait_seconds = found, seconds
        now = status()
        log.info(
            "lines_committed",
            lines=moved.total(),
            **{outcome: moved[outcome] for outcome in metrics.OUTCOMES if moved[outcome]},
            following=sum(one.state == StreamState.FOLLOWING for one in now.targets),
            lag_seconds=round(now.lag_seconds, 1),
        )


def _outcomes() -> Counter[str]:
    """How many lines had each outcome since the process began."""
    samples = next(iter(metrics.OUTCOMES_OF_LINES.collect())).samples
    return Counter({one.labels["outcome"]: int(one.value) for one in samples if one.name.endswith("_total")})
