"""Find how far a log was read, when a short tail of it does not show."""

from __future__ import annotations

from dataclasses import dataclass

from streamer.model import RING_LINES, DigestRing
from streamer.source.api import KubernetesApi, LogQuery
from streamer.transform import align
from streamer.transform.read import LineReader


@dataclass(frozen=True, slots=True)
class Place:
    """Where the last line taken stands in what the API serves."""

    taken: int
    """Lines served that were taken before."""
    after: int
    """Lines served after them."""
    first_ns: int | None
    """The time of the first line served."""


async def find_place(
    api: KubernetesApi,
    where: tuple[str, str, str],
    query: LogQuery,
    ring: DigestRing,
    max_line_bytes: int,
) -> Place | None:
    """Read a finite answer and look for the ring in it; None if it is not there.

    `where` is namespace, pod and container. Only digests are kept: 8 bytes a line. Raises `ApiError`,
    `aiohttp.ClientError`.
    """
    reader = LineReader(max_line_bytes)
    served = bytearray()
    first_ns: int | None = None
    async with api.log(*where, query) as body:
        while chunk := await body.readany():
            piece = reader.feed(chunk)
            if first_ns is None and piece.times_ns:
                first_ns = piece.times_ns[0]
            served += align.digests(piece.lines, piece.oversize)
    find = align.find_ring if query.tail_lines else align.find_in_whole_file
    taken = find(ring, bytes(served))
    if taken is None:
        return None
    return Place(taken, len(served) // DigestRing.WIDTH - taken, first_ns)


async def last_lines(api: KubernetesApi, where: tuple[str, str, str], max_line_bytes: int) -> DigestRing:
    """The ring of the log as it ends now. Raises as `find_place` does."""
    reader = LineReader(max_line_bytes)
    ring = DigestRing()
    async with api.log(*where, LogQuery(tail_lines=RING_LINES)) as body:
        while chunk := await body.readany():
            piece = reader.feed(chunk)
            ring = align.advance(ring, piece.lines, piece.oversize)
    return ring
