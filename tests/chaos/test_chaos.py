"""A short selection of chaos: each kind of outage once, with kills between. `make chaos` has all of it, at length."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.chaos.run import run
from tests.chaos.schedule import Fault, step
from tests.testbed.fixtures import parts_or_skip

pytestmark = pytest.mark.real

OUTAGES = [
    Fault.KILL,
    Fault.KAFKA_KILL,
    Fault.ROTATE_TWICE,
    Fault.API_KILL,
    Fault.KUBELET_KILL,
    Fault.ROTATED_AWAY,
    Fault.KILL,
    Fault.ZOMBIE,
    Fault.KAFKA_CUT,
]
PODS = [
    Fault.HOLE,
    Fault.CRASH_LOOP,
    Fault.API_CUT,
    Fault.RECREATE,
    Fault.KILL,
    Fault.GONE,
    Fault.FLOOD,
    Fault.STOP,
]


@pytest.mark.parametrize(("seed", "faults"), [(11, OUTAGES), (12, PODS)], ids=["outages", "pods"])
async def test_every_alert_arrives_exactly_once_through(
    seed: int, faults: Sequence[Fault], tmp_path: Path
) -> None:
    rng = random.Random(seed)
    with parts_or_skip():
        report = await run(tmp_path, [step(rng, fault) for fault in faults], 60, seed)
    assert not report.violations, f"\n{report}"
    assert sum(report.history.faults.values()) == len(faults), f"not all were done in time\n{report}"
    assert report.history.kills >= faults.count(Fault.KILL)
    assert report.verdict.published > 1000
