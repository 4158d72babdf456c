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

    def finish(self, last: StampedLines, *, followed: bool = False) -> StampedLines | None:
        """The answer has ended; `last` is what stands behind its last newline, which may be the last line taken.

        A stream that was `followed` does not bring a record that was cut before its newline: what it brings may end
        just before the last line taken.
        """
        if self.found:
            return None
        new = self.feed(last)
        if new is None and self._held is not None:
            new = self._decide()
        if new is None and self._served:
            # A tail of long lines may show fewer of them than the ring has: they are its last ones.
            ends = [bytes(self._served), bytes(self._served[: (self.lines - len(last.lines)) * _WIDTH])]
            self.found = any(end and align.ends_with(self._ring, DigestRing(end)) for end in ends)
            if followed and not self.found:
                self.found = ends_before_last(self._ring, ends[0])
        # A line without a newline is a line only once its container has ended.
        return None if new is None else new.before(len(new.lines) - len(last.lines)) if last.lines else new

    def _decide(self) -> StampedLines | None:
        held, self._held = self._held, None
        assert held is not None
        taken = align.find_in_whole_file(self._ring, bytes(self._served))
        if taken is None:
            return None
        self.found = True
        self._served.clear()
        return held.after(taken)


def ends_before_last(ring: DigestRing, served: bytes) -> bool:
    """Whether an answer ends with the lines before the last one taken: that one may be a record that was cut."""
    before = DigestRing(ring[:-_WIDTH])
    return bool(before and served) and (
        served.endswith(before) or align.ends_with(before, DigestRing(served[-len(before) :]))
    )
