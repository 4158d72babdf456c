"""Which of a shard's targets bring alerts, and when that is to be reported: at each change, and periodically."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from streamer.model import Coverage, CoverageReport, Publication, Reason, RecordKind
from streamer.telemetry.status import StreamState, TargetStatus

BLIND_SECONDS: Final = 15.0
"""A stream that is re-opened within this time was not away."""
START_SECONDS: Final = 120.0
"""So long a target may wait for its first stream, without a failure, before it counts as blind: after a start thousands
of streams are opened one after the other."""
SILENT_SECONDS: Final = 300.0
TEXT_SECONDS: Final = 900.0
"""So long after its last text alert a Falco that has printed no other one still counts as printing text."""
_SECOND_NS: Final = 1_000_000_000


@dataclass(slots=True)
class _Reported:
    coverage: Coverage
    since_ns: int
    reported_ns: int


class CoverageWatch:
    """Decides what is to be reported of a shard's targets. `every_seconds` is None where nothing is.

    What was reported is known to this worker only: another one that takes the shard over reports everything again.
    """

    def __init__(self, every_seconds: float | None) -> None:
        self.every(every_seconds)
        self._reported: dict[str, _Reported] = {}
        self._text_ns: dict[str, int] = {}
        self.counts: Mapping[Coverage, int] = {}
        """How many targets were in each state when it was last asked."""

    def every(self, seconds: float | None) -> None:
        """Report it this often from now on; None for not at all."""
        self._every_ns = None if seconds is None else round(seconds * _SECOND_NS)

    def due(self, statuses: Iterable[TargetStatus], now_ns: int) -> list[CoverageReport]:
        """What is to be reported now. If one has waited long enough, all are: one transaction for many."""
        states = {
            status.target.id: (status.target, coverage)
            for status in statuses
            if (coverage := self._coverage(status, now_ns)) is not None
        }
        self.counts = Counter(coverage for _, coverage in states.values())
        self._reported = {identity: last for identity, last in self._reported.items() if identity in states}
        self._text_ns = {identity: at for identity, at in self._text_ns.items() if identity in states}
        if self._every_ns is None:
            return []
        everything = any(now_ns - last.reported_ns >= self._every_ns for last in self._reported.values())
        reports = []
        for identity, (target, coverage) in states.items():
            last = self._reported.get(identity)
            if last is None or last.coverage is not coverage:
                reports.append(CoverageReport(target, coverage, now_ns, changed=True))
            elif everything:
                reports.append(CoverageReport(target, coverage, last.since_ns, changed=False))
        return reports

    def reported(self, reports: Iterable[CoverageReport], now_ns: int) -> None:
        """These are committed."""
        for report in reports:
            self._reported[report.target.id] = _Reported(report.coverage, report.since_ns, now_ns)

    def forget(self) -> None:
        """Another worker has had the shard: all is to be reported again."""
        self._reported.clear()

    def note(self, publication: Publication, now_ns: int) -> None:
        """Learn from what was committed which targets print text, and which do not any more."""
        if self._text_ns:
            keys = {record.key for record in publication.records if record.shared.kind is RecordKind.ALERT}
            self._text_ns = {
                identity: at
                for identity, at in self._text_ns.items()
                if identity.rsplit("/", 2)[0].encode() not in keys
            }
        for target, reason in publication.malformed:
            if reason is Reason.TEXT_ALERT:
                self._text_ns[target.id] = now_ns

    def _coverage(self, status: TargetStatus, now_ns: int) -> Coverage | None:
        """None while nothing is known: its first stream is still being opened."""
        if status.state in (StreamState.PENDING, StreamState.ENDED):
            return Coverage.BLIND
        known = status.opened or status.cause or status.unread_seconds >= START_SECONDS
        if not known:
            return None
        if status.unread_seconds >= BLIND_SECONDS:
            return Coverage.BLIND
        text_ns = self._text_ns.get(status.target.id)
        if text_ns is not None and now_ns - text_ns < TEXT_SECONDS * _SECOND_NS:
            return Coverage.TEXT
        return Coverage.SILENT if status.quiet_seconds >= SILENT_SECONDS else Coverage.FOLLOWING
