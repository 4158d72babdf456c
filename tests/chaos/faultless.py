"""A run of a faultless worker, made up without a server: the judge's own tests spoil it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Self

import orjson

from tests.chaos.judge import Seen, Verdict, judge
from tests.chaos.load import Change, Epoch, Event, Journal, Kind, Line, TargetLog

NAME, SECOND = "c", 1_000_000_000
TEXT, BROKEN = 4, 5
"""The lines that are no alerts."""
COUNTERS = (
    *("lines", "alerts", "log_lines", "invalid"),
    *("filtered", "deduplicated", "limited", "published"),
    *("dead_lettered", "dead_letter_limited"),
    *("summaries", "health_records", "gaps", "fragments"),
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

    def lose(self, *numbers: int) -> Self:
        """As if these alerts had never been read."""
        bodies = {line(number).body for number in numbers}
        self.records = [record for record in self.records if record.value not in bodies]
        for counter in ("lines", "alerts", "published"):
            self.ledger[counter] -= len(numbers)
        self.position -= len(numbers)
        return self

    def forget_a_text_line(self) -> None:
        """As if the one line that is text had never been read."""
        self.ledger["lines"] -= 1
        self.ledger["log_lines"] -= 1

    def lose_between(self, low: int, high: int) -> Self:
        """As if nothing between two lines had ever been read, of whatever kind."""
        numbers = range(low + 1, high)
        if TEXT in numbers:
            self.forget_a_text_line()
            self.position -= 1
        if BROKEN in numbers:
            self.records = [record for record in self.records if record.topic != f"{NAME}.dead-letter"]
            for counter in ("lines", "invalid", "dead_lettered"):
                self.ledger[counter] -= 1
            self.position -= 1
        return self.lose(*(number for number in numbers if number not in (TEXT, BROKEN)))

    def gap(
        self,
        low: int | None,
        high: int | None,
        *evidence: dict[str, Any],
        certain: bool = False,
        reason: str = "rotation_unseen",
    ) -> Self:
        """Report a gap between two lines."""
        self.ledger["health_records"] += 1
        self.ledger["gaps"] += 1
        value = {
            "health": "gap",
            "target": {"uid": "u"},
            "certain": certain,
            "reason": reason,
            "detail": "",
            "from": None if low is None else stamp(low),
            "to": None if high is None else stamp(high),
            "evidence": evidence,
        }
        self.add("health", "health", orjson.dumps(value))
        return self

    def change(self, what: Change, after: int, *, disturbed: bool = True) -> Self:
        """Something was done to the log behind this line."""
        self.target.changes.append(Event(what, line(after).at_ns + SECOND // 2, Epoch(disturbed)))
        return self

    def hole(self) -> Self:
        """Three restarts behind line 7: what the instances between printed is certainly out of reach."""
        for after in (7, 7, 8):
            self.change(Change.RESTARTED, after)
        self.target.holes = 1
        return self

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
    kind = {TEXT: Kind.TEXT, BROKEN: Kind.BROKEN}.get(number, Kind.ALERT)
    return Line("u", number, (number + 1) * SECOND, kind, b'{"priority":"Warning","n":%d}' % number)


def stamp(number: int) -> str:
    return f"1970-01-01T00:00:{number + 1:02}.000000000Z"


# Evidence as gap records state it.
NOWHERE = {"case": "position nowhere, not restarted since", "restarts": 0}
ROTATED = {"case": "position nowhere, restarted once since", "restarts": 1}
SKIPPED = {"case": "stream ended cleanly, container restarted twice since", "restarts": 2}
NO_PREVIOUS = {"case": "position nowhere, restarted twice since, no previous log", "restarts": 2}
FIRST_SKIPPED = {
    "case": "first line to come, an instance came and went unread since the target is on record",
    "restarts": 2,
}
HOLE = {"case": "position nowhere, an instance came and went unread since", "restarts": 3}
BEHIND = {"case": "reading was behind", "behind_seconds": 20.5}
LATE = {
    "case": "lines arrived late and then skipped a while",
    "late_seconds": 9.0,
    "skipped_seconds": 9.0,
}
BEGINS_LATE = {"case": "the log does not begin with its container"}
GONE = {"case": "pod gone, log perhaps not read to its end", "container_running": False}
KILLED = GONE | {"container_running": True}
