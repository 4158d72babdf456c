"""The judge's own promise: it passes what is right and sees what is wrong. Planted faults, each found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from typing import Any

import pytest

from tests.chaos.faultless import BEHIND, GONE, HOLE, NAME, NOWHERE, SECOND, Run, line
from tests.chaos.judge import Verdict
from tests.chaos.load import Change, shard_of
from tests.chaos.schedule import Fault, steps


def test_what_is_right_passes() -> None:
    verdict = Run().verdict()
    assert verdict.violations == []
    assert (verdict.lines, verdict.published, verdict.dead_letters, verdict.missing) == (10, 8, 1, 0)


def test_a_gap_with_a_reason_that_covers_what_is_missing_passes() -> None:
    run = Run()
    run.lose(7, 8)
    run.gap(6, 9, NOWHERE)
    run.change(Change.ROTATED, 7)
    assert run.verdict().violations == []


def test_a_certain_gap_for_a_hole_passes() -> None:
    run = Run()
    run.lose(7, 8)
    run.gap(6, 9, HOLE, certain=True, reason="instances_skipped").hole()
    assert run.verdict().violations == []


def double(run: Run) -> None:
    run.records.append(run.records[0]._replace(headers=[("kind", b"alert"), ("ce_id", b"other")]))


def lose(run: Run) -> None:
    run.lose(7)


def lose_beside_the_gap(run: Run) -> None:
    run.lose(2, 7)
    run.change(Change.ROTATED, 6)
    run.gap(6, 8, NOWHERE)


def swap(run: Run) -> None:
    run.records[0], run.records[1] = run.records[1], run.records[0]


def invent(run: Run) -> None:
    run.add("alert", "alerts.warning", b'{"priority":"Warning"}')


def misplace(run: Run) -> None:
    run.records[0] = run.records[0]._replace(topic=f"{NAME}.alerts.debug")


def report_a_gap_around_what_arrived(run: Run) -> None:
    run.gap(6, 8, BEHIND)


def report_nothing_of_a_hole(run: Run) -> None:
    run.hole()


def be_certain_of_nothing(run: Run) -> None:
    run.gap(6, 9, HOLE, certain=True, reason="instances_skipped").hole()


def repeat_an_id(run: Run) -> None:
    run.records[1] = run.records[1]._replace(headers=run.records[0].headers)


def count_wrong(run: Run) -> None:
    run.ledger["published"] += 1
    run.ledger["alerts"] += 1
    run.ledger["lines"] += 1


def not_balance(run: Run) -> None:
    run.ledger["filtered"] += 1


def stand_elsewhere(run: Run) -> None:
    run.position -= 1


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (double, "1 alerts doubled: u/0"),
        (lose, "1 alerts lost outside any gap: u/7"),
        (lose_beside_the_gap, "1 alerts lost outside any gap: u/2"),
        (swap, "1 alerts out of order"),
        (invent, "1 alerts that nobody wrote"),
        (misplace, "1 alerts in another topic"),
        (report_a_gap_around_what_arrived, "1 gaps with lines in them that arrived"),
        (report_nothing_of_a_hole, "0 certain gaps for 1 certain holes"),
        (be_certain_of_nothing, "1 certain gaps in which nothing is missing"),
        (repeat_an_id, "1 ids that are not unique"),
        (count_wrong, "published is 9, counted 8"),
        (not_balance, "a shard's ledger does not balance"),
        (stand_elsewhere, "falco is at line 9, 10 could be read"),
        (Run.forget_a_text_line, "log_lines is 0, counted 1"),
    ],
)
def test_what_is_wrong_is_seen(spoil: Callable[[Run], None], found: str) -> None:
    run = Run()
    spoil(run)
    assert any(found in violation for violation in run.verdict().violations)


def test_a_pod_that_is_gone_may_miss_all_that_follows_and_no_other_pod() -> None:
    def with_reason(reason: str, what: dict[str, Any]) -> list[str]:
        run = Run()
        run.change(Change.DELETED, 9)
        far = replace(line(20), at_ns=600 * SECOND)
        run.journal.note(far)
        run.gap(9, None, what, reason=reason)
        return run.verdict().violations

    assert with_reason("pod_gone", GONE) == []
    assert any(
        "lost outside any gap: u/20" in violation for violation in with_reason("rotation_unseen", BEHIND)
    )


def test_what_is_written_while_all_becomes_well_counts_for_the_next_epoch() -> None:
    run = Run()
    before = run.journal.epoch
    run.journal.settled(since_ns=line(8).at_ns)
    shard = shard_of("u")
    assert run.journal.epoch is not before
    assert before.written_bytes[shard] == sum(len(line(number).body) for number in range(10))
    assert run.journal.epoch.written_bytes[shard] == len(line(8).body) + len(line(9).body)


def test_a_seed_gives_the_same_schedule_each_time_and_every_fault_comes_once_a_round() -> None:
    first, again, other = (list(islice(steps(seed), 60)) for seed in (1, 1, 2))
    assert first == again != other
    assert {step.fault for step in islice(steps(3), 2 * len(Fault))} == set(Fault)


def test_a_gap_without_an_end_ends_where_the_next_alert_arrived() -> None:
    def with_missing(*numbers: int) -> Verdict:
        run = Run()
        run.lose(*numbers)
        run.gap(1, None, BEHIND)
        return run.verdict()

    assert with_missing(2).violations == []
    assert any("lost outside any gap: u/7" in violation for violation in with_missing(2, 7).violations)


def test_a_line_without_a_record_at_the_end_of_an_open_gap_may_have_been_read_or_not() -> None:
    for was_read in (True, False):
        run = Run()
        run.lose(3)
        if not was_read:
            run.forget_a_text_line()  # number 4, before number 5 arrived
            run.position -= 1
        run.gap(2, None, BEHIND)
        assert run.verdict().violations == []
        run.ledger["log_lines"] += 2
        run.ledger["lines"] += 2
        assert "log_lines is " in "".join(run.verdict().violations)
