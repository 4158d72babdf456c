"""Find the position in the first lines of an open stream. Finite answers are looked through by `search.py`."""

from __future__ import annotations

from math import inf
from typing import Final

from streamer.model import RING_LINES, DigestRing, Instance
from streamer.source.evidence import InCurrent
from streamer.source.pace import Pace
from streamer.source.patience import Patience
from streamer.source.progress import Progress
from streamer.source.stream import LogStream
from streamer.transform.match import RingMatcher

_NEWER_NS: Final = 1_000_000_000
"""A tail that begins so much later than the last line taken does not hold it."""


async def find_position(
    stream: LogStream,
    progress: Progress,
    patience: Patience,
    tail_lines: int | None,
    instance: Instance | None,
    *,
    held: DigestRing | None = None,
) -> InCurrent:
    """Find the position in a stream's first lines, and hand over what came after it with them.

    `tail_lines` were requested, or the whole log (None).

    `held`: a finite answer held the position, with these of its lines, so they will come, however slowly. Else a
    pause is taken for the end of what there was, and so are lines that come as fast as they were written. That the
    answer is slow means nothing. Raises `aiohttp.ClientError`, `KubeletError`.
    """
    is_held = held is not None
    matcher = RingMatcher(held or progress.ring, anchored=tail_lines is None)
    last_ns = progress.last_ns
    most_lines = inf if tail_lines is None else tail_lines + RING_LINES
    pause_seconds = patience.silent_seconds if is_held else patience.quiet_seconds
    pace = Pace(2 * patience.quiet_seconds)
    while matcher.lines < most_lines:
        try:
            piece = await stream.read(pause_seconds)
        except TimeoutError:
            return InCurrent.UNSURE
        if piece is None:
            stream.check()
        new = matcher.finish(stream.last_line(), followed=True) if piece is None else matcher.feed(piece)
        if matcher.found:
            stream.settle()
            progress.found()
            if new is not None:
                await progress.hand_over(new, instance)
            return InCurrent.HELD
        if piece is None:
            break
        if is_held or not piece.lines:
            continue
        starts_here = matcher.lines == len(piece.lines)
        if starts_here and last_ns is not None and piece.times_ns[0] > last_ns + _NEWER_NS:
            return InCurrent.NOT_IN_TAIL
        if pace.is_live(piece.times_ns[-1]):
            return InCurrent.UNSURE
    return InCurrent.NOT_IN_TAIL if matcher.lines else InCurrent.EMPTY
