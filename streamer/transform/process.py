"""The order of the verbs: what becomes of each line, and where it is counted."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from streamer.model import (
    RING_LINES,
    Alert,
    DigestRing,
    LogBatch,
    Malformed,
    Position,
    Publication,
    Reason,
    Record,
    Target,
    TextLine,
)
from streamer.transform import align
from streamer.transform.encode import TargetEncoder
from streamer.transform.limit import Bucket, Rate
from streamer.transform.parse import parse
from streamer.transform.route import Router
from streamer.transform.split import KEPT_BYTES
from streamer.transform.stamp import LAST_NS, StampReader, body_start
from streamer.transform.state import (
    ShardState,
    Tracked,
    bucket_change,
    forget_changes,
    ledger_change,
    position_change,
)

_REBASE_NS: Final = 10 * 1_000_000_000
"""A timestamp this far before the last one is a stepped clock, not lines out of order."""
_SMALL_LETTER_BYTES: Final = 1024
"""What is kept of a line whose dead letter Kafka refused for its size."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How lines are to be treated: what of the configuration the core needs."""

    cluster: str
    router: Router
    dead_letter_topic: str
    notices_topic: str
    dead_letters: Rate
    annotate: bool = False


@dataclass(frozen=True, slots=True)
class Refusal:
    """Kafka refused a record for itself, `times` times in a row; its line becomes a dead letter."""

    reason: Reason
    times: int = 1


class Processor:
    """Turns batches into publications and keeps a shard's state in step with them.

    It decides by the batches and the state alone: the same input on the same state gives the same publication,
    whatever the batches' boundaries. `now_ns` only bounds CreateTimes.
    """

    def __init__(self, plan: Plan, state: ShardState) -> None:
        self.plan = plan
        self.state = state
        self.stamps = StampReader()
        self._encoders: dict[str, TargetEncoder] = {}
        self._dirty_buckets: dict[tuple[str, Reason], Tracked] = {}

    def process(
        self, batches: Iterable[LogBatch], now_ns: int, refused: Mapping[str, Refusal] | None = None
    ) -> Publication:
        """What one transaction is to write for these batches; `refused` by record id.

        Moves the state, so that it must be committed, or the processor discarded.
        """
        publication = Publication()
        touched: dict[str, Tracked] = {}
        for batch in batches:
            tracked = self.state.take(batch.target)
            touched[batch.target.id] = tracked
            _Run(self, tracked, publication, now_ns, refused or {}).take(batch)
        publication.changes += [position_change(tracked) for tracked in touched.values()]
        return self._seal(publication)

    def publish_held(self, now_ns: int) -> Publication | None:
        """Notices for all that limits have kept back so far; None if nothing was."""
        publication = Publication()
        for tracked in self.state.tracked.values():
            for reason, bucket in tracked.buckets.items():
                if bucket.held:
                    self._publish_held(tracked, reason, publication, now_ns)
        return self._seal(publication) if publication.records else None

    def forget(self, targets: Sequence[Target], now_ns: int) -> Publication:
        """Drop what is known of targets that are gone; what was held back of them is told first."""
        publication = Publication()
        for target in targets:
            if (tracked := self.state.tracked.pop(target.id, None)) is None:
                continue
            for reason, bucket in tracked.buckets.items():
                if bucket.held:
                    self._publish_held(tracked, reason, publication, now_ns)
                self._dirty_buckets.pop((target.id, reason), None)
            publication.changes += forget_changes(tracked)
            self._encoders.pop(target.id, None)
        return self._seal(publication)

    def encoder(self, target: Target) -> TargetEncoder:
        """The encoder of a target's records."""
        if (encoder := self._encoders.get(target.id)) is None:
            encoder = self._encoders[target.id] = TargetEncoder(
                self.plan.cluster, target, annotate=self.plan.annotate
            )
        return encoder

    def bucket(self, tracked: Tracked, reason: Reason) -> Bucket:
        """A target's dead-letter bucket, to be changed by the caller."""
        self._dirty_buckets[tracked.target.id, reason] = tracked
        if reason not in tracked.buckets:
            tracked.buckets[reason] = Bucket(self.plan.dead_letters.burst, 0)
        return tracked.buckets[reason]

    def _publish_held(self, tracked: Tracked, reason: Reason, publication: Publication, now_ns: int) -> None:
        bucket = self.bucket(tracked, reason)
        notice = self.encoder(tracked.target).dead_letters_held(
            reason, bucket, tracked.position.lines, self.plan.notices_topic, now_ns
        )
        publication.records.append(notice)
        self.state.ledger.notices += 1
        bucket.held = 0

    def _seal(self, publication: Publication) -> Publication:
        for (_, reason), tracked in self._dirty_buckets.items():
            publication.changes.append(bucket_change(tracked.target, reason, tracked.buckets[reason]))
        self._dirty_buckets.clear()
        self.state.sequence += 1
        publication.changes.append(ledger_change(self.state))
        publication.ledger = self.state.ledger.copy()
        return publication


