"""Take the lines of an open stream: those in order, and with a gap before them where a file may have been skipped."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Final

from streamer.model import DigestRing, GapReason
from streamer.source.evidence import HowEnded
from streamer.source.open_stream import OpenStream
from streamer.source.patience import Patience
from streamer.source.progress import Progress
from streamer.transform import align
from streamer.transform.read import StampedLines

_AT_ONCE_SECONDS: Final = 0.05


class Intake:
    """One target's."""

    __slots__ = ("_patience", "_progress")

    def __init__(self, progress: Progress, patience: Patience) -> None:
        self._progress = progress
        self._patience = patience

    async def take(self, opened: OpenStream, piece: StampedLines) -> HowEnded | None:
        """Hand lines over; how the stream has ended, where it is of no use from some line on.

        `OUT_OF_ORDER`: a clock was set, or the kubelet sent a file again. `LATER_INSTANCE`: the log of an instance in
        between was not read.
        """
        progress = self._progress
        if opened.begin is not None and opened.believed:
            # It was taken before: the answers in which the position was looked for were cut short.
            piece = piece.after(align.held_first(progress.ring, piece.lines))
            if not piece.lines:
                return None
        doubtful = align.first_doubtful(
            piece.lines, piece.times_ns, progress.newest_ns, progress.ring, piece.oversize
        )
        if opened.begin is not None and align.held_first(progress.ring, piece.lines[:1]):
            doubtful = 0  # it was taken: the position is in this log, and an answer that was cut short hid it
        if doubtful != 0 and opened.begin is not None:
            begin, opened.begin = opened.begin, None
            if (known := await begin(piece.times_ns[0])) is not None:
                assumed = 0 if opened.instance is None else opened.instance.restart_count
                if known.restart_count > assumed:
                    return HowEnded.LATER_INSTANCE
                progress.belongs_to(known)
                opened.instance = known
        if doubtful is not None:
            piece = piece.before(doubtful)
        await self._hand_over(opened, piece)
        return None if doubtful is None else HowEnded.OUT_OF_ORDER

    async def _hand_over(self, opened: OpenStream, piece: StampedLines) -> None:
        """Hand over lines, and report a possible gap before a line where a file may have been skipped."""
        progress, stream = self._progress, opened.stream
        now = asyncio.get_running_loop().time()
        behind_seconds = now - stream.waited_at
        self._watch_for_delay(behind_seconds)
        if piece.lines and not opened.caught_up:
            opened.caught_up = opened.pace.is_live(piece.times_ns[-1])
        if piece.lines and opened.caught_up and behind_seconds < _AT_ONCE_SECONDS:
            opened.lag.lived(time.time_ns() - piece.times_ns[-1])
        opened.taken_lines += len(piece.lines)
        if piece.lines and opened.found_empty:
            opened.found_empty = False
            progress.miss(
                GapReason.ROTATION_UNSEEN,
                detail="the log could not be compared, and was empty later: it may have been rotated twice",
                evidence={"case": "the log was empty after checks that had failed"},
            )
        while piece.lines:
            at = opened.lag.hole(piece.times_ns, now=now, behind_seconds=behind_seconds)
            if at is None:
                break
            await progress.hand_over(piece.before(at), opened.instance)
            if not progress.behind_reported:
                progress.miss(
                    GapReason.ROTATION_UNSEEN,
                    detail="lines arrived late and then skipped a while: the log may have been rotated twice",
                    evidence={
                        "case": "lines arrived late and then skipped a while",
                        "late_seconds": round(max(opened.lag.late_seconds, behind_seconds), 3),
                        "skipped_seconds": self._skipped_seconds(piece.times_ns[at]),
                    },
                )
            piece = replace(piece.after(at), fragments=0)
        await progress.hand_over(piece, opened.instance)
        if opened.awaited and align.find_ring(DigestRing(opened.awaited), progress.ring) is not None:
            opened.in_doubt, opened.caught_up, opened.awaited = False, True, b""
        if opened.taken_lines:
            opened.last_taken_at = asyncio.get_running_loop().time()

    def _skipped_seconds(self, next_ns: int) -> float:
        return round((next_ns - (self._progress.last_ns or next_ns)) / 1_000_000_000, 3)

    def _watch_for_delay(self, behind_seconds: float) -> None:
        """Report a possible gap where two rotations may have passed while we did not read."""
        progress = self._progress
        if behind_seconds < self._patience.behind_seconds:
            progress.behind_reported = False
        elif not progress.behind_reported and progress.gap is None:
            progress.behind_reported = True
            progress.miss(
                GapReason.ROTATION_UNSEEN,
                detail=f"reading was behind for {behind_seconds:.0f} s: the log may have been rotated twice",
                evidence={"case": "reading was behind", "behind_seconds": round(behind_seconds, 3)},
            )
