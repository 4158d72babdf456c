"""How long a connection that is dead and does not say so goes unnoticed."""

from __future__ import annotations

import asyncio
import random

import pytest

from tests.model.run import Plan, Run, scaled
from tests.model.worker import Line
from tests.unit.flow.virtual_time import VirtualTimeLoop


@pytest.mark.parametrize("seed", range(20))
def test_a_half_open_stream_is_found_out_within_a_minute(seed: int) -> None:
    random.seed(seed)
    plan = Plan((), seed=seed)
    with scaled(plan), asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        assert runner.run(_seconds_until_read(plan, quiet_seconds=60.0 + 3 * seed)) < 60.0


async def _seconds_until_read(plan: Plan, quiet_seconds: float) -> float:
    run = Run(plan)
    worker = await run.begin()
    await asyncio.sleep(quiet_seconds)
    run.server.stall()
    run.banner()
    clock = asyncio.get_running_loop().time
    stalled_at = clock()
    while sum(isinstance(item, Line) for found in run.committed.output.values() for item in found) < 2:
        assert clock() < stalled_at + 600
        await asyncio.sleep(0.1)
    taken = clock() - stalled_at
    await worker.die(None)
    return taken
