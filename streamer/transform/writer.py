"""One publication in the making, and the records in it that are not a line's own: summaries and health records."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from streamer.model import Alert, CoverageReport, Health, Publication, Reason, Record, RecordKind, Target
from streamer.transform.context import Context
from streamer.transform.limit import Bucket, StormBucket
from streamer.transform.parse import parse
from streamer.transform.plan import (
    EVERY_WINDOW,
    MOST_FAILURES,
    RecordFailedError,
    Refused,
    WindowFailedError,
    record_key,
    window_key,
)
from streamer.transform.repeats import Repeats
from streamer.transform.state import TargetState
from streamer.transform.summary import Part, summary_values, unsummarised
from streamer.transform.volatile import Kind
from streamer.transform.window import Window

_SPLIT: Final = 8
"""In how many times more pieces a part is reported of which one is too large."""
_MOST_SPLITS: Final = 4
"""By then each variant has a summary of its own."""
_MOST_SUMMARY_BYTES: Final = 512 * 1024
"""Half of what Kafka takes by default. Variants that differ in many fields may make a summary much longer than what it
is made of: each shows its value of every field in which any of them differs."""


class Writer:
    """Collects one publication; makes the records that are not a line's own."""

    def __init__(self, context: Context, now_ns: int, refused: Refused | None) -> None:
        self.publication = Publication()
        self.now_ns = now_ns
        self.refused: Refused = refused or {}
        self._context = context
        self._ledger = context.state.ledger
        context.deduplicator.follow(now_ns)

    def own(self, record: Record) -> None:
        """Add one of our own records; with the present time where Kafka refused that of its line."""
        refusal = self.refused.get(record.id)
        if refusal is not None and Reason.INVALID_TIMESTAMP in refusal.reasons:
            record = record._replace(timestamp_ms=self.now_ns // 1_000_000)
        self.publication.records.append(record)

    def summarise(self, tracked: TargetState, window: Window, *, reason: str, final: bool = False) -> None:
        """Report what a window has counted since it was last reported, if anything.

        Raises `WindowFailedError`; where the core has failed at this window before, a health record takes the place of
        its summary.
        """
        if (repeats := window.repeats) is None:
            return
        try:
            if failures := self._failures_at(tracked, window):
                self._report_unsummarised(tracked, window, repeats, failures)
            else:
                self._summaries(tracked, window, repeats, reason, final)
            tracked.windows.report(window, shows=not final)
        except Exception as error:
            raise WindowFailedError(tracked.name, window.group) from error
        self._ledger.summarised += repeats.count

    def _summaries(
        self, tracked: TargetState, window: Window, repeats: Repeats, reason: str, final: bool
    ) -> None:
        sample = parse(repeats.sample, window.head_ns, self._context.stamps)
        assert isinstance(sample, Alert)  # it was one when it was counted
        encoder = self._context.encoder(tracked.target)
        part = Part(sample, window, repeats, encoder.head_id(window.head), reason, final)
        for tries in range(_MOST_SPLITS + 1):
            values = summary_values(part, _SPLIT**tries, as_small_as_possible=tries == _MOST_SPLITS)
            ids = [
                encoder.summary_id(repeats.group_id, window.head, window.part, tries, number)
                for number in range(1, len(values) + 1)
            ]
            if not any(self._is_too_large(*piece) for piece in zip(values, ids, strict=True)):
                break
        topic = self._context.plan.summaries_topic
        for value, identity in zip(values, ids, strict=True):
            self.own(
                encoder.summary(value, sample, identity, topic, part.last_ns, repeats.line_ns, self.now_ns)
            )
        self._ledger.summaries += len(values)

    def _failures_at(self, tracked: TargetState, window: Window) -> int:
        """How often the core has failed at a window, or is taken to have."""
        if not self.refused:
            return 0
        keys = (window_key(tracked.name, window.group), window_key(tracked.name), EVERY_WINDOW)
        return max(self._failures(key) for key in keys)

    def has_failed_at(self, tracked: TargetState, window: Window) -> bool:
        """Whether the core has failed at a window."""
        return self._failures_at(tracked, window) > 0

    def _failures(self, key: str) -> int:
        failure = self.refused.get(key)
        return 0 if failure is None else failure.times

    def _report_unsummarised(
        self, tracked: TargetState, window: Window, repeats: Repeats, failures: int
    ) -> None:
        encoder, topic = self._context.encoder(tracked.target), self._context.plan.health_topic
        name = f"{repeats.group_id.hex()}/{window.head.hex()}/{window.part}"
        for with_text in (failures < MOST_FAILURES, False):
            found = unsummarised(repeats, encoder.head_id(window.head), with_text=with_text)
            record = encoder.internal_error(
                RecordKind.SUMMARY, found, name, topic, repeats.line_ns, self.now_ns
            )
            if not self._is_too_large(record.value, record.id):
                break
        self.own(record)
        self._ledger.health_records += 1

    def _abandon(self, tracked: TargetState) -> None:
        """Report what all windows of a target have counted, and forget them: what follows passes, as at a start."""
        for window in list(tracked.windows.counting.values()):
            self.summarise(tracked, window, reason="fault", final=True)
        tracked.windows.clear()

    def _health(
        self, health: Health, target: Target, name: str, count: int, make: Callable[[], Record]
    ) -> None:
        """Add a health record; where the core has failed at it before, one that says so and has its count."""
        try:
            if self.refused and self._failures(record_key(health, target.id, name)):
                encoder, topic = self._context.encoder(target), self._context.plan.health_topic
                sequence = self._context.state.sequence
                record = encoder.internal_error(
                    health, {"count": count}, f"{name}/{sequence}", topic, self.now_ns, self.now_ns
                )
            else:
                record = make()
            self.own(record)
        except Exception as error:
            raise RecordFailedError(health, target.id, name) from error
        self._ledger.health_records += 1

    def _is_too_large(self, value: bytes, identity: str) -> bool:
        """Whether a summary is longer than we let them be, or Kafka has refused it for its size."""
        if len(value) > _MOST_SUMMARY_BYTES:
            return True
        refusal = self.refused.get(identity)
        return refusal is not None and Reason.RECORD_TOO_LARGE in refusal.reasons

    def end_windows(self, tracked: TargetState, elapsed_ns: int) -> None:
        """By the target's clock, let the windows end whose time is over, and report the evidence that is due."""
        if self.refused and self._failures(window_key(tracked.name)):
            self._abandon(tracked)
            return
        while (ended := tracked.windows.next_ended(elapsed_ns)) is not None:
            self.summarise(tracked, ended, reason="window_end", final=True)
            tracked.windows.end(ended)
        while (due := tracked.windows.next_evidence(elapsed_ns)) is not None:
            self.summarise(tracked, due, reason="evidence")

    def evict(self) -> None:
        """Forget windows where there are too many; what they have counted is reported."""
        while (found := self._context.deduplicator.to_evict()) is not None:
            tracked, groups = found
            try:
                if self.refused and self._failures(window_key(tracked.name)):
                    self._abandon(tracked)
                    continue
                for group in groups:
                    if (window := tracked.windows.counting.get(group)) is not None:
                        self.summarise(tracked, window, reason="evicted", final=True)
                    tracked.windows.drop(group)
            except Exception as error:  # may be another target's than the line that is at hand
                raise WindowFailedError(tracked.name) from error
            self.publication.evictions += len(groups)

    def save_memory(self) -> None:
        """Report early where samples and fields take too much memory."""
        while (found := self._context.deduplicator.over_budget()) is not None:
            for group in found[1]:
                self.summarise(found[0], found[0].windows.counting[group], reason="memory")

    def settle(self, tracked: TargetState | None, bucket: StormBucket, key: bytes = b"") -> None:
        """Let a bucket that is calm again start again, and report it if there was a storm."""
        if bucket.storm:
            self.storm(tracked, bucket, ended=True)
        bucket.settle()
        if tracked is not None:
            tracked.note_limit(key, bucket)

    def storm(self, tracked: TargetState | None, bucket: StormBucket, *, ended: bool) -> None:
        """Say that a storm has begun or ended."""
        target = tracked or next(iter(self._context.state.tracked.values()), None)
        if target is None:
            return
        encoder, topic = self._context.encoder(target.target), self._context.plan.health_topic
        lines, name = target.position.lines, f"{bucket.limit}/{bucket.name}"
        self._health(
            Health.STORM,
            target.target,
            name,
            bucket.held,
            lambda: encoder.storm(bucket, lines, topic, self.now_ns, ended=ended),
        )

    def volatile_fields(self, tracked: TargetState, kind: Kind, line_ns: int) -> None:
        """Say which fields of a source that nobody has configured differ in nearly every alert."""
        encoder, topic = self._context.encoder(tracked.target), self._context.plan.health_topic
        self._health(
            Health.VOLATILE_FIELDS,
            tracked.target,
            f"{kind.source}/{kind.rule}",
            len(kind.volatile),
            lambda: encoder.volatile_fields(kind, topic, line_ns, self.now_ns),
        )
        self.publication.volatile_fields.append((tracked.target, kind.source, kind.rule, kind.volatile))

    def cover(self, report: CoverageReport, lines: int) -> None:
        """Say how well a target is covered."""
        encoder, topic = self._context.encoder(report.target), self._context.plan.health_topic
        sequence = self._context.state.sequence
        self._health(
            Health.COVERAGE,
            report.target,
            report.coverage,
            lines,
            lambda: encoder.coverage(report, lines, sequence, topic, self.now_ns),
        )

    def tell_held(self, tracked: TargetState) -> None:
        """Say how many dead letters a limit has kept back."""
        for reason, bucket in tracked.dead_letters.items():
            if bucket.held:
                self._held(tracked, reason, bucket)
                tracked.dead_letter_bucket(reason, 0).held = 0

    def _held(self, tracked: TargetState, reason: Reason, bucket: Bucket) -> None:
        encoder, topic = self._context.encoder(tracked.target), self._context.plan.health_topic
        lines = tracked.position.lines
        self._health(
            Health.DEAD_LETTERS_LIMITED,
            tracked.target,
            reason,
            bucket.held,
            lambda: encoder.dead_letters_held(reason, bucket, lines, topic, self.now_ns),
        )
