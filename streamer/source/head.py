"""Judge a file by its beginning, before anything of it is published."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final, NamedTuple

from streamer.model import Alert, Malformed, Reason
from streamer.source.saved import SavedLines
from streamer.source.wrapping import Wrapping, wrapping_of
from streamer.transform.parse import parse
from streamer.transform.read import StampedLines
from streamer.transform.stamp import StampReader, body_start

HEAD_BYTES: Final = 1024 * 1024
_LINES: Final = 100
"""So many lines that are not Falco's text are looked at, where the head has them."""
_FEW: Final = 10
"""One alert for so many invalid lines is not a log with faults any more."""


class Head(NamedTuple):
    """A file's beginning, and whether it is the whole of it."""

    content: bytes
    is_whole: bool

    @property
    def is_enough(self) -> bool:
        """Whether its lines can be judged."""
        return self.is_whole or len(self.content) >= HEAD_BYTES or _judge(self).judged >= _LINES


def read_head(read: Callable[[int], bytes], step_bytes: int = 64 * 1024) -> Head:
    """Read until there is enough to judge by."""
    head = Head(b"", is_whole=False)
    while not head.is_enough:
        chunk = read(step_bytes)
        head = Head(head.content + chunk, is_whole=not chunk)
    return head


def fault_of(head: Head, *, is_rotated: bool = False) -> Wrapping | None:
    """Why a file that begins so is not to be published; None where it may be.

    A file of a log that is rotated may begin with the last part of a line, and have no more than that.
    """
    if (wrapping := wrapping_of(head.content)) is not None:
        return wrapping
    found = _judge(head)
    few = found.alerts * _FEW <= found.invalid
    # One broken line among many of Falco's text is a log that was cut, and not another kind of file.
    if found.invalid <= is_rotated or not few or (found.invalid * 2 <= found.lines and found.invalid < _FEW):
        return None
    reason, detail = found.reasons.most_common(1)[0][0]
    said = (
        f"{found.invalid} of its first {found.lines} lines are invalid"
        if found.lines > 1
        else "its line is invalid"
    )
    if reason is Reason.TEXT_ALERT:
        return Wrapping(f"{said}: alerts printed as text", "", "set json_output: true in Falco")
    return Wrapping(
        f"{said} ({reason}: {detail})",
        "",
        "replay reads Falco's JSON, one alert a line, and pods' logs as saved",
    )


class _Judged(NamedTuple):
    lines: int
    alerts: int
    invalid: int
    reasons: Counter[tuple[Reason, str]]

    @property
    def judged(self) -> int:
        return self.alerts + self.invalid


def _judge(head: Head) -> _Judged:
    saved = SavedLines(HEAD_BYTES)
    runs = [*saved.feed(head.content)]
    if head.is_whole:
        runs += [*saved.end_file(), *saved.finish()]
    stamps = StampReader()
    lines = alerts = 0
    reasons: Counter[tuple[Reason, str]] = Counter()
    for run in runs:
        for line in run.lines:
            found = parse(line[body_start(line) :] if isinstance(run, StampedLines) else line, 0, stamps)
            lines += bool(line.strip())
            alerts += type(found) is Alert
            if isinstance(found, Malformed):
                reasons[found.reason, found.detail] += 1
            if alerts + reasons.total() >= _LINES:
                return _Judged(lines, alerts, reasons.total(), reasons)
    return _Judged(lines, alerts, reasons.total(), reasons)
