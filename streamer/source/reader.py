"""Read one target's streams: from a place on, doubting them, and replacing them in time.

An open stream is not trusted (docs/decisions/0004-an-open-stream-is-not-trusted.md): a kubelet can fall silent for
ever at a rotation, skip a file, or send one twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, suppress
from dataclasses import replace
from math import inf
from typing import Final

import aiohttp
import structlog

from streamer.model import DigestRing, GapReason, Instance
from streamer.source.api import ApiError, KubernetesApi, LogQuery
from streamer.source.lag import Lag
from streamer.source.patience import EMPTY_PROBES, Patience
from streamer.source.place import last_line, log_end
from streamer.source.progress import Progress
from streamer.source.stream import LogStream, Where, open_log
from streamer.source.witness import Witness
from streamer.telemetry import facts
from streamer.telemetry.status import StreamState
from streamer.transform import align
from streamer.transform.read import StampedLines
from streamer.transform.seek import Seek, SeekRing

_DOUBTS: Final = 2
"""So often a log's first lines are doubted for their times, before its clock is taken to have been set back."""

log = structlog.get_logger()

Begin = Callable[[int | None], Awaitable[Instance | None]]
"""Called with the time of a log's first line before it is handed over; with None, if the log has ended without one.

Gives the instance whose log it is where that is known better by now than when the log was asked for, else None.
"""


class NotInOrderError(Exception):
    """The stream cannot be trusted any more; the place must be found again."""


