"""How long a stream that stalls while its connection stays open goes unnoticed."""

from __future__ import annotations

import asyncio
import random

import pytest

from tests.model.run import Plan, Run, scaled
from tests.model.worker import Line
from tests.unit.flow.virtual_time import VirtualTimeLoop


@pytest.mark.parametrize("seed", range(20))
def test_a_stalled_stream_is_noticed_after_about_the_time_for_which_it_was_silent_before(seed: int) -> None:
    random.seed(seed)
    plan = Plan((), seed=seed)
    quiet_seconds = 20.0 * 1.3**seed
    with scaled(plan), asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        taken_seconds = runner.run(_seconds_until_read(plan, quiet_seconds))
    assert taken_seconds < min(730.0, 60.0 + 1.6 * quiet_seconds)


async def _seconds_until_read(plan: Plan, quiet_seconds: float) -> float:
    run = Run(plan)
    worker = await run.begin()
    await asyncio.sleep(quiet_seconds)
    run.server.stall()
    run.banner()
    clock = asyncio.get_running_loop().time
    stalled_at = clock()
    while sum(isinstance(item, Line) for found in run.committed.output.values() for item in found) < 2:
        assert clock() < stalled_at + 1000
        await asyncio.sleep(0.1)
    taken = clock() - stalled_at
    await worker.die(None)
    return taken
