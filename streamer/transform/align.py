"""Find the place in a log up to which it was read, by the content of the last lines.

A ring holds the digests of the last lines that were taken. Found again in what the API serves after a break, it
says exactly which lines are new, whatever the clocks did meanwhile.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from operator import lt
from typing import Final

from streamer.model import RING_LINES, DigestRing, Oversize

_WIDTH = DigestRing.WIDTH
INVERSION_NS: Final = 250_000_000
"""How far back a line's time may be: stdout and stderr overtake each other by up to 200 ms."""


def digest(line: bytes) -> bytes:
    """The digest of a raw line, timestamp included. SHA-256: the text is chosen by attackers."""
    return hashlib.sha256(line).digest()


def digests(lines: Sequence[bytes], oversize: Mapping[int, Oversize] = {}) -> bytes:
    """The short digests of lines, one after the other, as a ring holds them."""
    if oversize:
        return b"".join(
            (oversize[i].digest if i in oversize else digest(line))[:_WIDTH] for i, line in enumerate(lines)
        )
    sha256 = hashlib.sha256
    return b"".join([sha256(line).digest()[:_WIDTH] for line in lines])


def advance(ring: DigestRing, lines: Sequence[bytes], oversize: Mapping[int, Oversize] = {}) -> DigestRing:
    """The ring after these lines; only the last `RING_LINES` of them are hashed."""
    skipped = max(0, len(lines) - RING_LINES)
    tail = {i - skipped: known for i, known in oversize.items() if i >= skipped}
    added = digests(lines[skipped:], tail)
    return DigestRing((ring + added)[-RING_LINES * _WIDTH :])


def find_ring(ring: DigestRing, served: bytes) -> int | None:
    """How many of the served lines were taken before, where the whole ring stands among them; else None.

    `served` are the short digests of the served lines. Where the ring stands twice (lines that repeat to the
    nanosecond) the first place counts: a young ring holds the log's very first lines, and no line may be lost.
    """
    at = served.find(ring)
    while at >= 0:
        if at % _WIDTH == 0:
            return (at + len(ring)) // _WIDTH
        at = served.find(ring, at + 1)
    return None


def find_in_whole_file(ring: DigestRing, served: bytes) -> int | None:
    """The same for a file served from its first line: the ring's beginning may have been rotated away.

    Then the longest end of the ring that opens the file counts, or that follows its first line: a rotation inside
    of a long line leaves the line's end there, which looks like a line, while a follower was given the whole.
    """
    if (found := find_ring(ring, served)) is not None:
        return found
    for start in range(_WIDTH, len(ring), _WIDTH):
        for skipped in (0, _WIDTH):
            if served.startswith(ring[start:], skipped):
                return (skipped + len(ring) - start) // _WIDTH
    return None


def ends_with(ring: DigestRing, end: DigestRing) -> bool:
    """Whether the lines at a log's end are the last ones taken; the first of them may be the end of a long line."""
    if ring.endswith(end):
        return True
    rest = end[_WIDTH:]
    return bool(rest) and len(ring) > len(rest) and ring.endswith(rest)


def first_doubtful(
    lines: Sequence[bytes],
    times_ns: Sequence[int],
    newest_ns: int,
    ring: DigestRing,
    oversize: Mapping[int, Oversize] = {},
) -> int | None:
    """The first line of a stream's next lines that a stream in order would not bring; None if all are in order.

    A line much older than those before it, or one of those at hand once more: a clock was set, or the kubelet has
    begun a file again. Only finding the place again shows which. `newest_ns` is the highest time so far.
    """
    if times_ns[0] > newest_ns and all(map(lt, times_ns, times_ns[1:])):
        return None
    seen: set[bytes] = set()
    for index, (line, time_ns) in enumerate(zip(lines, times_ns, strict=True)):
        # Of a line that was too long to keep, only the digest shows which it is.
        text = oversize[index].digest if index in oversize else line
        if time_ns <= newest_ns and (
            newest_ns - time_ns > INVERSION_NS
            or text in seen
            or _holds(ring, text if index in oversize else digest(line))
        ):
            return index
        newest_ns = max(newest_ns, time_ns)
        seen.add(text)
    return None


def held_first(ring: DigestRing, lines: Sequence[bytes]) -> int:
    """How many of the first of these lines are among those taken last."""
    return next((i for i, line in enumerate(lines) if not _holds(ring, digest(line))), len(lines))


def _holds(ring: DigestRing, known: bytes) -> bool:
    return find_ring(DigestRing(known[:_WIDTH]), ring) is not None
