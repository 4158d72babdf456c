"""A short selection of chaos: of each kind of outage one. `make chaos` has all of it, at length."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.chaos.run import run
from tests.chaos.schedule import Fault, step
from tests.testbed.fixtures import parts_or_skip

pytestmark = pytest.mark.real

FAULTS = [
    Fault.KILL,
    Fault.API_KILL,
    Fault.ROTATED_AWAY,
    Fault.KAFKA_KILL,
    Fault.CRASH_LOOP,
    Fault.KUBELET_KILL,
    Fault.HOLE,
    Fault.RECREATE,
    Fault.KAFKA_CUT,
]


async def test_every_alert_arrives_exactly_once_through_all_this(tmp_path: Path) -> None:
    seed = 11
    rng = random.Random(seed)
    with parts_or_skip():
        report = await run(tmp_path, [step(rng, fault) for fault in FAULTS], 600, seed)
    assert not report.violations, f"\n{report}"
    assert sum(report.history.faults.values()) == len(FAULTS)
    assert report.history.kills >= FAULTS.count(Fault.KILL) + 2
    assert report.verdict.published > 1000
    assert report.verdict.missing > 0, "the hole was none"
