"""One publication in the making, and the records in it that are not line's own: summaries and health records."""

from __future__ import annotations

from typing import Final

from streamer.model import Alert, CoverageReport, Publication, Reason, Record
from streamer.transform.context import Context
from streamer.transform.limit import StormBucket
from streamer.transform.parse import parse
from streamer.transform.plan import Refused
from streamer.transform.state import TargetState
from streamer.transform.summary import Part, summary_values
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
    """Collects one publication; makes the records that are not line's own."""

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
        """Report what a window has counted since it was last reported, if anything."""
        if (repeats := window.repeats) is None:
            return
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
        tracked.windows.report(window, shows=not final)
        self._ledger.summaries += len(values)
        self._ledger.summarised += repeats.count

    def _is_too_large(self, value: bytes, identity: str) -> bool:
        """Whether a summary is longer than we let them be, or Kafka has refused it for its size."""
        if len(value) > _MOST_SUMMARY_BYTES:
            return True
        refusal = self.refused.get(identity)
        return refusal is not None and Reason.RECORD_TOO_LARGE in refusal.reasons

    def end_windows(self, tracked: TargetState, elapsed_ns: int) -> None:
        """By the target's clock, let the windows end whose time is over, and report the evidence that is due."""
        while (ended := tracked.windows.next_ended(elapsed_ns)) is not None:
            self.summarise(tracked, ended, reason="window_end", final=True)
            tracked.windows.end(ended)
        while (due := tracked.windows.next_evidence(elapsed_ns)) is not None:
            self.summarise(tracked, due, reason="evidence")

    def evict(self) -> None:
        """Forget windows where there are too many; what they have counted is reported."""
        while (found := self._context.deduplicator.to_evict()) is not None:
            tracked, groups = found
            for group in groups:
                if (window := tracked.windows.counting.get(group)) is not None:
                    self.summarise(tracked, window, reason="evicted", final=True)
                tracked.windows.drop(group)
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
        self.own(encoder.storm(bucket, target.position.lines, topic, self.now_ns, ended=ended))
        self._ledger.health_records += 1

    def volatile_fields(self, tracked: TargetState, kind: Kind, line_ns: int) -> None:
        """Say which fields of a source that nobody has configured differ in nearly every alert."""
        encoder, topic = self._context.encoder(tracked.target), self._context.plan.health_topic
        self.own(encoder.volatile_fields(kind, topic, line_ns, self.now_ns))
        self.publication.volatile_fields.append((tracked.target, kind.source, kind.rule, kind.volatile))
        self._ledger.health_records += 1

    def cover(self, report: CoverageReport, lines: int) -> None:
        """Say how well a target is covered."""
        encoder, topic = self._context.encoder(report.target), self._context.plan.health_topic
        self.own(encoder.coverage(report, lines, self._context.state.sequence, topic, self.now_ns))
        self._ledger.health_records += 1

    def tell_held(self, tracked: TargetState) -> None:
        """Say how many dead letters a limit has kept back."""
        encoder = self._context.encoder(tracked.target)
        for reason, bucket in tracked.dead_letters.items():
            if bucket.held:
                topic = self._context.plan.health_topic
                lines = tracked.position.lines
                self.own(encoder.dead_letters_held(reason, bucket, lines, topic, self.now_ns))
                self._ledger.health_records += 1
                tracked.dead_letter_bucket(reason, 0).held = 0
