"""The judge checks what a gap record states: each rule with a record that passes and one that is refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chaos.faultless import (
    BEGINS_LATE,
    BEHIND,
    FIRST_SKIPPED,
    GONE,
    KILLED,
    LATE,
    NO_PREVIOUS,
    NOWHERE,
    ROTATED,
    SKIPPED,
    Run,
)
from tests.chaos.holes import CASES, PREVIOUS_IS_NEXT
from tests.chaos.load import Change, shard_of

Story = Callable[[Run], Run]
"""What happened to the log, and which gap is reported."""


def kafka_is_away(run: Run, written_bytes: float) -> Run:
    run.change(Change.DELETED, 9, disturbed=False).gap(9, None, GONE, reason="pod_gone")
    epoch = run.target.changes[-1].epoch
    epoch.kafka_disturbed = True
    epoch.written_bytes[shard_of("u")] = int(written_bytes)
    return run


def restarted_twice(run: Run) -> Run:
    return run.change(Change.RESTARTED, 7, disturbed=False).change(Change.RESTARTED, 8, disturbed=False)


@pytest.mark.parametrize(
    "story",
    [
        lambda run: run.change(Change.ROTATED, 6).gap(6, 7, NOWHERE),
        lambda run: run.change(Change.RESTARTED, 6).gap(6, 7, ROTATED),
        lambda run: restarted_twice(run.lose(7, 8)).gap(6, 9, SKIPPED, reason="instances_skipped"),
        # The previous instance's log is read next: its restart lies behind the gap.
        lambda run: restarted_twice(run.lose(7)).gap(6, 8, SKIPPED, reason="instances_skipped"),
        lambda run: (
            run.lose_between(-1, 6)
            .change(Change.RESTARTED, 2, disturbed=False)
            .change(Change.RESTARTED, 7, disturbed=False)
            .gap(None, 6, FIRST_SKIPPED, reason="instances_skipped")
        ),
        lambda run: run.gap(6, 7, BEHIND),
        lambda run: run.lose_between(0, 9).gap(0, 9, LATE),
        lambda run: run.change(Change.RESTARTED, 6).gap(6, 7, BEGINS_LATE),
        lambda run: run.change(Change.DELETED, 9).gap(9, None, GONE, reason="pod_gone"),
        lambda run: run.change(Change.DELETED_BY_FORCE, 9, disturbed=False).gap(
            9, None, KILLED, reason="pod_gone"
        ),
        lambda run: kafka_is_away(run, 3.2e6),
        # One of two items holds, and the journal only knows no reason for the other.
        lambda run: run.change(Change.ROTATED, 6, disturbed=False).gap(6, 7, NOWHERE, BEHIND),
    ],
)
def test_a_gap_whose_evidence_fits_what_happened_passes(story: Story) -> None:
    run = Run()
    story(run)
    assert run.verdict().violations == []


@pytest.mark.parametrize(
    ("story", "found"),
    [
        (lambda run: run.gap(6, 7), "no evidence"),
        (lambda run: run.gap(6, 7, {"case": "it was dark"}), "unknown case 'it was dark'"),
        (lambda run: run.gap(6, 7, NOWHERE), "happened to this log: nothing"),
        (lambda run: run.change(Change.ROTATED, 5).gap(6, 7, NOWHERE), "happened to this log: nothing"),
        (lambda run: run.change(Change.ROTATED, 7).gap(6, 7, NOWHERE), "happened to this log: nothing"),
        (
            lambda run: run.change(Change.ROTATED, 6, disturbed=False).gap(6, 7, NOWHERE),
            "happened to this log: rotated; reading was not disturbed",
        ),
        (lambda run: run.change(Change.ROTATED, 6).gap(6, 7, ROTATED), "states 1 restarts, there were 0"),
        (
            lambda run: run.change(Change.ROTATED, 6).gap(6, 7, NOWHERE | {"restarts": None}),
            "does not state restarts",
        ),
        (
            lambda run: run.change(Change.RESTARTED, 7).gap(6, 9, SKIPPED, reason="instances_skipped"),
            "states 2 restarts, there were 1",
        ),
        (
            lambda run: restarted_twice(run).gap(6, 7, SKIPPED, reason="instances_skipped"),
            "states 2 restarts, there were 1",
        ),
        (
            lambda run: restarted_twice(run).gap(6, 8, NO_PREVIOUS, reason="instances_skipped"),
            "states 2 restarts, there were 1",
        ),
        (
            lambda run: restarted_twice(run).gap(6, 9, SKIPPED | {"restarts": 1}, reason="instances_skipped"),
            "no instance lies between",
        ),
        (
            lambda run: run.lose_between(-1, 6).gap(None, 6, FIRST_SKIPPED, reason="instances_skipped"),
            "states 2 restarts, there were 0",
        ),
        (lambda run: run.gap(6, 7, BEHIND | {"behind_seconds": 19.9}), "was behind for 19.9 s only"),
        (lambda run: run.gap(6, 7, LATE), "states 9.0 s between lines, there were 1.000 s"),
        (lambda run: run.gap(6, 7, LATE | {"skipped_seconds": 1.0}), "9.0 s late and skipped 1.000 s only"),
        (lambda run: run.gap(0, 9, LATE | {"late_seconds": 1.0}), "1.0 s late and skipped 9.000 s only"),
        (lambda run: run.gap(6, None, LATE), "names no two lines"),
        (lambda run: run.change(Change.ROTATED, 6).gap(6, 7, BEGINS_LATE), "happened to this log: nothing"),
        (
            lambda run: run.change(Change.RESTARTED, 6, disturbed=False).gap(6, 7, BEGINS_LATE),
            "happened to this log: restarted; reading was not disturbed",
        ),
        (lambda run: run.gap(9, None, GONE, reason="pod_gone"), "the pod was not deleted"),
        (
            lambda run: run.change(Change.DELETED, 9, disturbed=False).gap(
                9, None, KILLED, reason="pod_gone"
            ),
            "happened to this log: deleted; reading was not disturbed",
        ),
        (
            lambda run: run.change(Change.DELETED_BY_FORCE, 9, disturbed=False).gap(
                9, None, GONE, reason="pod_gone"
            ),
            "happened to this log: deleted by force; reading was not disturbed",
        ),
        (lambda run: kafka_is_away(run, 3.1e6), "happened to this log: deleted; reading was not disturbed"),
        (
            lambda run: run.change(Change.ROTATED, 6).gap(6, 7, NOWHERE, reason="instances_skipped"),
            "no item of its evidence is a case of its reason",
        ),
        # Of two items one holds, and what the other one states is false.
        (
            lambda run: run.change(Change.ROTATED, 6).gap(6, 7, NOWHERE, BEHIND | {"behind_seconds": 1}),
            "was behind for 1 s only",
        ),
        (lambda run: run.gap(6, 20, BEHIND), "no line was written at [21000000000]"),
    ],
)
def test_a_gap_whose_evidence_does_not_fit_is_refused(story: Story, found: str) -> None:
    run = Run()
    story(run)
    assert any(found in violation for violation in run.verdict().violations), run.verdict().violations


def test_the_cases_are_those_of_the_docs() -> None:
    reading = (Path(__file__).parents[2] / "docs/reading.md").read_text()
    rows = [row.strip("| ").split(" | ") for row in reading.splitlines() if re.match(r"\| \d+ \|", row)]
    gaps = [row for row in rows if len(row) == 4]
    documented = {case: (gap.split("`")[1], gap.endswith("certain")) for _, case, _, gap in gaps}
    others = CASES.keys() - documented.keys()
    assert documented == {
        name: (case.reason, case.certain) for name, case in CASES.items() if name not in others
    }
    assert others == {
        "reading was behind",
        "lines arrived late and then skipped a while",
        "the log was empty after checks that had failed",
        "the log does not begin with its container",
        "pod gone, its stream was silent for 60 s",
    }
    taken = "take the previous log from its first line"
    assert {case for _, case, step, _ in gaps if step == taken} == PREVIOUS_IS_NEXT
