"""Look through finite answers: for the place up to which a log was read, or for how it ends."""

from __future__ import annotations

from dataclasses import dataclass
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
    async with open_log(api, where, query, max_line_bytes) as stream:
        async for piece in stream.pieces():
            served += align.digests(piece.lines, piece.oversize)
            fragments += piece.fragments
        if fragments and whole:
            raise ApiError(0, "what is served is no log")
        if stream.error_text:
            raise ApiError(0, f"the kubelet says: {stream.error_text}")
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
    ring = await ring_at_end(api, where, max_line_bytes, previous=previous)
    if ring.lines > 1:
        return DigestRing(ring[DigestRing.WIDTH :])
    return await last_digest(api, where, max_line_bytes, previous=previous)


async def last_digest(
    api: KubernetesApi,
    where: Where,
    max_line_bytes: int,
    *,
    previous: bool = False,
    expected: DigestRing | None = None,
) -> DigestRing:
    """The digest of the log's last line, none if there is no line. Raises as `find_place` does.

    A tail counts records: of a long last line it may hold the end only, as if that were a line. So there must be
    a line before it, or it must be the last of those `expected`.
    """
    ring = DigestRing()
    for lines in _END_LINES:
        ring = await ring_at_end(api, where, max_line_bytes, lines=lines, previous=previous)
        if ring.lines != 1 or (expected is not None and expected.endswith(ring)):
            break
    return DigestRing(ring[-DigestRing.WIDTH :])


async def ring_at_end(
    api: KubernetesApi,
    where: Where,
    max_line_bytes: int,
    *,
    lines: int = RING_LINES,
    previous: bool = False,
) -> DigestRing:
    """The ring of the log's last lines as it is now. Raises as `find_place` does."""
    ring, fragments = DigestRing(), 0
    query = LogQuery(tail_lines=lines, previous=previous)
    async with open_log(api, where, query, max_line_bytes) as stream:
        async for piece in stream.pieces():
            ring = align.advance(ring, piece.lines, piece.oversize)
            fragments += piece.fragments
    if fragments and not ring:
        raise ApiError(0, "what is served is no log")
    return ring


@dataclass(frozen=True, slots=True)
class LastLine:
    """How an answer ends."""

    before: DigestRing
    """The last lines with a newline; none if there are none."""
    line: StampedLines
    """What stands behind it."""


async def last_line(api: KubernetesApi, where: Where, query: LogQuery, max_line_bytes: int) -> LastLine:
    """How an answer ends: with which lines, and with what behind the last newline. Raises as `find_place` does."""
    before = DigestRing()
    async with open_log(api, where, query, max_line_bytes) as stream:
        async for piece in stream.pieces():
            if piece.lines:
                before = align.advance(before, piece.lines, piece.oversize)
        return LastLine(before, stream.last_line())
