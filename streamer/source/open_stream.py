"""The stream at hand, and what was found out about it since it was opened."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from math import inf

from streamer.model import Instance
from streamer.source.evidence import HowEnded, StreamEnd
from streamer.source.lag import Lag
from streamer.source.pace import Pace
from streamer.source.stream import LogStream
from streamer.transform.read import StampedLines

Begin = Callable[[int | None], Awaitable[Instance | None]]
"""Called with the time of a log's first line before it is handed over; with None, if the log has ended without one.

Gives the instance whose log it is where that is known better by now than when the log was requested, else None.
"""


@dataclass(slots=True)
class OpenStream:
    """The stream at hand, and what was found out about it."""

    stream: LogStream
    instance: Instance | None
    """Whose lines it brings, as far as that is known."""
    begin: Begin | None
    lag: Lag
    pace: Pace
    renew_at: float
    ran: bool
    """Its container ran when it was opened, as far as was known: else all its lines were there already."""
    caught_up: bool = False
    """It has brought what was there when it was opened: what comes after a wait was written just then."""
    believed: bool = False
    """Its first lines are taken, whatever they are."""
    in_doubt: bool = False
    end_expected: bool = False
    """Its container is to end, or has ended, since it was last checked."""
    awaited: bytes = b""
    """The last line that the log had and the stream had not brought, while that is why it is in doubt."""
    compared_at: float = -inf
    found_empty: bool = False
    """Its log was empty when it could be compared at last: of two rotations since, the stream may have missed one."""
    last_taken_at: float = -inf
    taken_lines: int = 0

    def renewed(self, stream: LogStream, renew_at: float, lag: Lag) -> None:
        """Another stream goes on from the position. What was found out about the one before does not hold for it."""
        self.stream, self.renew_at, self.lag = stream, renew_at, lag
        self.caught_up = self.in_doubt = self.found_empty = False
        self.awaited, self.compared_at = b"", -inf
        self.last_taken_at = stream.opened_at

    def ended(self, how: HowEnded, lively_seconds: float, *, rest: StampedLines | None = None) -> StreamEnd:
        """What it was worth. `lively_seconds`: so long before its end its last line may have come, to be lively."""
        now, stream = asyncio.get_running_loop().time(), self.stream
        # Of what came before the position was found, nobody knows how late it was.
        arrived_at = stream.arrived_at if self.taken_lines else stream.opened_at
        silent_seconds = now - arrived_at + self.lag.late_seconds
        return StreamEnd(
            how,
            at=now,
            taken_lines=self.taken_lines,
            in_doubt=self.in_doubt,
            compared_at=self.compared_at,
            last_taken_at=self.last_taken_at,
            lively=(self.caught_up or self.ran) and silent_seconds <= lively_seconds,
            at_node_ns=time.time_ns() - self.lag.offset_ns,
            rest=None if self.in_doubt else rest,
        )


@dataclass(slots=True)
class Silence:
    """How long a stream may be silent before it is checked, and whether it should bring something meanwhile."""

    seconds: float
    expects_lines: bool = False
