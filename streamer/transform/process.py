"""From batches to publications: the state moves, and all that a transaction is to write comes out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from streamer.model import Alert, CoverageReport, LogBatch, Publication, Target
from streamer.transform.changes import drain, key_change, ledger_change
from streamer.transform.context import Context
from streamer.transform.outcome import BatchRun
from streamer.transform.parse import parse
from streamer.transform.plan import (
    ForgetFailedError,
    Plan,
    Refusal,
    Refused,
    WindowFailedError,
    forget_key,
)
from streamer.transform.stamp import NEVER
from streamer.transform.state import ShardState, TargetState
from streamer.transform.window import Window
from streamer.transform.writer import Writer

__all__ = ["Plan", "Processor", "Refusal"]

_HELD_NS: Final = 60 * 1_000_000_000
"""How often the dead letters that a limit has kept back are reported."""


class CoreStatus(NamedTuple):
    """How much a processor has open."""

    open_windows: int
    evidence_bytes: int
    """The size of what was counted and is to be reported: samples and variants' fields."""
    storms: int
    """Limits that have been exceeded for long."""
    volatile_fields: Mapping[str, list[str]]
    """By source that nobody has configured: fields that differ in nearly every alert."""


class Processor:
    """Turns batches into publications and keeps a shard's state in step with them.

    It decides by the batches and the state alone: the same input on the same state gives the same decisions,
    whatever the batches' boundaries. `now_ns`, our clock, bounds CreateTimes and says when what was counted is
    reported.
    Whatever a method returns must be committed, or the processor discarded.
    """

    def __init__(self, plan: Plan, state: ShardState, new_key: bytes = b"") -> None:
        """`new_key` is for the fingerprints of a state that has no key yet: 16 random bytes."""
        self._key_is_new = bool(new_key) and not state.key
        state.key = state.key or new_key
        state.shards = plan.shards or state.shards
        self._context = Context(plan, state)
        self._context.forget_kinds()
        self._held_told_ns = 0

    @property
    def state(self) -> ShardState:
        """The state as the last publication leaves it."""
        return self._context.state

    def core_status(self) -> CoreStatus:
        """How much is open, for the metrics."""
        usage, limiter = self.state.usage, self._context.limiter
        found: defaultdict[str, set[str]] = defaultdict(set)
        for tracked in self.state.tracked.values():
            for kind in tracked.kinds.known.values():
                if kind.volatile:
                    found[kind.source].update(kind.volatile)
        fields = {source: sorted(names) for source, names in sorted(found.items())}
        return CoreStatus(usage.windows, usage.evidence_bytes, limiter.storms(), fields)

    def process(
        self, batches: Iterable[LogBatch], now_ns: int, refused: Refused | None = None
    ) -> Publication:
        """What one transaction is to write for these batches; `refused` by record id."""
        writer = Writer(self._context, now_ns, refused)
        for batch in batches:
            BatchRun(self._context, self.state.take(batch.target), writer).take(batch)
        writer.save_memory()
        return self._seal(writer)

    def publish_due(
        self,
        now_ns: int,
        refused: Refused | None = None,
        *,
        everything: bool = False,
        most_bytes: int | None = None,
    ) -> Publication | None:
        """What is to be reported by our clock, or with `everything` all that was counted; None if there is nothing.

        Of summaries only some if they are too many, by `most_bytes` of what they are made of; the rest is due still.
        """
        writer = Writer(self._context, now_ns, refused)
        until_ns = NEVER if everything else now_ns
        for tracked, window in self._context.deduplicator.due(until_ns, most_bytes):
            writer.summarise(tracked, window, reason="end" if everything else _reason(window))
        for of, key, bucket in self._context.limiter.calm(until_ns):
            writer.settle(of, bucket, key)
        if everything or not 0 <= now_ns - self._held_told_ns < _HELD_NS:
            self._held_told_ns = now_ns
            for tracked in self.state.tracked.values():
                writer.tell_held(tracked)
        return self._seal(writer) if self._has_changed(writer) else None

    def cover(
        self, reports: Sequence[CoverageReport], now_ns: int, refused: Refused | None = None
    ) -> Publication:
        """Tell how well targets are covered."""
        writer = Writer(self._context, now_ns, refused)
        for report in reports:
            tracked = self.state.tracked.get(report.target.id)
            writer.cover(report, 0 if tracked is None else tracked.position.lines)
        return self._seal(writer)

    def publish_redefined(
        self, plan: Plan, now_ns: int, refused: Refused | None = None, *, most_bytes: int | None = None
    ) -> Publication | None:
        """Under another plan, what was counted may have other names, or is not counted at all: report that now.

        Windows whose key is the same under `plan` stay as they are, unless the core fails at one. Of the others, those
        that have counted nothing have nothing to report: no alert is of their group any more, and they end by
        themselves. It is reported where `plan` leads: where records went so far may be closed. None if there is nothing
        to report; where it is more than `most_bytes`, by what it is made of, the rest is for the next call.
        """
        size = 0
        other = Context(plan, self.state)
        writer = Writer(other, now_ns, refused)
        for tracked in self.state.tracked.values():
            for window in list(tracked.windows.counting.values()):
                repeats = window.repeats
                assert repeats is not None
                if most_bytes is not None and size >= most_bytes:
                    break
                if writer.has_failed_at(tracked, window) or not self._is_same(tracked, window, now_ns, other):
                    size += repeats.evidence_bytes
                    writer.summarise(tracked, window, reason="reload", final=True)
                    tracked.windows.drop(window.group)
        return self._seal(writer) if self._has_changed(writer) else None

    def _is_same(self, tracked: TargetState, window: Window, now_ns: int, other: Context) -> bool:
        """Whether a window's alerts are counted in it under another plan as well."""
        repeats = window.repeats
        assert repeats is not None
        try:
            sample = parse(repeats.sample, now_ns, self._context.stamps)
            assert isinstance(sample, Alert)  # it was one when it was counted
            before, after = (one.treatments_of(tracked).of(sample) for one in (self._context, other))
            same = before.selection.fingerprint(sample) == after.selection.fingerprint(sample)
        except Exception as error:
            raise WindowFailedError(tracked.name, window.group) from error
        return same and after.deduplicated

    def replan(self, plan: Plan) -> None:
        """Go on under another plan; what it calls by other names must have been reported."""
        self._context = Context(plan, self.state)
        self._context.forget_kinds()

    def forget(self, targets: Sequence[Target], now_ns: int, refused: Refused | None = None) -> Publication:
        """Drop what is known of targets that are gone; what was counted of them is reported first.

        One at which the core has failed before is kept.
        """
        writer = Writer(self._context, now_ns, refused)
        for target in targets:
            tracked = self.state.tracked.get(target.id)
            if tracked is None or (refused and forget_key(target.id) in refused):
                continue
            try:
                self._forget(writer, tracked)
            except Exception as error:
                raise ForgetFailedError(target.id) from error
        return self._seal(writer)

    def _forget(self, writer: Writer, tracked: TargetState) -> None:
        for window in list(tracked.windows.counting.values()):
            writer.summarise(tracked, window, reason="gone", final=True)
        for bucket in (*tracked.limits.values(), *([tracked.shares.storm] if tracked.shares else [])):
            if bucket.held:
                writer.settle(tracked, bucket)
        writer.tell_held(tracked)
        self._context.forget(tracked.target)

    def _has_changed(self, writer: Writer) -> bool:
        return bool(writer.publication.records or self.state.journal.entries)

    def _seal(self, writer: Writer) -> Publication:
        """Add the changes of state, the ledger last."""
        publication, state = writer.publication, self.state
        publication.changes += drain(state, writer.now_ns)
        state.sequence += 1
        if self._key_is_new:
            self._key_is_new = False
            publication.changes.append(key_change(state))
        publication.changes.append(ledger_change(state))
        publication.ledger = state.ledger.copy()
        return publication


def _reason(window: Window) -> str:
    """What it is that is due of a silent target."""
    repeats = window.repeats
    is_evidence = repeats is not None and repeats.evidence_due_ns < window.end_ns
    return "evidence" if is_evidence else "silence"
