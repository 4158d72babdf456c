"""The log endpoint cuts every stream when its time is up: nobody would see it in the topics."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.chaos.bed import bed
from tests.chaos.run import playing
from tests.testbed.fixtures import parts_or_skip

pytestmark = pytest.mark.real

STREAM_SECONDS = 4.0
CUTS = 5


async def test_streams_that_are_cut_when_their_time_is_up_cost_nothing(tmp_path: Path) -> None:
    with parts_or_skip():
        async with bed(tmp_path, stream_seconds=STREAM_SECONDS) as made, playing(made, seed=31) as play:
            await play.conductor.worker.start()
            async with play.conductor.load(play.printer):
                await play.conductor.settle("the start")
                opened = made.streams_opened()
                await asyncio.sleep(STREAM_SECONDS * CUTS)
                await play.conductor.settle("the cuts")
                again = made.streams_opened() - opened
            report = await play.finish()
    assert report.violations == [], f"\n{report}"
    assert report.verdict.missing == 0
    assert not report.verdict.gaps
    assert all(again[name] >= CUTS - 1 for name in play.conductor.pods), f"the streams were not cut: {again}"
