"""The order of the verbs: what becomes of each line, and where it is counted."""

from __future__ import annotations

import hashlib
from typing import Final

from streamer.model import (
    RING_LINES,
    Alert,
    DigestRing,
    LogBatch,
    Malformed,
    Position,
    Reason,
    TextLine,
)
from streamer.transform import align
from streamer.transform.context import Context
from streamer.transform.fingerprint import Fingerprint
from streamer.transform.parse import parse
from streamer.transform.parts import PART_BYTES, without_part_stamps
from streamer.transform.plan import (
    MOST_FAILURES,
    LineFailedError,
    Refusal,
    WindowFailedError,
    has_failed_lines,
    line_key,
)
from streamer.transform.split import KEPT_BYTES
from streamer.transform.stamp import LAST_NS
from streamer.transform.state import TargetState
from streamer.transform.treatment import Treatment
from streamer.transform.window import Window
from streamer.transform.writer import Writer

_REBASE_NS: Final = 10 * 1_000_000_000
"""A timestamp this far before the last one is a stepped clock, not lines out of order."""
_SMALL_LETTER_BYTES: Final = 1024
"""What is kept of a line whose dead letter Kafka refused for its size."""
_METRICS_RULE: Final = "Falco internal: metrics snapshot"


class BatchRun:
    """One batch on its way through the verbs, with the target's clock as it advances."""

    __slots__ = (
        "_deduplicator",
        "_elapsed_ns",
        "_encoder",
        "_filters",
        "_last_ns",
        "_ledger",
        "_limiter",
        "_newest_ns",
        "_now_ns",
        "_ordinals",
        "_plan",
        "_publication",
        "_refused",
        "_stamps",
        "_tracked",
        "_treatments",
        "_windows",
        "_writer",
    )

    def __init__(self, context: Context, tracked: TargetState, writer: Writer) -> None:
        self._plan = context.plan
        self._filters = context.plan.filters or None
        self._deduplicator = context.deduplicator
        self._limiter = context.limiter
        self._stamps = context.stamps
        self._ledger = context.state.ledger
        self._encoder = context.encoder(tracked.target)
        self._treatments = context.treatments_of(tracked)
        self._tracked = tracked
        self._windows = tracked.windows
        self._writer = writer
        self._publication = writer.publication
        self._now_ns = writer.now_ns
        self._refused = writer.refused
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
        self._ordinals = _Ordinals(position.ring, batch)
        index = 0
        try:
            if batch.oversize or (self._refused and has_failed_lines(self._refused)):
                for index, raw in enumerate(batch.lines):
                    self._one_line(batch, index, raw, position.lines + index)
            elif batch.stamped:
                for index, (raw, line_ns) in enumerate(zip(batch.lines, batch.times_ns, strict=True)):
                    body = raw[raw.index(b" ", 11) + 1 :]  # as `body_start`, without the call
                    if len(body) > PART_BYTES:
                        body = without_part_stamps(body, line_ns)
                    self._line(index, raw, body, line_ns, True)
            else:
                for index, raw in enumerate(batch.lines):
                    self._line(index, raw, raw, self._last_ns, False)
        except WindowFailedError:
            raise
        except Exception as error:
            raise LineFailedError(self._tracked.target.id, position.lines + index) from error
        self._ledger.lines += len(batch.lines)
        self._ledger.fragments += batch.fragments
        self._publication.lines += len(batch.lines)
        self._tracked.move(
            Position(
                batch.ring,
                position.lines + len(batch.lines),
                self._last_ns,
                self._elapsed_ns,
                self._newest_ns,
                batch.status,
                batch.instance or position.instance,
            )
        )

    def _one_line(self, batch: LogBatch, index: int, line: bytes, number: int) -> None:
        """The same for a line that may have been too long to keep, or that the core may have failed at."""
        line_ns = batch.times_ns[index] if batch.stamped else self._last_ns
        body = line
        if batch.stamped:
            body = line[line.index(b" ", 11) + 1 :]
            if len(body) > PART_BYTES:
                body = without_part_stamps(body, line_ns)
        oversize = batch.oversize.get(index)
        if (failure := self._refused.get(line_key(self._tracked.target.id, number))) is not None:
            # The clock stands still: it may be the clock that the core failed at.
            found = Malformed(Reason.INTERNAL_ERROR, "the worker failed at this line; its log has the place")
            digest = hashlib.sha256(line).hexdigest() if oversize is None else oversize.digest.hex()
            identity = self._encoder.line_id(digest, self._ordinals.of(index))
            kept = b"" if failure.times >= MOST_FAILURES else body
            self._invalid(found, self._refused.get(identity), kept, len(body), identity, line_ns)
        elif oversize is None:
            self._line(index, line, body, line_ns, batch.stamped)
        else:
            ordinal = self._tick(line_ns, index)
            found = Malformed(Reason.LINE_TOO_LONG, "longer than kubernetes.max_line_bytes")
            identity = self._encoder.line_id(oversize.digest.hex(), ordinal)
            original_bytes = oversize.original_bytes - (len(line) - len(body))
            self._invalid(found, self._refused.get(identity), body, original_bytes, identity, line_ns)

    def _line(self, index: int, line: bytes, body: bytes, line_ns: int, is_stamped: bool) -> None:
        """A line's outcome; `line_ns` is its time, where it `is_stamped`, or that of the one before."""
        parsed = parse(body, line_ns, self._stamps)
        if type(parsed) is Alert:
            if not is_stamped:
                line_ns = parsed.time_ns
            self._alert(parsed, line, self._tick(line_ns, index), line_ns)
        elif type(parsed) is TextLine:
            self._tick(line_ns, -1)
            self._ledger.log_lines += 1
        else:
            assert isinstance(parsed, Malformed)
            ordinal = self._tick(line_ns, index)
            identity = self._encoder.line_id(hashlib.sha256(line).hexdigest(), ordinal)
            self._invalid(parsed, self._refused.get(identity), body, len(body), identity, line_ns)

    def _alert(self, alert: Alert, line: bytes, ordinal: int, line_ns: int) -> None:
        """Filter, deduplicate, limit, publish: an alert's one outcome."""
        ledger = self._ledger
        digest = b""
        if self._refused:
            digest = hashlib.sha256(line).digest()
            identity = self._encoder.line_id(digest.hex(), ordinal)
            if (refusal := self._refused.get(identity)) is not None:
                self._invalid(alert, refusal, alert.body, len(alert.body), identity, line_ns)
                return
        ledger.alerts += 1
        if self._filters is not None and (name := self._filters.drops(alert, line_ns)) is not None:
            ledger.filtered += 1
            self._publication.filtered[name] += 1
            return
        treatment = self._treatments.of(alert)
        fingerprint: Fingerprint | None = None
        window: Window | None = None
        if treatment.deduplicated and (fingerprint := treatment.selection.fingerprint(alert)) is not None:
            if treatment.learns:
                fingerprint = self._learn(alert, treatment, fingerprint, line_ns)
            window = self._windows.get(fingerprint.group)
            if window is not None and self._deduplicator.counts(window, fingerprint, treatment, alert):
                ledger.deduplicated += 1
                if self._deduplicator.count(
                    self._windows, window, fingerprint.variant, treatment, alert, line_ns, self._elapsed_ns
                ):
                    self._writer.summarise(self._tracked, window, reason="variants")
                return
        digest = digest or hashlib.sha256(line).digest()
        identity = self._encoder.line_id(digest.hex(), ordinal)
        topic = self._plan.router.topic(alert)
        # Of what is not deduplicated nobody knows whether its group is new.
        is_first = fingerprint is not None and window is None
        if treatment.may_be_diverted and self._diverted(alert, treatment, topic, identity, line_ns, is_first):
            return
        self._publication.records.append(self._encoder.alert(alert, identity, topic, line_ns, self._now_ns))
        ledger.published += 1
        if fingerprint is not None:
            head = digest[:16] + bytes((min(ordinal, 255),))
            self._deduplicator.passed(
                self._windows, window, fingerprint, treatment, head, self._elapsed_ns, line_ns
            )
            try:
                self._writer.evict()
            except Exception as error:  # what is evicted is not a fault of this line's
                raise WindowFailedError(str(self._tracked.target.id)) from error
        elif treatment.internal:
            self._report(alert, identity, line_ns)

    def _learn(
        self, alert: Alert, treatment: Treatment, fingerprint: Fingerprint, line_ns: int
    ) -> Fingerprint:
        """Learn from an alert whose source nobody has configured; its hashes, by what was known before."""
        selection = treatment.selection
        kind = self._tracked.kind(selection.key, alert.rule, alert.source, treatment.definition)
        coarse = selection.coarse(alert, kind.volatile)
        if kind.learn(selection.evidence(alert)) and self._tracked.report_kind(kind):
            self._writer.volatile_fields(self._tracked, kind, line_ns)
        return fingerprint._replace(coarse=coarse)

    def _diverted(
        self, alert: Alert, treatment: Treatment, topic: str, identity: str, line_ns: int, is_first: bool
    ) -> bool:
        """Send an alert to the overflow topic if a limit is exceeded."""
        limiter = self._limiter
        exceeded = limiter.admit(
            self._tracked, treatment, alert, topic, is_first, self._elapsed_ns, self._now_ns
        )
        while limiter.dropped_storms:
            self._writer.settle(self._tracked, limiter.dropped_storms.pop(0))
        if exceeded is None:
            return False
        bucket, clock_ns = exceeded
        if bucket.is_calm(clock_ns):  # what it diverted before belongs to another storm
            self._writer.settle(self._tracked, bucket)
        if limiter.divert(bucket, clock_ns, line_ns, self._now_ns):
            self._writer.storm(self._tracked, bucket, ended=False)
        overflow = self._plan.overflow_topic
        self._publication.records.append(
            self._encoder.alert(alert, identity, overflow, line_ns, self._now_ns, bucket.limit)
        )
        self._ledger.limited += 1
        return True

    def _report(self, alert: Alert, identity: str, line_ns: int) -> None:
        """Falco's reports that it is not well also go where operators look."""
        if alert.rule == _METRICS_RULE and not _tells_of_drops(alert):
            return
        self._writer.own(
            self._encoder.falco_report(alert, identity, self._plan.health_topic, line_ns, self._now_ns)
        )
        self._ledger.health_records += 1

    def _tick(self, line_ns: int, index: int) -> int:
        """Advance the target's clock, and end the windows that are over; how many equal lines are before this one.

        A step back of more than ten seconds re-bases the clock. `index` is the line's in its batch, -1 where nobody
        asks for equal lines.
        """
        ordinal = 0
        if line_ns > self._newest_ns:
            self._newest_ns = line_ns
        elif index >= 0:
            ordinal = self._ordinals.of(index)
        last_ns = self._last_ns
        if line_ns >= last_ns:
            if last_ns:
                self._elapsed_ns = min(self._elapsed_ns + line_ns - last_ns, LAST_NS)
            self._last_ns = line_ns
            if self._elapsed_ns >= self._windows.next_ns:
                try:
                    self._writer.end_windows(self._tracked, self._elapsed_ns)
                except Exception as error:
                    raise WindowFailedError(str(self._tracked.target.id)) from error
        elif last_ns - line_ns > _REBASE_NS:
            self._last_ns = line_ns
        return ordinal

    def _invalid(
        self,
        found: Alert | Malformed,
        refusal: Refusal | None,
        body: bytes,
        original_bytes: int,
        identity: str,
        line_ns: int,
    ) -> None:
        """Send a line to the dead-letter topic, unless its target has sent too many for the same reason."""
        letter_refused = refusal.reasons if refusal else ()
        if isinstance(found, Alert):
            found, letter_refused = Malformed(letter_refused[0], "refused by Kafka"), letter_refused[1:]
        self._publication.malformed[self._tracked.target, found.reason] += 1
        self._ledger.invalid += 1
        if found.reason is not Reason.INTERNAL_ERROR:  # may be an alert; the committer slows these down
            bucket = self._tracked.dead_letter_bucket(found.reason, self._plan.dead_letters.burst)
            if not bucket.admit(self._plan.dead_letters, self._elapsed_ns):
                bucket.hold(line_ns)
                self._ledger.dead_letter_limited += 1
                return
        kept = body[: _SMALL_LETTER_BYTES if Reason.RECORD_TOO_LARGE in letter_refused else KEPT_BYTES]
        topic = self._plan.dead_letter_topic
        self._writer.own(
            self._encoder.dead_letter(found, kept, original_bytes, identity, topic, line_ns, self._now_ns)
        )
        self._ledger.dead_lettered += 1

    def _gap(self, batch: LogBatch, position: Position) -> None:
        assert batch.gap is not None
        line_ns = batch.gap.to_ns or batch.gap.from_ns or self._last_ns
        topic = self._plan.health_topic
        self._writer.own(self._encoder.gap(batch.gap, position.lines, topic, line_ns, self._now_ns))
        self._ledger.health_records += 1
        self._ledger.gaps += 1


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


def _tells_of_drops(alert: Alert) -> bool:
    return any(
        type(value) in {int, float} and value > 0 for name, value in alert.fields.items() if "drop" in name
    )
