"""Runs an attack against the real core, as a shard would, and judges whether the marked alert can be seen.

The core is discarded and loaded from what was committed at random points, before or after a commit; lines come in
random batches; our clock runs on beside the lines' and drives what is told by it. The target's clock is computed here
a second time, so that the deadline of what was counted does not rest on the core's word.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import orjson

from streamer.model import Alert, LogBatch, Publication, Record
from streamer.transform.load import load
from streamer.transform.parse import parse
from streamer.transform.plan import Plan
from streamer.transform.process import Processor
from streamer.transform.stamp import LAST_NS, StampReader
from tests.unit.transform.samples import FALCO, NOW_NS, SECOND_NS, START_NS, Feed

_KEY: Final = bytes(range(16))
TOLD_WITHIN_NS: Final = 10 * SECOND_NS
"""By how much of our clock what a window has counted may be told after its end."""


class Line(NamedTuple):
    """A line of the log, `step_ns` after the one before it."""

    body: bytes
    step_ns: int = 1_000_000


@dataclass(frozen=True)
class Attack:
    """A log in which line `marked` is to be hidden.

    It can be seen if its bytes are published, or stand in for by one of `alike`, or if a summary holds `marker`.
    """

    plan: Plan
    lines: Sequence[Line]
    marked: int
    marker: bytes
    alike: frozenset[bytes] = frozenset()


class HiddenError(AssertionError):
    """The marked alert is nowhere."""


class Arena:
    """One attack's course. `seed` decides about batches, crashes and when our clock is asked."""

    def __init__(self, attack: Attack, seed: int, *, crashes: float = 0.1) -> None:
        self._attack = attack
        self._rng = random.Random(seed)
        self._crashes = crashes
        self._stored: dict[str, bytes] = {}
        self._processor = self._loaded()
        self._feed = Feed()
        self._line_ns, self._last_ns, self._elapsed_ns = START_NS, 0, 0
        self._now_ns = NOW_NS
        self._deadline_ns: int | None = None
        self._summarised = 0
        self.is_seen = False

    def run(self) -> None:
        """Send everything, then wait until the marked alert must have been told; raises if it is hidden."""
        lines, at = self._attack.lines, 0
        while at < len(lines):
            count = self._rng.choice((1, 1, 2, 5, 20, 100))
            self._send(at, lines[at : at + count])
            at += count
        if self._deadline_ns is not None:
            self._wait(self._deadline_ns - self._now_ns)
        self._told(self._processor.publish_due(self._now_ns, everything=True))
        assert self._processor.state.ledger.deduplicated == self._summarised

    def _send(self, first: int, lines: Sequence[Line]) -> None:
        batch, marked_elapsed_ns, passed_ns = self._batch(first, lines)
        self._wait(passed_ns)
        if self._rng.random() < self._crashes:  # before the commit: the same input once more
            self._processor.process([batch], self._now_ns)
            self._processor = self._loaded()
        self._told(self._processor.process([batch], self._now_ns))
        if marked_elapsed_ns is not None and not self.is_seen:
            self._deadline_ns = self._now_ns + self._remaining_ns(marked_elapsed_ns) + TOLD_WITHIN_NS
        if self._rng.random() < self._crashes:
            self._processor = self._loaded()

    def _batch(self, first: int, lines: Sequence[Line]) -> tuple[LogBatch, int | None, int]:
        """A batch, the target's clock at the marked line if it is in there, and how much time passed meanwhile."""
        marked_elapsed_ns, passed_ns, entries = None, 0, []
        for index, line in enumerate(lines, start=first):
            self._line_ns += line.step_ns
            passed_ns += max(0, min(line.step_ns, 3600 * SECOND_NS))
            entries.append((self._line_ns, line.body))
            if self._line_ns >= self._last_ns:
                if self._last_ns:
                    self._elapsed_ns = min(self._elapsed_ns + self._line_ns - self._last_ns, LAST_NS)
                self._last_ns = self._line_ns
            elif self._last_ns - self._line_ns > 10 * SECOND_NS:
                self._last_ns = self._line_ns
            if index == self._attack.marked:
                marked_elapsed_ns = self._elapsed_ns
        return self._feed.batch(*entries), marked_elapsed_ns, passed_ns

    def _remaining_ns(self, elapsed_ns: int) -> int:
        """How long the window that counts the marked alert had to run when it came."""
        body = self._attack.lines[self._attack.marked].body
        alert = parse(body, self._line_ns, StampReader())
        assert isinstance(alert, Alert), "the marked line must be an alert"
        tracked = self._processor.state.tracked[FALCO.id]
        treatment = self._processor._context.treatments_of(tracked).of(alert)
        fingerprint = treatment.selection.fingerprint(alert)
        if fingerprint is None:
            raise HiddenError("not published although nothing can count it")
        window = tracked.windows.get(fingerprint.group)
        if window is None or window.ended or not window.start_ns <= elapsed_ns < window.end_ns:
            raise HiddenError("neither published nor counted in an open window")
        return window.end_ns - elapsed_ns

    def _wait(self, passed_ns: int) -> None:
        """Let our clock run; it is asked at random, and where something must have been told."""
        until_ns = self._now_ns + passed_ns
        while self._now_ns < until_ns:
            self._now_ns = min(until_ns, self._now_ns + self._rng.randrange(1, 100 * SECOND_NS))
            if self._deadline_ns is not None and self._now_ns >= self._deadline_ns:
                self._told(self._processor.publish_due(self._deadline_ns))
                if not self.is_seen:
                    raise HiddenError("not told in time")
                self._deadline_ns = None
            elif self._rng.random() < 0.3:
                self._told(self._processor.publish_due(self._now_ns))

    def _told(self, publication: Publication | None) -> None:
        """Commit, look for the marked alert, and hold the books to what is there."""
        if publication is None:
            return
        for key, value in publication.changes:
            if value is None:
                self._stored.pop(key, None)
            else:
                self._stored[key] = value
        for record in publication.records:
            self._look(record)
        self._audit(publication)

    def _look(self, record: Record) -> None:
        kind = dict(record.headers)["kind"]
        attack = self._attack
        if kind == b"alert":
            body = attack.lines[attack.marked].body
            self.is_seen |= record.value == body or record.value in attack.alike
        elif kind == b"summary":
            self._summarised += orjson.loads(record.value)["summary"]["count"]
            self.is_seen |= attack.marker in record.value

    def _audit(self, publication: Publication) -> None:
        ledger, state = publication.ledger, self._processor.state
        deduplicator, limiter = self._processor._context.deduplicator, self._processor._context.limiter
        every = [tracked.windows for tracked in state.tracked.values()]
        counted = [repeats for windows in every for repeats in windows.repeats.values()]
        assert ledger.balanced, ledger
        assert ledger.summarised == self._summarised
        assert ledger.deduplicated == self._summarised + sum(repeats.count for repeats in counted)
        assert deduplicator.open_windows == sum(map(len, every)) <= self._attack.plan.dedupe.max_windows
        assert deduplicator.evidence_bytes == sum(repeats.evidence_bytes for repeats in counted)
        assert deduplicator.evidence_bytes <= self._attack.plan.dedupe.max_evidence_bytes
        buckets = sum(len(tracked.limits) for tracked in state.tracked.values())
        assert limiter._buckets == buckets <= self._attack.plan.limits.max_buckets

    def _loaded(self) -> Processor:
        # A new key each time: the stored one must be taken, or what was counted would be a first again.
        return Processor(self._attack.plan, load("prod-eu-1", self._stored.items()), self._rng.randbytes(16))
