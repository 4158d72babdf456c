"""A fault in the worker's own sink turns the judge red: what these tests promise, they would miss if it were gone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.chaos import planted
from tests.chaos.bed import Site
from tests.chaos.load import Kind
from tests.chaos.run import Report, playing
from tests.testbed.topics import change_topic

pytestmark = pytest.mark.real

SECONDS_OF_LOAD = 2


async def report_on(site: Site, fault: str, *, refused: bool = False) -> Report:
    """Let a worker with this fault work under load, and have it judged."""
    assert planted.__file__ is not None
    spoilt = replace(site, program=("-P", planted.__file__, fault))
    async with playing(spoilt, seed=5) as play:
        conductor = play.conductor
        await conductor.worker.start()
        async with conductor.load(play.printer):
            for _ in range(SECONDS_OF_LOAD + 1):
                await conductor.settle("the start")
        if refused:
            topics = [f"{site.name}.alerts.{name}" for name in ("warning", "notice", "error", "critical")]
            for topic in topics:
                await change_topic(site.bootstrap, topic, {"max.message.bytes": "50000"})
            for _ in topics:
                play.printer.large(conductor.pods["quiet-0"], 60_000)
        play.printer.print(conductor.pods["quiet-1"], 500, Kind.ALERT)
        return await play.finish()


def found(report: Report, what: str) -> bool:
    return any(what in violation for violation in report.violations)


async def test_without_a_fault_the_judge_is_content(site: Site) -> None:
    report = await report_on(site, "nothing")
    assert report.violations == [], f"\n{report}"


async def test_one_send_skipped(site: Site) -> None:
    report = await report_on(site, "skip_one_send")
    assert found(report, "alerts lost outside any gap"), f"\n{report}"
    assert found(report, "counters of the ledger that are wrong: alerts is"), f"\n{report}"


async def test_one_write_of_state_skipped(site: Site) -> None:
    report = await report_on(site, "skip_one_state_write")
    assert found(report, "alerts doubled"), f"\n{report}"


async def test_a_commit_despite_a_failed_batch(site: Site) -> None:
    report = await report_on(site, "commit_despite_a_failure", refused=True)
    assert found(report, "alerts lost outside any gap"), f"\n{report}"
