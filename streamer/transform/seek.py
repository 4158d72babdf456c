"""Hold a stream's lines back until the place is found from which on they are new."""

from __future__ import annotations

from typing import Protocol

from streamer.model import RING_LINES, DigestRing
from streamer.transform import align
from streamer.transform.read import StampedLines


class Seek(Protocol):
    """One way to find the place in a stream of lines."""

    failed: bool
    """The place is not in this stream."""

    def feed(self, piece: StampedLines) -> StampedLines | None:
        """Take the stream's next lines. Once the place is found: the new ones among those held; before: None."""
        ...


class SeekRing:
    """The place behind the whole ring, which must come within the first `most_lines` lines."""

    def __init__(self, ring: DigestRing, most_lines: int) -> None:
        self.failed = False
        self._ring = ring
        self._most_lines = most_lines
        self._held = StampedLines()
        self._served = b""

    def feed(self, piece: StampedLines) -> StampedLines | None:
        """See `Seek`."""
        self._held.extend(piece)
        self._served += align.digests(piece.lines, piece.oversize)
        taken = align.find_ring(self._ring, self._served)
        if taken is not None:
            held, self._held = (
                self._held,
                StampedLines(),
            )  # whoever sought may be kept for as long as the stream
            return held.after(taken)
        self.failed = len(self._held.lines) >= self._most_lines + RING_LINES
        return None


class SkipLines:
    """The place behind `count` lines, of which the last ones must be the end of the ring."""

    def __init__(self, ring: DigestRing, count: int) -> None:
        self.failed = False
        self._ring = ring
        self._left = count
        self._skipped = DigestRing()

    def feed(self, piece: StampedLines) -> StampedLines | None:
        """See `Seek`."""
        skipped = piece.lines[: self._left]
        self._skipped = align.advance(self._skipped, skipped, piece.oversize)
        rest = piece.after(len(skipped))
        self._left -= len(skipped)
        if self._left:
            return None
        # The first line may be the end of one that began in the file before (see `find_in_whole_file`).
        known = self._skipped[DigestRing.WIDTH :] or self._skipped
        self.failed = not self._ring.endswith(known) and not self._skipped.endswith(self._ring)
        return None if self.failed else rest
