"""Look through finite answers: for the place up to which a log was read, or for how it ends."""

from __future__ import annotations

from dataclasses import dataclass

from streamer.model import RING_LINES, DigestRing
from streamer.source.api import KubernetesApi, LogQuery
from streamer.source.stream import Where, open_log
from streamer.transform import align
from streamer.transform.read import StampedLines


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
    served = bytearray()
    async with open_log(api, where, query, max_line_bytes) as stream:
        while (piece := await stream.read()) is not None:
            served += align.digests(piece.lines, piece.oversize)
        last = stream.last_line()
    find = align.find_ring if query.tail_lines else align.find_in_whole_file
    taken = find(ring, bytes(served))
    if taken is None and last.lines:
        # The last line taken may be one without a newline, of a container that had ended.
        served += align.digests(last.lines, last.oversize)
        taken = find(ring, bytes(served))
    return None if taken is None else Place(taken, len(served) // DigestRing.WIDTH - taken)


async def ring_at_end(
    api: KubernetesApi, where: Where, max_line_bytes: int, *, lines: int = RING_LINES
) -> DigestRing:
    """The ring of the log's last lines as it is now. Raises as `find_place` does."""
    ring = DigestRing()
    async with open_log(api, where, LogQuery(tail_lines=lines), max_line_bytes) as stream:
        while (piece := await stream.read()) is not None:
            ring = align.advance(ring, piece.lines, piece.oversize)
    return ring


async def last_line(api: KubernetesApi, where: Where, query: LogQuery, max_line_bytes: int) -> StampedLines:
    """The line without a newline at the end of an answer, none if it ends with one. Raises as `find_place` does."""
    async with open_log(api, where, query, max_line_bytes) as stream:
        while await stream.read() is not None:
            pass
        return stream.last_line()
