"""Look for the position in what the API serves, and for how a log ends. Only digests and counts are kept meanwhile.

Each answer is used once for everything: the position, the lines after
it, the log's end and a last line without a newline.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from streamer.model import RING_LINES, DigestRing
from streamer.source.api import ApiError, KubernetesApi, LogQuery
from streamer.source.budget import Lane
from streamer.source.stream import LogStream, Where, open_log
from streamer.transform import align
from streamer.transform.match import RingMatcher
from streamer.transform.read import StampedLines

_END_LINES: Final = (16, 512, 8192)
_SINCE_NS: Final = 2_000_000_000
"""How far before the last line taken a look at the log's end begins: stdout and stderr overtake each other."""


class NotALogError(ApiError):
    """What is served has no times: a proxy's page, or the end of a long line."""

    def __init__(self) -> None:
        super().__init__(0, "what is served is no log")


HandOver = Callable[[StampedLines], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class LogEnd:
    """How an answer ends."""

    ring: DigestRing = field(default_factory=DigestRing)
    """The last lines with a newline; none if there are none."""
    rest: StampedLines = field(default_factory=StampedLines)
    """What stands behind it: a line, perhaps."""
    lines: int = 0
    """How many lines with a newline there were."""

    @property
    def digests(self) -> DigestRing:
        """The last lines, with what stands behind the last newline."""
        return DigestRing(self.ring + align.digests(self.rest.lines, self.rest.oversize))

    @property
    def last(self) -> DigestRing:
        """The last line with a newline; empty if there is none."""
        return DigestRing(self.ring[-DigestRing.WIDTH :])

    def part_of(self, ring: DigestRing) -> DigestRing:
        """The end of a ring that these lines show; the lines before it were in an earlier file, or are farther up.

        The whole ring, where its end alone would not say where.
        """
        width, length = DigestRing.WIDTH, 0
        while length < min(len(ring), len(self.ring)) and (
            ring[len(ring) - length - width : len(ring) - length]
            == self.ring[len(self.ring) - length - width : len(self.ring) - length]
        ):
            length += width
        part = DigestRing(ring[len(ring) - length :])
        # Lines that are all alike stand in the ring more than once: a part of them shows no place.
        return part if length and align.find_ring(part, ring[:-width]) is None else ring

    def is_in(self, served: bytes) -> bool:
        """Whether these lines are among others, by their digests; the first may be the end of a long line."""
        whole = DigestRing(self.ring[DigestRing.WIDTH :]) or self.ring
        return align.find_ring(whole, served) is not None


@dataclass(frozen=True, slots=True)
class Found:
    """What a finite answer showed."""

    held: bool
    """The position is in it, and what follows it was handed over."""
    end: LogEnd
    served: bytes = b""
    """The digests of its lines; empty where the position was found."""


@dataclass(frozen=True, slots=True)
class TargetLog:
    """The log of one target, to request it from. All but `open` make finite requests, and raise as `read_on` does."""

    api: KubernetesApi
    where: Where
    max_line_bytes: int

    async def open(self, query: LogQuery, lane: Lane = Lane.OPEN) -> LogStream:
        """Request it. Raises `ApiError`."""
        return await open_log(self.api, self.where, query, self.max_line_bytes, lane)

    async def read_on(self, query: LogQuery, ring: DigestRing, hand_over: HandOver) -> Found:
        """Look for the position in a finite answer, and hand over the lines after it while they arrive.

        Raises `ApiError`, `aiohttp.ClientError`; what was handed over before stays so.
        """
        whole = query.tail_lines is None
        matcher = RingMatcher(ring, anchored=whole)

        async def take(piece: StampedLines) -> None:
            if (new := matcher.feed(piece)) is not None and new.lines:
                await hand_over(new)

        end, fragments = await self._read(query, Lane.OPEN, take)
        if (fragments and whole) or end.rest.fragments or (fragments and not end.lines):
            raise NotALogError
        if (new := matcher.finish(end.rest)) is not None and new.lines:
            await hand_over(new)
        return Found(matcher.found, end, matcher.served)

    async def end(self, query: LogQuery, lane: Lane = Lane.OPEN) -> LogEnd:
        """How an answer ends: with which lines, and with what behind the last newline."""
        end, fragments = await self._read(query, lane)
        if end.rest.fragments or (fragments and not end.lines):
            raise NotALogError
        return end

    async def ring_of_now(self) -> DigestRing:
        """The ring of a reader that has read all that the log has."""
        end = await self.end(LogQuery(tail_lines=RING_LINES + 1))
        if end.lines <= RING_LINES:  # a short log, or one of long lines, of which a tail may begin within one
            end = await self.end(LogQuery())
        return end.ring

    async def last_line(self, *, expected: DigestRing) -> LogEnd:
        """The log's end with the digest of its last line, none if there is no line.

        A tail counts records: of a long last line it may hold the end only, as if that were a line. So there must be
        a line before it, or it must be the last of those `expected`.
        """
        end = LogEnd()
        for lines in _END_LINES:
            end = await self.end(LogQuery(tail_lines=lines), Lane.PROBE)
            if end.ring.lines != 1 or expected.endswith(end.ring):
                break
        return LogEnd(end.last, end.rest)

    async def end_after(self, ring: DigestRing, last_ns: int | None, *, previous: bool = False) -> LogEnd:
        """How the log of a container that has ended ends, a record that was cut before its newline included.

        The kubelet leaves such a record out of a tail that is full without it, so all lines since shortly before the
        last one taken are requested instead: few bytes, of whatever size the log is. Where there are none, the whole
        log is requested.
        """
        if ring and last_ns is not None:
            since = LogQuery(previous=previous, since_ns=max(0, last_ns - _SINCE_NS))
            # Where a clock was set back, it may begin within a line.
            with suppress(NotALogError):
                end = await self.end(since)
                if end.ring or (end.rest.lines and align.ends_with(ring, end.digests)):
                    return end
        return await self.end(LogQuery(previous=previous))

    async def _read(self, query: LogQuery, lane: Lane, take: HandOver | None = None) -> tuple[LogEnd, int]:
        """Read a finite answer; its end, and how many pieces without a time there were."""
        ring, lines, fragments = DigestRing(), 0, 0
        with await self.open(query, lane) as stream:
            async for piece in stream.pieces():
                lines += len(piece.lines)
                fragments += piece.fragments
                ring = align.advance(ring, piece.lines, piece.oversize)
                if take is not None:
                    await take(piece)
            return LogEnd(ring, stream.last_line(), lines), fragments
