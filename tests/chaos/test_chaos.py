"""A short selection of chaos: of each kind of outage one. `make chaos` has all of it, at length."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.chaos.run import Report, run
from tests.chaos.schedule import Fault, step
from tests.testbed.fixtures import parts_or_skip

pytestmark = pytest.mark.real

PROCESSES = [
    Fault.KILL,
    Fault.API_KILL,
    Fault.ROTATED_AWAY,
    Fault.KAFKA_KILL,
    Fault.CRASH_LOOP,
    Fault.KUBELET_KILL,
    Fault.HOLE,
    Fault.RECREATE,
    Fault.KUBELET_FREEZE,
    Fault.ZOMBIE,
]
CONNECTIONS = [
    Fault.API_LATENCY,
    Fault.KAFKA_CUT,
    Fault.API_HANG,
    Fault.KILL,
    Fault.KAFKA_LATENCY,
    Fault.API_CUT,
    Fault.KAFKA_HANG,
]


async def played(folder: Path, faults: Sequence[Fault], seed: int) -> Report:
    rng = random.Random(seed)
    with parts_or_skip():
        report = await run(folder, [step(rng, fault) for fault in faults], 600, seed)
    assert not report.violations, f"\n{report}"
    assert sum(report.history.faults.values()) == len(faults)
    assert report.verdict.published > 1000
    return report


async def test_exactly_once_though_processes_die_and_stand_still(tmp_path: Path) -> None:
    report = await played(tmp_path, PROCESSES, 11)
    assert report.history.kills >= PROCESSES.count(Fault.KILL) + 3
    assert report.verdict.missing > 0, "the hole was none"


async def test_exactly_once_though_connections_are_slow_cut_and_half_open(tmp_path: Path) -> None:
    await played(tmp_path, CONNECTIONS, 12)
