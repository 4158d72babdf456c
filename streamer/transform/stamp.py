"""Read the timestamps that the Kubernetes log API writes before each line, and RFC 3339 times in general.

Current kubelets write nine digits and the node's zone, older ones trim zeros; all of RFC 3339 is read, and the
common form is read fast.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache
from typing import Final

_RFC3339: Final = re.compile(
    rb"(\d{4}-\d\d-\d\d[Tt ](?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d)(?:\.(\d{1,9})\d*)?"
    rb"(?:([Zz])|([+-])(\d\d):?([0-5]\d))"
)
_SECOND_NS: Final = 1_000_000_000
STAMP_MOST_BYTES: Final = 64
"""No log has longer timestamps: they have 36 bytes with nine digits and a zone."""
LAST_NS: Final = 2**63 - 1
"""The last time that fits the state's and Kafka's 64 bits, in 2262; the first one is 0."""
NEVER: Final = LAST_NS + 1
"""After all times."""


class StampReader:
    """Reads times to nanoseconds since the epoch; remembers the last second, since lines come in order."""

    __slots__ = ("_second", "_second_ns", "_second_text")

    def __init__(self) -> None:
        self._second = b""
        self._second_text = ""
        self._second_ns = 0

    def line_time(self, line: bytes) -> int | None:
        """The time before a log line, in ns; None if the line does not start with a timestamp and a space.

        A line written under a broken clock is a line all the same: a time that 64 bits cannot hold is moved to
        the nearest one that they can.
        """
        if (
            line[29:31] == b"Z "
            and line[19:20] == b"."
            and (digits := line[20:29]).isdigit()
            and (line[:19] == self._second or self._remember(line[:19]))
        ):
            return self._second_ns + int(digits)
        match = _RFC3339.match(line)
        if match is None or line[match.end() : match.end() + 1] != b" ":
            return None
        time_ns = _from_match(match)
        return None if time_ns is None else min(max(0, time_ns), LAST_NS)

    def time(self, text: str) -> int | None:
        """An RFC 3339 time as Falco writes it in `time`, in ns; None if the text is none that 64 bits hold."""
        if not text.isascii():
            return None
        if (
            len(text) == 30
            and text[29] == "Z"
            and text[19] == "."
            and (digits := text[20:29]).isdigit()
            and (text[:19] == self._second_text or self._remember(text[:19].encode()))
        ):
            return self._second_ns + int(digits)
        match = _RFC3339.fullmatch(text.encode())
        time_ns = None if match is None else _from_match(match)
        return time_ns if time_ns is not None and 0 <= time_ns <= LAST_NS else None

    def _remember(self, second: bytes) -> bool:
        match = _RFC3339.fullmatch(second + b"Z")
        second_ns = None if match is None else _from_match(match)
        if second_ns is None or not 0 <= second_ns <= LAST_NS - _SECOND_NS:
            return False
        self._second, self._second_text, self._second_ns = second, second.decode(), second_ns
        return True


def body_start(line: bytes) -> int:
    """Where the text begins behind a line's timestamp (which may have a space after its date, at 10)."""
    return line.index(b" ", 11) + 1


def stamp_bytes(line: bytes) -> int:
    """How long the timestamp before a line is, with its space; 0 where there is none.

    Only the first `STAMP_MOST_BYTES` are looked at, so that a line's beginning says the same as the line.
    """
    match = _RFC3339.match(line, 0, STAMP_MOST_BYTES - 1)
    return match.end() + 1 if match is not None and line[match.end() : match.end() + 1] == b" " else 0


def to_rfc3339(time_ns: int) -> str:
    """Nanoseconds since the epoch as RFC 3339 in UTC with nine digits."""
    second, rest = divmod(time_ns, _SECOND_NS)
    return f"{_second_text(second)}.{rest:09d}Z"


@lru_cache(maxsize=256)  # times that are written together are mostly of few seconds
def _second_text(second: int) -> str:
    return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}"


def _from_match(match: re.Match[bytes]) -> int | None:
    text, fraction, utc, sign, hours, minutes = match.groups()
    try:
        moment = datetime.fromisoformat(text.decode())
        zone = UTC
        if not utc:
            offset = timedelta(hours=int(hours), minutes=int(minutes))
            zone = timezone(-offset if sign == b"-" else offset)
        second = int(moment.replace(tzinfo=zone).timestamp())
    except (ValueError, OverflowError):  # a 13th month, a zone of 99 hours
        return None
    return second * _SECOND_NS + int((fraction or b"").ljust(9, b"0"))