class Reader:
    """Hands over what streams bring."""

    def __init__(
        self,
        api: KubernetesApi,
        where: Where,
        progress: Progress,
        witness: Witness,
        max_line_bytes: int,
        patience: Patience,
    ) -> None:
        self._api = api
        self._where = where
        self._progress = progress
        self._witness = witness
        self._max_line_bytes = max_line_bytes
        self._patience = patience
        self._empty_probes = 0
        self._stream: LogStream | None = None
        self._lag = Lag(None, patience.rotation_seconds)
        self._in_doubt = False
        self._begin: Begin | None = None
        self._instance: Instance | None = None
        """Whose lines the stream at hand brings, as far as that is known."""
        self.ended_cleanly = False
        """The last stream ended as one does whose container has ended. It may have ended so for other reasons."""
        self.ended_lively = False
        """It did so hard upon its last line's writing, so that it had not stalled before, and was not behind."""
        self.rest: StampedLines | None = None
        """What stood behind the last newline when the last stream ended; None if it was in doubt, or broke."""
        self.whole_at = -inf
        """When the log was last looked at (asked, on the loop's clock) and had no more than was taken."""

    def expect_end(self) -> None:
        """The container has ended: a stream that stays silent and open is doubted now."""
        if self._stream is not None:
            self._stream.hurry(self._patience.ending_seconds)

    async def open(self, query: LogQuery) -> LogStream:
        """Ask for a log. Raises `ApiError`."""
        stream = await open_log(self._api, self._where, query, self._max_line_bytes)
        self.ended_cleanly, self.rest = False, None
        return stream

    async def read_from(self, query: LogQuery, seek: Seek, instance: Instance | None) -> bool:
        """Hand over what a request gives, from the place on that `seek` finds; False if it is not there."""
        with await self.open(query) as stream:
            # A short tail has been served soon; what is known to be there may take its time.
            short = query.follow and query.tail_lines == self._patience.tail_lines
            seconds = self._patience.seek_seconds if short else self._patience.read_seconds
            found = await self._seek(stream, seek, seconds)
            if found is None:
                return False
            # What comes next follows what was taken last, whatever it looked like before.
            self._progress.gap = None
            await self._progress.hand_over(found, instance)
            del found  # it may be large, and the stream last for hours
            await self.follow(stream, instance)
        return True

    async def follow(
        self, stream: LogStream, instance: Instance | None, *, begin: Begin | None = None
    ) -> None:
        """Read a stream, and the ones that replace it, to the end, and close them.

        With `begin` it is at a log's first line. Lines older than those taken are doubted. At the start of a log they
        may only be the lines of a clock that was set back: where they come again and again, they are believed.
        """
        progress = self._progress
        progress.belongs_to(instance)
        believed = begin is not None and progress.doubts >= _DOUBTS
        progress.newest_ns = 0 if believed else progress.last_ns or 0
        self._stream, self._in_doubt, self._begin, self._instance = stream, False, begin, instance
        self._lag = Lag(None if begin else progress.last_ns, self._patience.rotation_seconds)
        progress.enter(StreamState.FOLLOWING)
        stream.settle()
        try:
            while await self._live(stream):
                if (other := await self._renew()) is not None:
                    other.settle()
                    stream.close()
                    self._stream = stream = other
                else:
                    stream.opened_at += self._patience.renew_seconds / 20
        finally:
            stream.close()
            self._stream = None
        if self._begin is not None and not self._in_doubt:
            await self._begin(None)

    async def _renew(self) -> LogStream | None:
        """Make before break: an open stream keeps the file readable that a rotation takes away."""
        progress, tail = self._progress, self._patience.tail_lines
        with ExitStack() as attempt:
            try:
                async with asyncio.timeout(self._patience.answer_seconds):
                    query = LogQuery(follow=True, tail_lines=tail)
                    other = attempt.enter_context(await self.open(query))
                    found = await self._seek(
                        other, SeekRing(progress.ring, tail), self._patience.seek_seconds
                    )
            except (ApiError, aiohttp.ClientError, TimeoutError) as error:
                log.debug("stream_not_renewed", where=self._where, cause=repr(error))
                return None
            if found is None:
                return None
            await progress.hand_over(found, self._instance)
            facts.stream_reconnects("renewed")
            log.debug("stream_renewed", where=self._where)
            attempt.pop_all()
            return other
        raise AssertionError  # no exception is held back above

    async def _seek(self, stream: LogStream, seek: Seek, seconds: float) -> StampedLines | None:
        found: StampedLines | None = None
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while found is None and not seek.failed:
                    piece = await stream.read()
                    # At the end: the last line taken may have been one without a newline.
                    found = seek.feed(stream.last_line() if piece is None else piece)
                    if piece is None:
                        break
        return found

    async def _live(self, stream: LogStream) -> bool:
        """Hand over what comes, and doubt the stream where it is silent or out of order.

        False at its end; True once it is old and should be replaced.
        """
        progress = self._progress
        clock = asyncio.get_running_loop().time
        wait_seconds, expecting = self._patience.quiet_seconds, False
        while clock() < stream.opened_at + self._patience.renew_seconds:
            try:
                piece = await stream.read(wait_seconds)
            except TimeoutError:
                if expecting:
                    raise NotInOrderError("the stream does not bring what the log has") from None
                self._in_doubt = True
                wait_seconds, expecting = await self._doubt_silence()
                continue
            if piece is None:
                stream.check()
                self.ended_cleanly = not stream.cut_off and not self._in_doubt
                silent_seconds = clock() - stream.arrived_at + self._lag.late_seconds
                self.ended_lively = silent_seconds <= self._patience.lively_seconds
                self.rest = None if self._in_doubt else stream.last_line()
                return False
            expecting = False
            if piece.fragments and self._begin is not None:
                raise ApiError(0, "what is served is no log")  # a proxy's page: a log's first line has a time
            if piece.lines:
                self._empty_probes = 0
                doubtful = align.first_doubtful(
                    piece.lines, piece.times_ns, progress.newest_ns, progress.ring, piece.oversize
                )
                if doubtful != 0 and self._begin is not None:
                    if (known := await self._begin(piece.times_ns[0])) is not None:
                        progress.belongs_to(known)
                        self._instance = known
                    self._begin = None
                if doubtful is not None:
                    await self._hand_over(stream, piece.before(doubtful))
                    raise NotInOrderError(
                        "lines out of order: a clock was set, or the kubelet began a file again"
                    )
            await self._hand_over(stream, piece)
            del piece  # it may be large, and the next one be hours away
        return True

    async def _hand_over(self, stream: LogStream, piece: StampedLines) -> None:
        """Hand over lines, and say it where a file may have been skipped before one."""
        progress = self._progress
        now = asyncio.get_running_loop().time()
        behind_seconds = now - stream.waited_at
        self._watch_for_delay(behind_seconds)
        while piece.lines:
            at = self._lag.hole(piece.times_ns, now=now, behind_seconds=behind_seconds)
            if at is None:
                break
            await progress.hand_over(piece.before(at), self._instance)
            if progress.gap is None and not progress.behind_told:
                progress.miss(
                    GapReason.ROTATION_UNSEEN,
                    detail="lines came late, and then left out a while: the log may have been rotated twice",
                )
            piece = replace(piece.after(at), fragments=0)
        await progress.hand_over(piece, self._instance)

    async def _doubt_silence(self) -> tuple[float, bool]:
        """Ask whether the log has more than the stream brought: how long to wait now, and whether for something."""
        patience, ring = self._patience, self._progress.ring
        asked_at = asyncio.get_running_loop().time()
        long_seconds = patience.seconds_to_probe(asked_at)
        ended = not self._witness.view.running
        try:
            async with asyncio.timeout(patience.answer_seconds):
                if ended:  # what stands behind the last newline is a line now, and a tail may leave it out
                    end = await log_end(self._api, self._where, LogQuery(), self._max_line_bytes)
                else:
                    end = await last_line(self._api, self._where, self._max_line_bytes, expected=ring)
        except (ApiError, aiohttp.ClientError, TimeoutError) as error:
            # The stream itself may be well: a deleted pod's is.
            log.debug("probe_failed", where=self._where, cause=repr(error))
            return long_seconds, False
        if not end.ring and ring:
            self._empty_probes += 1
            in_haste = self._empty_probes <= EMPTY_PROBES
            wait_seconds = patience.empty_seconds if in_haste else long_seconds
        else:
            self._empty_probes = 0
            if not ring.endswith(end.ring[-DigestRing.WIDTH :]):
                return patience.stalled_seconds, True
            self._in_doubt = False
            if not end.rest.lines:  # else it has more, once its container has ended
                self.whole_at = asked_at
            wait_seconds = long_seconds
        # Who has ended prints no more, and its stream should end.
        return (patience.stalled_seconds, True) if ended else (wait_seconds, False)

    def _watch_for_delay(self, behind_seconds: float) -> None:
        """Say it where two rotations may have passed while we did not read: then a file may have been skipped."""
        progress = self._progress
        if behind_seconds < self._patience.behind_seconds:
            progress.behind_told = False
        elif not progress.behind_told and progress.gap is None:
            progress.behind_told = True
            progress.miss(
                GapReason.ROTATION_UNSEEN,
                detail=f"reading was behind for {behind_seconds:.0f} s: the log may have been rotated twice",
            )
