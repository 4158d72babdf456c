"""Find the position in a stream of lines while it arrives, keeping digests instead of lines."""

from __future__ import annotations

from typing import Final

from streamer.model import RING_LINES, DigestRing
from streamer.transform import align
from streamer.transform.read import StampedLines

_WIDTH: Final = DigestRing.WIDTH
_OPENING_LINES: Final = RING_LINES + 2
"""So many lines of a file decide whether it begins with the end of the ring (`align.find_in_whole_file`)."""


class RingMatcher:
    """Gives the lines after the place where the whole ring stands.

    `anchored`: the lines begin with a file's first line, so the ring's beginning may have been rotated away. Then the
    longest end of the ring that opens the file counts as well, and up to `_OPENING_LINES` lines are held until that is
    decided. Nothing else is held.
    """

    def __init__(self, ring: DigestRing, *, anchored: bool = False) -> None:
        self.found = False
        self._ring = ring
        self._served = bytearray()
        self._held: StampedLines | None = StampedLines() if anchored else None

    @property
    def served(self) -> bytes:
        """The digests of the lines so far; empty once the place was found."""
        return bytes(self._served)

    @property
    def lines(self) -> int:
        """How many lines there were so far, none of them new."""
        return len(self._served) // _WIDTH

    def feed(self, piece: StampedLines) -> StampedLines | None:
        """Take the next lines; give the new ones among them, None while the place is not found."""
        if self.found:
            return piece
        if not piece.lines:
            return None
        before = self.lines
        self._served += align.digests(piece.lines, piece.oversize)
        start = max(0, before - self._ring.lines)
        taken = align.find_ring(self._ring, bytes(self._served[start * _WIDTH :]))
        if taken is not None:
            self.found = True
            self._served.clear()
            self._held = None
            return piece.after(start + taken - before)
        if self._held is not None:
            self._held.extend(piece)
            if len(self._held.lines) >= _OPENING_LINES:
                return self._decide()
        return None

    def finish(self, last: StampedLines) -> StampedLines | None:
        """The answer has ended; `last` is what stands behind its last newline, which may be the last line taken."""
        if self.found:
            return None
        new = self.feed(last)
        if new is None and self._held is not None:
            new = self._decide()
        if new is None and self._served:
            self.found = self._ends(bytes(self._served), len(last.lines))
        # A line without a newline is a line only once its container has ended.
        return None if new is None else new.before(len(new.lines) - len(last.lines)) if last.lines else new

    def _ends(self, served: bytes, last_lines: int) -> bool:
        """Whether an answer ends with the last lines taken, though not with all that the ring has.

        A tail of long lines shows fewer of them. And the last line taken may be a record that was cut before its
        newline, which the kubelet leaves out of most answers.
        """
        ends = [served, served[: len(served) - _WIDTH * last_lines]]
        rings = [self._ring, DigestRing(self._ring[:-_WIDTH])]
        return any(
            end and ring and align.ends_with(ring, DigestRing(end)) for end in ends for ring in rings
        ) or any(ring and end.endswith(ring) for end in ends for ring in rings[1:])

    def _decide(self) -> StampedLines | None:
        held, self._held = self._held, None
        assert held is not None
        taken = align.find_in_whole_file(self._ring, bytes(self._served))
        if taken is None:
            return None
        self.found = True
        self._served.clear()
        return held.after(taken)
