"""What a piece of a pod's log shows of the Falco that wrote it: its output's form, and whether it is held back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from streamer.model import Alert, Malformed, Reason, TextLine
from streamer.transform.parse import parse
from streamer.transform.stamp import StampReader

_SECOND_NS: Final = 1_000_000_000
_TOGETHER_NS: Final = 20_000_000
"""Lines that a flush of a buffer brings are this near to each other."""
_APART_NS: Final = 500_000_000
"""Alerts that happened as far from each other were not one burst."""
LATE_NS: Final = _SECOND_NS
"""Falco writes an alert some milliseconds after its event."""


@dataclass(slots=True)
class Symptoms:
    """Counts over some lines of one log, in the log's order."""

    lines: int = 0
    alerts: int = 0
    """As JSON, with a time of their own."""
    text_alerts: int = 0
    """Alerts printed as text: `json_output` was off."""
    prints_text: bool = False
    """Whether the last alert was."""
    malformed: int = 0
    late: int = 0
    """Alerts whose line was written more than a second after they happened."""
    most_late_ns: int = 0
    clumps: int = 0
    """Alerts that came together with the one before them, and late, though they had happened apart."""

    @property
    def buffered(self) -> bool:
        """Whether Falco holds its alerts back until a buffer is full."""
        return self.clumps > 0


def symptoms(lines: Iterable[tuple[bytes, int]]) -> Symptoms:
    """Read lines: the text behind the timestamp, and that timestamp in ns."""
    found, stamps = Symptoms(), StampReader()
    before: tuple[int, int] | None = None  # line and alert time of the alert before
    for body, line_ns in lines:
        found.lines += 1
        outcome = parse(body, line_ns, stamps)
        if isinstance(outcome, TextLine):
            continue
        if isinstance(outcome, Malformed):
            found.text_alerts += outcome.reason is Reason.TEXT_ALERT
            found.malformed += outcome.reason is not Reason.TEXT_ALERT
            found.prints_text |= outcome.reason is Reason.TEXT_ALERT
            continue
        found.alerts += 1
        found.prints_text = False
        late_ns = line_ns - outcome.time_ns
        if late_ns > LATE_NS:
            found.late += 1
            found.most_late_ns = max(found.most_late_ns, late_ns)
        if before is not None and _clumped(before, line_ns, outcome):
            found.clumps += 1
        before = line_ns, outcome.time_ns
    return found


def _clumped(before: tuple[int, int], line_ns: int, alert: Alert) -> bool:
    line_before_ns, alert_before_ns = before
    return (
        line_ns - line_before_ns <= _TOGETHER_NS
        and abs(alert.time_ns - alert_before_ns) >= _APART_NS
        and line_before_ns - alert_before_ns > _APART_NS
    )
