"""Gaps that are pending: a further one is added to it, and what was certain stays certain."""

from __future__ import annotations

import pytest

from streamer.model import GapReason, LogBatch, Target
from streamer.source.progress import Progress
from tests.unit.flow.virtual_time import in_virtual_time

TARGET = Target("falco", "falco-a", "uid", "falco", "node-1")


@pytest.mark.parametrize("certain_first", [True, False])
def test_a_certain_gap_is_not_downgraded_by_a_second_miss(certain_first: bool) -> None:
    @in_virtual_time
    async def test() -> None:
        put: list[LogBatch] = []

        async def take(batch: LogBatch) -> None:
            put.append(batch)

        progress = Progress(TARGET, None, take)
        certain = (GapReason.INSTANCES_SKIPPED, True, "three restarts")
        possible = (GapReason.ROTATION_UNSEEN, False, "rotated")
        for reason, is_certain, detail in (certain, possible) if certain_first else (possible, certain):
            progress.miss(reason, certain=is_certain, detail=detail, evidence={"case": detail})
        await progress.end()
        (gap,) = [batch.gap for batch in put if batch.gap]
        assert (gap.reason, gap.certain) == (GapReason.INSTANCES_SKIPPED, True)
        assert "three restarts" in gap.detail
        assert "rotated" in gap.detail
        assert {seen["case"] for seen in gap.evidence} == {"three restarts", "rotated"}

    test()
