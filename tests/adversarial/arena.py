"""Runs an attack against the real core, as a shard would, and judges whether each planted alert is shown in time.

The core is discarded and loaded from what was committed at random points, before or after a commit; lines come in
random batches; our clock runs along with the lines' and drives what is due by it. The target's clock is computed here
a second time, and deadlines follow from the settings alone: nothing rests on the core's word.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, NamedTuple

import orjson

from streamer.model import Alert, LogBatch, Publication, Record
from streamer.transform.load import load
from streamer.transform.parse import parse
from streamer.transform.plan import Plan
from streamer.transform.process import Processor
from streamer.transform.stamp import LAST_NS, StampReader
from tests.schemas import check_records
from tests.unit.transform.samples import NOW_NS, SECOND_NS, START_NS, Feed

GRACE_NS: Final = 10 * SECOND_NS
"""By how much evidence may be reported later than the first value of `window_seconds`."""
_HOUR_NS: Final = 3600 * SECOND_NS


class Line(NamedTuple):
    """A line of the log, `step_ns` after the one before it; before it comes, our clock is set by `clock_ns`."""

    body: bytes
    step_ns: int = 1_000_000
    clock_ns: int = 0


class Demand(StrEnum):
    """What must become of a planted alert. One of a protected priority is always published at once."""

    SHOWN = "shown"  # published whole at once, or reported in time in a field that can be queried
    WHOLE = "whole"  # published whole at once, be it on the overflow topic
    ON_TOPIC = "on its topic"  # published whole at once, not on the overflow topic


class Mark(NamedTuple):
    """A planted alert: the index of its line, and the key of `output_fields` that tells it from all others.

    Without a key it has no such fields: it can be shown whole only.
    """

    at: int
    place: str | None
    demand: Demand = Demand.SHOWN


@dataclass(frozen=True)
class Attack:
    """A log in which the marked lines are to be hidden."""

    plan: Plan
    lines: Sequence[Line]
    marks: Sequence[Mark]
    may_filter: bool = False
    most_lines: int = 100
    """Of a batch."""


class HiddenError(AssertionError):
    """A marked alert is nowhere, or was shown too late."""


@dataclass(eq=False)
class _Planted:
    """A marked alert that has come."""

    mark: Mark
    alert: Alert
    value: bytes | None
    """As JSON, so that `1`, `true` and `"1"` differ."""
    elapsed_ns: int
    real_ns: int = 0
    topic: str | None = None
    """Where it was published whole."""
    is_reported: bool = False

    @property
    def is_shown(self) -> bool:
        return self.topic is not None or self.is_reported


class Arena:
    """One attack's course. `seed` decides about batches, crashes and when our clock is asked."""

    def __init__(self, attack: Attack, seed: int, *, crashes: float = 0.1) -> None:
        self._attack = attack
        self._plan = attack.plan
        self._rng = random.Random(seed)
        self._crashes = crashes
        self._stored: dict[str, bytes] = {}
        self._processor = self._loaded()
        self._feed = Feed()
        self._line_ns, self._last_ns, self._elapsed_ns = START_NS, 0, 0
        self._real_ns, self._clock_ns = 0, NOW_NS
        self._within_ns = self._plan.dedupe.window_ns[0] + GRACE_NS
        self._marks = {mark.at: mark for mark in attack.marks}
        self._by_body: dict[bytes, _Planted] = {}
        self._by_value: dict[tuple[str, bytes], _Planted] = {}
        self._places = {mark.place for mark in attack.marks}
        self._open = deque[_Planted]()
        self._summarised = 0
        self._checks_records = seed % 40 == 0  # the schemas take longer than all else
        assert len(self._marks) == len(attack.marks) > 0

    def run(self) -> None:
        """Send everything, then wait until every marked alert must have been shown; raises if one is hidden."""
        lines, at = self._attack.lines, 0
        while at < len(lines):
            count = min(self._rng.choice((1, 1, 2, 5, 20, 100)), self._attack.most_lines)
            clocks = [n for n in range(at + 1, min(at + count, len(lines))) if lines[n].clock_ns]
            end = clocks[0] if clocks else at + count  # our clock is set between two batches
            self._send(at, lines[at:end])
            at = end
        self._wait(self._within_ns)
        self._commit(self._processor.publish_due(self._now_ns, everything=True))
        assert self._processor.state.ledger.deduplicated == self._summarised
        assert not self._open, "a deadline that was not checked"

    @property
    def _now_ns(self) -> int:
        return self._clock_ns + self._real_ns

    def _send(self, first: int, lines: Sequence[Line]) -> None:
        self._clock_ns += lines[0].clock_ns
        batch, planted, passed_ns = self._batch(first, lines)
        self._wait(passed_ns)
        for found in planted:
            found.real_ns = self._real_ns
            self._by_body[found.alert.body] = found
            if found.mark.place is not None and found.value is not None:
                self._by_value[found.mark.place, found.value] = found
        if self._rng.random() < self._crashes:  # before the commit: the same input once more
            self._processor.process([batch], self._now_ns)
            self._processor = self._loaded()
        self._commit(self._processor.process([batch], self._now_ns))
        for found in planted:
            self._check_at_once(found)
            self._open.append(found)
        self._check_by_lines()
        if self._rng.random() < self._crashes:
            self._processor = self._loaded()

    def _batch(self, first: int, lines: Sequence[Line]) -> tuple[LogBatch, list[_Planted], int]:
        """A batch, what is planted in it, and how much time passed meanwhile."""
        planted, passed_ns, entries = list[_Planted](), 0, []
        for index, line in enumerate(lines, start=first):
            self._line_ns += line.step_ns
            passed_ns += max(0, min(line.step_ns, _HOUR_NS))
            entries.append((self._line_ns, line.body))
            if self._line_ns >= self._last_ns:
                if self._last_ns:
                    self._elapsed_ns = min(self._elapsed_ns + self._line_ns - self._last_ns, LAST_NS)
                self._last_ns = self._line_ns
            elif self._last_ns - self._line_ns > 10 * SECOND_NS:
                self._last_ns = self._line_ns
            if (mark := self._marks.get(index)) is not None:
                planted.append(self._planted(mark, line.body))
        return self._feed.batch(*entries), planted, passed_ns

    def _planted(self, mark: Mark, body: bytes) -> _Planted:
        alert = parse(body, self._line_ns, StampReader())
        assert isinstance(alert, Alert), "a marked line must be an alert"
        value = None if mark.place is None else orjson.dumps(alert.fields[mark.place])
        return _Planted(mark, alert, value, self._elapsed_ns)

    def _check_at_once(self, found: _Planted) -> None:
        """Judge what an alert's own transaction must have published."""
        if found.topic is None:
            if found.alert.priority in self._plan.limits.protected:
                raise HiddenError(f"{found.mark}: of a protected priority, and not published at once")
            if found.mark.demand is not Demand.SHOWN:
                raise HiddenError(f"{found.mark}: not published at once")
        elif found.mark.demand is Demand.ON_TOPIC and found.topic == self._plan.overflow_topic:
            raise HiddenError(f"{found.mark}: on the overflow topic")

    def _check_by_lines(self) -> None:
        """Judge by the target's clock; what came first is due first."""
        while self._open and (
            self._open[0].is_shown or self._elapsed_ns - self._open[0].elapsed_ns >= self._within_ns
        ):
            if not (found := self._open.popleft()).is_shown:
                raise HiddenError(f"{found.mark}: not reported in time, by the lines' times")

    def _wait(self, passed_ns: int) -> None:
        """Let our clock run; it is asked at random, and where something must have been reported."""
        until_ns = self._real_ns + passed_ns
        while self._real_ns < until_ns:
            self._real_ns = min(until_ns, self._real_ns + self._rng.randrange(1, 100 * SECOND_NS))
            while self._open and self._real_ns - self._open[0].real_ns >= self._within_ns:
                if not (found := self._open.popleft()).is_shown:
                    due_ns = self._clock_ns + found.real_ns + self._within_ns
                    self._publish_due(due_ns)
                    if not found.is_shown:
                        raise HiddenError(f"{found.mark}: not reported in time, by our clock")
            if self._rng.random() < 0.3:
                self._publish_due(self._now_ns)

    def _publish_due(self, now_ns: int) -> None:
        """As a shard does: all that is due, in transactions of a bounded size."""
        most_bytes = self._rng.choice((1, 4000, 1_000_000))
        while (publication := self._processor.publish_due(now_ns, most_bytes=most_bytes)) is not None:
            self._commit(publication)

    def _commit(self, publication: Publication | None) -> None:
        """Store, look for the marked alerts, and hold the books to what is there."""
        if publication is None:
            return
        for key, value in publication.changes:
            if value is None:
                self._stored.pop(key, None)
            else:
                self._stored[key] = value
        for record in publication.records:
            self._look(record)
        if self._checks_records:
            check_records(publication.records)
        self._audit(publication)

    def _look(self, record: Record) -> None:
        headers = dict(record.headers)
        if headers["kind"] == b"alert":
            found = self._by_body.get(record.value)
            if found is not None and found.topic is None:
                found.topic = record.topic
                if record.topic == self._plan.overflow_topic and (
                    found.alert.priority in self._plan.limits.protected
                ):
                    limited_by = headers["limited_by"].decode()
                    assert limited_by in {"topic", "overall"}, f"protected, and limited by {limited_by}"
        elif headers["kind"] == b"summary":
            assert record.topic.endswith(".summaries"), "a topic of alerts has nothing else"
            value = orjson.loads(record.value)
            self._summarised += value["summary"]["count"]
            for fields in (
                value["output_fields"],
                *[each["fields"] for each in value["summary"]["variants"]],
            ):
                self._look_into(fields)

    def _look_into(self, fields: dict[str, Any]) -> None:
        for name in self._places & fields.keys():
            found = self._by_value.get((str(name), orjson.dumps(fields[str(name)])))
            if found is not None:
                found.is_reported = True

    def _audit(self, publication: Publication) -> None:
        ledger, state = publication.ledger, self._processor.state
        status = self._processor.core_status()
        every = [tracked.windows for tracked in state.tracked.values()]
        counted = [one.repeats for windows in every for one in windows.counting.values() if one.repeats]
        assert ledger.balanced, ledger
        assert self._attack.may_filter or not ledger.filtered, "filtered, though no filter means it"
        assert ledger.summarised == self._summarised
        assert ledger.deduplicated == self._summarised + sum(repeats.count for repeats in counted)
        assert status.open_windows == sum(map(len, every)) <= self._plan.dedupe.max_windows
        assert status.evidence_bytes == sum(repeats.evidence_bytes for repeats in counted)
        assert status.evidence_bytes <= self._plan.dedupe.max_evidence_bytes
        buckets = sum(len(tracked.limits) for tracked in state.tracked.values())
        assert buckets <= self._plan.limits.max_buckets

    def _loaded(self) -> Processor:
        # A new key each time: the stored one must be taken, or what was counted would be a first again.
        return Processor(self._plan, load("prod-eu-1", self._stored.items()), self._rng.randbytes(16))
