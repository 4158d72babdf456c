"""The judge's own promise: it passes what is right and sees what is wrong. Planted faults, each found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import count, islice
from typing import Any

import orjson
import pytest

from tests.chaos.judge import Seen, Verdict, judge
from tests.chaos.load import Journal, Kind, Line, TargetLog
from tests.chaos.schedule import Fault, steps

NAME, SECOND = "c", 1_000_000_000
COUNTERS = (
    *("lines", "alerts", "log_lines", "invalid"),
    *("filtered", "deduplicated", "limited", "published"),
    *("dead_lettered", "dead_letter_limited"),
    *("summaries", "gaps", "notices", "fragments"),
)


@dataclass
class Run:
    """What a faultless worker makes of ten lines of one pod; tests spoil it."""

    journal: Journal = field(default_factory=Journal)
    records: list[Seen] = field(default_factory=list)
    ledger: dict[str, Any] = field(default_factory=lambda: dict.fromkeys(COUNTERS, 0))
    position: int = 0
    ids: Iterator[int] = field(default_factory=count)

    def __post_init__(self) -> None:
        self.journal.targets["u"] = TargetLog("ns", "falco", "u")
        for number in range(10):
            self.journal.note(line(number))
            self.take(number)

    def take(self, number: int) -> None:
        self.position += 1
        self.ledger["lines"] += 1
        what = line(number)
        if what.kind is Kind.TEXT:
            self.ledger["log_lines"] += 1
        elif what.kind is Kind.BROKEN:
            self.ledger["invalid"] += 1
            self.ledger["dead_lettered"] += 1
            self.add("dead-letter", "dead-letter", orjson.dumps({"line": what.body.decode()}))
        else:
            self.ledger["alerts"] += 1
            self.ledger["published"] += 1
            self.add("alert", "alerts.warning", what.body)

    def add(self, kind: str, topic: str, value: bytes) -> None:
        offset = len(self.records)
        headers = [("kind", kind.encode()), ("ce_id", b"%d" % next(self.ids))]
        self.records.append(Seen(f"{NAME}.{topic}", 0, offset, b"ns/falco", value, headers))

    def lose(self, *numbers: int) -> None:
        """As if these alerts had never been read."""
        bodies = {line(number).body for number in numbers}
        self.records = [record for record in self.records if record.value not in bodies]
        for counter in ("lines", "alerts", "published"):
            self.ledger[counter] -= len(numbers)
        self.position -= len(numbers)

    def gap(self, low: int, high: int, *, certain: bool) -> None:
        self.ledger["gaps"] += 1
        edges = {"from": stamp(low), "to": stamp(high)}
        value = {"target": {"uid": "u"}, "certain": certain, "reason": "rotation_unseen", "detail": ""}
        self.add("gap", "notices", orjson.dumps(value | edges))

    def verdict(self) -> Verdict:
        position = {"target": {"uid": "u"}, "lines": self.position}
        state = [
            Seen("state", 0, 0, b"ledger", orjson.dumps(self.ledger), []),
            Seen("state", 0, 1, b"position/ns/falco/u/falco", orjson.dumps(position), []),
        ]
        return judge(NAME, self.journal, self.records, state)

    @property
    def target(self) -> TargetLog:
        return self.journal.targets["u"]


def line(number: int) -> Line:
    kind = {4: Kind.TEXT, 5: Kind.BROKEN}.get(number, Kind.ALERT)
    return Line("u", number, (number + 1) * SECOND, kind, b'{"priority":"Warning","n":%d}' % number)


def stamp(number: int) -> str:
    return f"1970-01-01T00:00:{number + 1:02}.000000000Z"


def test_what_is_right_passes() -> None:
    verdict = Run().verdict()
    assert verdict.violations == []
    assert (verdict.lines, verdict.published, verdict.dead_letters, verdict.missing) == (10, 8, 1, 0)


def test_a_gap_with_a_reason_that_covers_what_is_missing_passes() -> None:
    run = Run()
    run.lose(7, 8)
    run.gap(6, 9, certain=False)
    run.target.excuses = 1
    assert run.verdict().violations == []


def test_a_certain_gap_for_a_hole_passes() -> None:
    run = Run()
    run.lose(7, 8)
    run.gap(6, 9, certain=True)
    run.target.holes = 1
    assert run.verdict().violations == []


def double(run: Run) -> None:
    run.records.append(run.records[0]._replace(headers=[("kind", b"alert"), ("ce_id", b"other")]))


def lose(run: Run) -> None:
    run.lose(7)


def lose_beside_the_gap(run: Run) -> None:
    run.lose(2, 7)
    run.target.excuses = 1
    run.gap(6, 8, certain=False)


def swap(run: Run) -> None:
    run.records[0], run.records[1] = run.records[1], run.records[0]


def invent(run: Run) -> None:
    run.add("alert", "alerts.warning", b'{"priority":"Warning"}')


def misplace(run: Run) -> None:
    run.records[0] = run.records[0]._replace(topic=f"{NAME}.alerts.debug")


def say_a_gap_without_reason(run: Run) -> None:
    run.gap(6, 7, certain=False)


def say_nothing_of_a_hole(run: Run) -> None:
    run.target.holes = 1


def be_certain_of_nothing(run: Run) -> None:
    run.gap(6, 7, certain=True)
    run.target.holes = 1


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


def forget_a_text_line(run: Run) -> None:
    run.ledger["lines"] -= 1
    run.ledger["log_lines"] -= 1


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (double, "1 alerts doubled: u/0"),
        (lose, "1 alerts lost outside any gap: u/7"),
        (lose_beside_the_gap, "1 alerts lost outside any gap: u/2"),
        (swap, "1 alerts out of order"),
        (invent, "1 alerts that nobody wrote"),
        (misplace, "1 alerts in another topic"),
        (say_a_gap_without_reason, "1 possible gaps, 0 had a reason"),
        (say_nothing_of_a_hole, "0 certain gaps for 1 certain holes"),
        (be_certain_of_nothing, "1 certain gaps in which nothing is missing"),
        (repeat_an_id, "1 ids that are not unique"),
        (count_wrong, "published is 9, counted 8"),
        (not_balance, "a shard's ledger does not balance"),
        (stand_elsewhere, "falco is at line 9, 10 could be read"),
        (forget_a_text_line, "log_lines is 0, counted 1"),
    ],
)
def test_what_is_wrong_is_seen(spoil: Callable[[Run], None], found: str) -> None:
    run = Run()
    spoil(run)
    assert any(found in violation for violation in run.verdict().violations)


def test_a_pod_that_is_gone_may_miss_all_that_follows_and_no_other_pod() -> None:
    def with_reason(reason: str) -> list[str]:
        run = Run()
        run.target.excuses = 1
        far = replace(line(20), at_ns=600 * SECOND)
        run.journal.note(far)
        value = {"target": {"uid": "u"}, "certain": False, "reason": reason, "detail": ""}
        run.ledger["gaps"] += 1
        run.add("gap", "notices", orjson.dumps(value | {"from": stamp(9), "to": None}))
        return run.verdict().violations

    assert with_reason("pod_gone") == []
    assert any("lost outside any gap: u/20" in violation for violation in with_reason("rotation_unseen"))


def test_a_seed_gives_the_same_schedule_each_time_and_every_fault_comes_once_a_round() -> None:
    first, again, other = (list(islice(steps(seed), 60)) for seed in (1, 1, 2))
    assert first == again != other
    assert {step.fault for step in islice(steps(3), 2 * len(Fault))} == set(Fault)


def test_a_gap_without_an_end_ends_where_the_next_alert_arrived() -> None:
    def with_missing(*numbers: int) -> Verdict:
        run = Run()
        run.lose(*numbers)
        run.target.excuses = 1
        value = {"target": {"uid": "u"}, "certain": False, "reason": "rotation_unseen", "detail": ""}
        run.ledger["gaps"] += 1
        run.add("gap", "notices", orjson.dumps(value | {"from": stamp(1), "to": None}))
        return run.verdict()

    assert with_missing(2).violations == []
    assert any("lost outside any gap: u/7" in violation for violation in with_missing(2, 7).violations)


def test_a_line_without_a_record_at_the_end_of_an_open_gap_may_have_been_read_or_not() -> None:
    for was_read in (True, False):
        run = Run()
        run.lose(3)
        run.target.excuses = 1
        if not was_read:
            forget_a_text_line(run)  # number 4, before number 5 arrived
            run.position -= 1
        value = {"target": {"uid": "u"}, "certain": False, "reason": "rotation_unseen", "detail": ""}
        run.ledger["gaps"] += 1
        run.add("gap", "notices", orjson.dumps(value | {"from": stamp(2), "to": None}))
        assert run.verdict().violations == []
        run.ledger["log_lines"] += 2
        run.ledger["lines"] += 2
        assert "log_lines is " in "".join(run.verdict().violations)
