"""How far a target's log is read.

A position is content, not time: the digests of the last lines that were taken, in order. They are found again
in the log after any break. Timestamps cannot do that: they are neither unique nor monotonic, and the API's
`sinceTime` knows whole seconds only (docs/decisions/0002-positions-by-content.md).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from streamer.model.target import Instance

RING_LINES: Final = 64
"""Lines whose digests a position remembers. 16 suffice in simulation, 4 do not."""


class DigestRing(bytes):
    """Digests of the last lines, oldest first, `WIDTH` bytes each, at most `RING_LINES` of them."""

    __slots__ = ()
    WIDTH: Final = 8

    @property
    def lines(self) -> int:
        """How many lines are remembered."""
        return len(self) // self.WIDTH

    @property
    def is_one_line(self) -> bool:
        """Whether it is the same line again and again."""
        return self == self[: self.WIDTH] * self.lines


class PositionStatus(StrEnum):
    """A target's life as its shard sees it."""

    ATTACHED = "attached"  # written before the first line, so that a crash before it is seen as well
    RELEASED = (
        "released"  # its pod lives on without our label: what it prints is not missing, and it may come back
    )
    DONE = "done"  # read to its end; the position may be forgotten


@dataclass(frozen=True, slots=True)
class Position:
    """How far one target is read, as its shard commits it.

    `last_ns` and `elapsed_ns` are the target's own clock: it advances with its lines' timestamps, so that
    every decision of time is a function of the target's input and a replay decides as the live run did.
    `newest_ns` is the highest line timestamp ever seen: an equal line before a newer one is impossible.
    """

    ring: DigestRing = field(default_factory=DigestRing)
    lines: int = 0
    last_ns: int = 0
    elapsed_ns: int = 0
    newest_ns: int = 0
    status: PositionStatus = PositionStatus.ATTACHED
    instance: Instance | None = None
