"""Timestamps inside of a line, where its parts were put together.

Runtimes store a long line in parts of 16 KiB. Kubelets before 1.26 (1.25.4, 1.24.8, 1.23.14) write the timestamp of
each part, and not only that of the line (kubernetes#77603); so does `docker logs -t` (docker/cli#4941).
"""

from __future__ import annotations

from typing import Final

from streamer.transform.stamp import STAMP_MOST_BYTES, StampReader, stamp_bytes

PART_BYTES: Final = 16 * 1024
_EARLIER_NS: Final = 1_000_000_000
_LATER_NS: Final = 60 * 1_000_000_000
"""How far a part's time may be from that of the part before: it was one write, or a few."""


def without_part_stamps(body: bytes, line_ns: int) -> bytes:
    """A line's text as it was written, without what stands after each 16 KiB of it; `line_ns` is the line's time.

    Only where a timestamp follows every 16 KiB, each about as late as the one before, is any of them removed: a
    kubelet that writes them writes them all.
    """
    stamps = StampReader()
    pieces = []
    at = 0
    while len(body) - at > PART_BYTES:
        pieces.append(body[at : at + PART_BYTES])
        at += PART_BYTES
        size = stamp_bytes(body[at : at + STAMP_MOST_BYTES])
        part_ns = stamps.line_time(body[at : at + size]) if size else None
        if part_ns is None or not -_EARLIER_NS <= part_ns - line_ns <= _LATER_NS:
            return body
        line_ns = part_ns
        at += size
    pieces.append(body[at:])
    return b"".join(pieces)
