"""Look through finite answers: for the place up to which a log was read, or for how it ends."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from streamer.model import RING_LINES, DigestRing
from streamer.source.api import ApiError, KubernetesApi, LogQuery
from streamer.source.stream import Where, open_log
from streamer.transform import align
from streamer.transform.read import StampedLines

_END_LINES: Final = (16, 512, 8192)


@dataclass(frozen=True, slots=True)
class Place:
    """Where the last line taken stands in what the API serves."""

    taken: int
    """Lines served that were taken before."""
    after: int
    """Lines served after them."""


async def find_place(
    api: KubernetesApi, where: Where, query: LogQuery, ring: DigestRing, max_line_bytes: int
) -> Place | None:
    """Look for the ring in a finite answer; None if it is not there.

    Only digests are kept: 8 bytes a line. Raises `ApiError`, `aiohttp.ClientError`.
    """
    whole = query.tail_lines is None
    end = await _last_lines(api, where, max_line_bytes, previous=query.previous) if whole else DigestRing()
    served, fragments = bytearray(), 0
    with await open_log(api, where, query, max_line_bytes) as stream:
        async for piece in stream.pieces():
            served += align.digests(piece.lines, piece.oversize)
            fragments += piece.fragments
        if fragments and whole:
            raise ApiError(0, "what is served is no log")
        last = stream.last_line()
    if end and align.find_ring(end, bytes(served)) is None:
        # A clean end means nothing. An answer is whole that has the lines which were the log's last before.
        raise ApiError(0, "the log was cut off, or rotated, while it was looked through")
    taken = align.find_ring(ring, bytes(served))
    if taken is None and last.lines:
        # The last line taken may be one without a newline, of a container that had ended.
        served += align.digests(last.lines, last.oversize)
        taken = align.find_ring(ring, bytes(served))
    if taken is None and whole:
        taken = align.find_in_whole_file(ring, bytes(served))
    return None if taken is None else Place(taken, len(served) // DigestRing.WIDTH - taken)


async def _last_lines(api: KubernetesApi, where: Where, max_line_bytes: int, *, previous: bool) -> DigestRing:
    """The log's last lines: more than one, for lines may be alike; without the first, which may be half a line."""
    query = LogQuery(tail_lines=RING_LINES, previous=previous)
    ring = (await log_end(api, where, query, max_line_bytes)).ring
    if ring.lines > 1:
        return DigestRing(ring[DigestRing.WIDTH :])
    return (await last_line(api, where, max_line_bytes, previous=previous)).ring


async def ring_of_now(api: KubernetesApi, where: Where, max_line_bytes: int) -> DigestRing:
    """The ring as whoever had read all that the log has would hold it. Raises as `find_place` does."""
    end = await log_end(api, where, LogQuery(tail_lines=RING_LINES + 1), max_line_bytes)
    if end.lines <= RING_LINES:  # a short log, or one of long lines, of which a tail may begin within one
        end = await log_end(api, where, LogQuery(), max_line_bytes)
    return end.ring


async def last_line(
    api: KubernetesApi,
    where: Where,
    max_line_bytes: int,
    *,
    previous: bool = False,
    expected: DigestRing | None = None,
) -> LogEnd:
    """The log's end with the digest of its last line, none if there is no line. Raises as `find_place` does.

    A tail counts records: of a long last line it may hold the end only, as if that were a line. So there must be
    a line before it, or it must be the last of those `expected`.
    """
    end = LogEnd()
    for lines in _END_LINES:
        query = LogQuery(tail_lines=lines, previous=previous)
        end = await log_end(api, where, query, max_line_bytes)
        if end.ring.lines != 1 or (expected is not None and expected.endswith(end.ring)):
            break
    return LogEnd(DigestRing(end.ring[-DigestRing.WIDTH :]), end.rest)


@dataclass(frozen=True, slots=True)
class LogEnd:
    """How an answer ends."""

    ring: DigestRing = field(default_factory=DigestRing)
    """The last lines with a newline; none if there are none."""
    rest: StampedLines = field(default_factory=StampedLines)
    """What stands behind it: a line, perhaps."""
    lines: int = 0
    """How many lines with a newline there were."""


async def log_end(api: KubernetesApi, where: Where, query: LogQuery, max_line_bytes: int) -> LogEnd:
    """How an answer ends: with which lines, and with what behind the last newline. Raises as `find_place` does."""
    ring, lines, fragments = DigestRing(), 0, 0
    with await open_log(api, where, query, max_line_bytes) as stream:
        async for piece in stream.pieces():
            lines += len(piece.lines)
            ring = align.advance(ring, piece.lines, piece.oversize)
            fragments += piece.fragments
        rest = stream.last_line()
    if rest.fragments or (fragments and not ring):
        raise ApiError(0, "what is served is no log")
    return LogEnd(ring, rest, lines)