class _Run:
    """One batch on its way through the verbs, with the target's clock as it advances."""

    def __init__(
        self,
        processor: Processor,
        tracked: Tracked,
        publication: Publication,
        now_ns: int,
        refused: Mapping[str, Refusal],
    ) -> None:
        self._plan = processor.plan
        self._ledger = processor.state.ledger
        self._encoder = processor.encoder(tracked.target)
        self._stamps = processor.stamps
        self._processor = processor
        self._tracked = tracked
        self._publication = publication
        self._now_ns = now_ns
        self._refused = refused
        position = tracked.position
        self._last_ns, self._elapsed_ns, self._newest_ns = (
            position.last_ns,
            position.elapsed_ns,
            position.newest_ns,
        )

    def take(self, batch: LogBatch) -> None:
        """Give each line its one outcome and move the position behind the batch."""
        position = self._tracked.position
        if batch.gap is not None:
            self._gap(batch, position)
        ordinals = _Ordinals(position.ring, batch)
        for index, line in enumerate(batch.lines):
            line_ns = batch.times_ns[index] if batch.stamped else self._last_ns
            self._line(batch, index, line, line_ns, ordinals)
        self._ledger.lines += len(batch.lines)
        self._ledger.fragments += batch.fragments
        self._publication.lines += len(batch.lines)
        self._tracked.position = Position(
            batch.ring,
            position.lines + len(batch.lines),
            self._last_ns,
            self._elapsed_ns,
            self._newest_ns,
            batch.status,
            batch.instance or position.instance,
        )

    def _line(self, batch: LogBatch, index: int, line: bytes, line_ns: int, ordinals: _Ordinals) -> None:
        body = line[body_start(line) :] if batch.stamped else line
        found: Alert | TextLine | Malformed
        if (oversize := batch.oversize.get(index)) is not None:
            found = Malformed(Reason.LINE_TOO_LONG, "longer than kubernetes.max_line_bytes")
            digest, original_bytes = oversize.digest.hex(), oversize.original_bytes - (len(line) - len(body))
        else:
            found = parse(body, line_ns, self._stamps)
            if type(found) is TextLine:
                self._tick(line_ns)
                self._ledger.log_lines += 1
                return
            digest, original_bytes = hashlib.sha256(line).hexdigest(), len(body)
        if type(found) is Alert and not batch.stamped:
            line_ns = found.time_ns
        ordinal = ordinals.of(index) if line_ns <= self._newest_ns else 0
        self._tick(line_ns)
        identity = self._encoder.line_id(digest, ordinal)
        refusal = self._refused.get(identity) if self._refused else None
        if type(found) is Alert and refusal is None:
            topic = self._plan.router.topic(found)
            self._publication.records.append(
                self._encoder.alert(found, identity, topic, line_ns, self._now_ns)
            )
            self._ledger.alerts += 1
            self._ledger.published += 1
            return
        self._invalid(found, refusal, body, original_bytes, identity, line_ns)

    def _tick(self, line_ns: int) -> None:
        """Advance the target's clock; a step back of more than ten seconds re-bases it."""
        if line_ns >= self._last_ns:
            if self._last_ns:
                self._elapsed_ns = min(self._elapsed_ns + line_ns - self._last_ns, LAST_NS)
            self._last_ns = line_ns
        elif self._last_ns - line_ns > _REBASE_NS:
            self._last_ns = line_ns
        self._newest_ns = max(self._newest_ns, line_ns)

    def _invalid(
        self,
        found: Alert | TextLine | Malformed,
        refusal: Refusal | None,
        body: bytes,
        original_bytes: int,
        identity: str,
        line_ns: int,
    ) -> None:
        """Send a line to the dead-letter topic, unless its target has sent too many for the same reason."""
        letters_refused = refusal.times if refusal else 0
        if isinstance(found, Alert):
            assert refusal is not None
            letters_refused -= 1
            found = Malformed(refusal.reason, "refused by Kafka")
        assert isinstance(found, Malformed)
        self._publication.malformed[self._tracked.target, found.reason] += 1
        self._ledger.invalid += 1
        bucket = self._processor.bucket(self._tracked, found.reason)
        if not bucket.admit(self._plan.dead_letters, self._elapsed_ns):
            bucket.hold(line_ns)
            self._ledger.dead_letter_limited += 1
        else:
            kept = body[: _SMALL_LETTER_BYTES if letters_refused > 0 else KEPT_BYTES]
            topic = self._plan.dead_letter_topic
            letter = self._encoder.dead_letter(
                found, kept, original_bytes, identity, topic, line_ns, self._now_ns
            )
            self._publication.records.append(self._timely(letter))
            self._ledger.dead_lettered += 1

    def _gap(self, batch: LogBatch, position: Position) -> None:
        assert batch.gap is not None
        line_ns = batch.gap.to_ns or batch.gap.from_ns or self._last_ns
        topic = self._plan.notices_topic
        gap = self._encoder.gap(batch.gap, position.lines, topic, line_ns, self._now_ns)
        self._publication.records.append(self._timely(gap))
        self._ledger.gaps += 1

    def _timely(self, record: Record) -> Record:
        """One of our own records; with the present time where Kafka refused that of the line."""
        refusal = self._refused.get(record.id)
        if refusal is None or refusal.reason is not Reason.INVALID_TIMESTAMP:
            return record
        return record._replace(timestamp_ms=self._now_ns // 1_000_000)


class _Ordinals:
    """How many equal lines stand among the 64 before a line; only asked where times allow for one."""

    def __init__(self, ring: DigestRing, batch: LogBatch) -> None:
        self._ring = ring
        self._batch = batch
        self._digests: list[bytes] | None = None

    def of(self, index: int) -> int:
        if self._digests is None:
            width = DigestRing.WIDTH
            joined = self._ring + align.digests(self._batch.lines, self._batch.oversize)
            self._digests = [joined[at : at + width] for at in range(0, len(joined), width)]
        at = index + self._ring.lines
        return self._digests[max(0, at - RING_LINES) : at].count(self._digests[at])
