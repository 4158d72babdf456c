"""The log says now and then what was committed, and nothing where nothing was."""

from __future__ import annotations

import asyncio
from typing import Any

from structlog.testing import capture_logs

from streamer.telemetry import metrics
from streamer.telemetry.progress import FIRST_SECONDS, SECONDS, telling_progress
from streamer.telemetry.status import Status, StreamState, TargetStatus
from tests.unit.flow.virtual_time import in_virtual_time
from tests.unit.transform.samples import FALCO

TARGET = TargetStatus(FALCO, StreamState.FOLLOWING, True, 0.0, 2.04, 0.0)


def count(**outcomes: int) -> None:
    for outcome, number in outcomes.items():
        metrics.OUTCOMES_OF_LINES.labels(outcome).inc(number)


@in_virtual_time
async def test_what_was_committed_meanwhile_is_told_with_what_became_of_it() -> None:
    told: list[list[Any]] = []
    count(published=1000)  # before: not told
    with capture_logs() as logs:
        async with telling_progress(lambda: Status("test", targets=[TARGET])):
            await asyncio.sleep(FIRST_SECONDS * 3 + 1)
            told.append([*logs])
            count(published=3, log_line=1)
            await asyncio.sleep(FIRST_SECONDS)
            told.append([*logs])
            count(deduplicated=2)
            await asyncio.sleep(SECONDS - 2)
            told.append([*logs])
            await asyncio.sleep(SECONDS * 3)
            told.append([*logs])
    facts = {"event": "lines_committed", "log_level": "info", "following": 1, "lag_seconds": 2.0}
    first, second = (
        facts | {"lines": 4, "published": 3, "log_line": 1},
        facts | {"lines": 2, "deduplicated": 2},
    )
    assert told == [[], [first], [first], [first, second]]
