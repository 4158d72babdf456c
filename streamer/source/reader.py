"""Read one target's stream while it is open: check it, and replace it in time. What it was worth is a `StreamEnd`.

An open stream is not trusted (docs/decisions/0004-an-open-stream-is-not-trusted.md): a kubelet can fall silent for
ever at a rotation, skip a file, or send one twice.
"""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from random import uniform
from typing import Any, Final

import aiohttp
import structlog

from streamer.model import Instance
from streamer.source.api import ApiError, LogQuery
from streamer.source.evidence import HowEnded, InCurrent, StreamEnd
from streamer.source.intake import Intake
from streamer.source.lag import Lag
from streamer.source.open_stream import Begin, OpenStream, Silence
from streamer.source.pace import Pace
from streamer.source.patience import Patience
from streamer.source.pod_status import PodStatusCache
from streamer.source.position_search import find_position
from streamer.source.probes import ProbeTurns
from streamer.source.progress import Progress
from streamer.source.search import NotALogError, TargetLog
from streamer.source.silence import SilenceCheck
from streamer.source.stream import KubeletError, LogFileMissingError, LogRemovedError, LogStream
from streamer.telemetry import facts
from streamer.telemetry.status import StreamState
from streamer.transform.read import StampedLines

_DOUBTS: Final = 2
"""So often a log's first lines are doubted for their times, before its clock is taken to have been set back."""

log = structlog.get_logger()


class _StalledError(Exception):
    """A stream does not bring what its log has."""


class Reader:
    """Hands over what streams bring."""

    def __init__(
        self,
        log: TargetLog,
        progress: Progress,
        status: PodStatusCache,
        patience: Patience,
        turns: ProbeTurns,
    ) -> None:
        self._log = log
        self._progress = progress
        self._status = status
        self._patience = patience
        self._silence = SilenceCheck(log, progress, status, patience, turns)
        self._intake = Intake(progress, patience)
        self._open: OpenStream | None = None

    def expect_end(self) -> None:
        """The container has ended, or is to end: a stream that stays silent and open is checked now.

        Once a deleted pod's container has ended, its log is gone, and cannot be compared any more.
        """
        if self._open is not None:
            self._open.end_expected = True
            self._open.stream.hurry(self._patience.ending_seconds)

    async def follow(
        self, stream: LogStream, instance: Instance | None, *, begin: Begin | None = None
    ) -> StreamEnd:
        """Read a stream, and the ones that replace it, to the end, and close them.

        With `begin` it is at a log's first line. Lines older than those taken are doubted. At the start of a log they
        may only be the lines of a clock that was set back: where they come again and again, they are believed.
        """
        progress = self._progress
        if (
            begin is None
        ):  # else no line of this instance was taken yet: what is known of the one before still holds
            progress.belongs_to(instance)
        believed = begin is not None and progress.doubts >= _DOUBTS
        progress.newest_ns = 0 if believed else progress.last_ns or 0
        rotation_seconds = self._patience.rotation_seconds
        lag = Lag(None if begin else progress.last_ns, rotation_seconds)
        pace = Pace(2 * self._patience.quiet_seconds)
        self._open = opened = OpenStream(
            stream,
            instance,
            begin,
            lag,
            pace,
            self._renew_at(),
            ran=self._status.view.running,
            believed=believed,
        )
        self._silence.opened()
        progress.enter(StreamState.FOLLOWING)
        stream.settle()
        try:
            while (end := await self._live(opened)) is None:
                if (other := await self._renew(opened)) is not None:
                    other.settle()
                    opened.stream.close()
                    opened.renewed(other, self._renew_at(), Lag(progress.last_ns, rotation_seconds))
                else:
                    opened.renew_at = self._renew_again_at()
        finally:
            opened.stream.close()
            self._open = None
        if end.how is HowEnded.OUT_OF_ORDER and not end.taken_lines:
            progress.doubts += 1
        if opened.begin is not None and end.how is HowEnded.CLEAN and not end.in_doubt:
            await opened.begin(None)
            progress.belongs_to(opened.instance)
        return end

    def _renew_at(self) -> float:
        """When a stream that is opened now is replaced: spread widely, for many are opened at the same time."""
        return asyncio.get_running_loop().time() + self._patience.renew_seconds * uniform(0.67, 1.17)

    def _renew_again_at(self) -> float:
        """When a replacement that failed is tried again: spread as well, for an outage fails many at the same time."""
        return asyncio.get_running_loop().time() + self._patience.renew_seconds * uniform(0.02, 0.08)

    async def _renew(self, opened: OpenStream) -> LogStream | None:
        """Make before break: an open stream keeps the file readable that a rotation takes away."""
        tail = self._patience.tail_lines
        with ExitStack() as attempt:
            try:
                async with asyncio.timeout(self._patience.answer_seconds):
                    other = attempt.enter_context(
                        await self._log.open(LogQuery(follow=True, tail_lines=tail))
                    )
                    found = await find_position(other, self._progress, self._patience, tail, opened.instance)
            except (ApiError, aiohttp.ClientError, TimeoutError) as error:
                log.debug("stream_not_renewed", where=self._log.where, cause=repr(error))
                return None
            if found is not InCurrent.HELD:
                return None
            facts.stream_reconnects("renewed")
            log.debug("stream_renewed", where=self._log.where)
            attempt.pop_all()
            return other
        raise AssertionError  # no exception is held back above

    async def _live(self, opened: OpenStream) -> StreamEnd | None:
        """Hand over what comes, and check the stream where it is silent or out of order.

        Its end; None once it is old and should be replaced.
        """
        clock = asyncio.get_running_loop().time
        silence = Silence(self._patience.quiet_seconds)
        while clock() < opened.renew_at:
            try:
                piece = await self._read(opened, silence)
            except _StalledError:
                return self._ended(opened, HowEnded.OUT_OF_ORDER, "it does not bring what the log has")
            except aiohttp.ClientError as error:
                return self._ended(opened, HowEnded.BROKEN, repr(error))
            if piece is None:
                return self._at_end(opened)
            if piece.fragments and opened.begin is not None:
                raise NotALogError  # a proxy's page: a log's first line has a time
            if piece.lines:
                self._silence.heard()
                if (how := await self._intake.take(opened, piece)) is not None:
                    return self._ended(opened, how)
                pause_seconds = self._progress.mean_pause_seconds
                silence.seconds = self._patience.seconds_after_lines(silence.seconds, pause_seconds)
            del piece  # it may be large, and the next one be hours away
        return None

    async def _read(self, opened: OpenStream, silence: Silence) -> StampedLines | None:
        """What the stream brings next: nothing, where it was silent and has been checked; None at its end.

        A check may have to queue, or hang: lines that come meanwhile do not wait for it, and end it. Raises
        `_StalledError`, `aiohttp.ClientError`.
        """
        stream = opened.stream
        if opened.end_expected:
            silence.seconds = min(silence.seconds, self._patience.ending_seconds)
        try:
            piece = await stream.read(silence.seconds)
        except TimeoutError:
            if silence.expects_lines:
                raise _StalledError from None
        else:
            silence.expects_lines = False
            return piece
        opened.end_expected = False
        check = asyncio.create_task(self._silence.check(opened))
        reading = asyncio.create_task(stream.read())
        try:
            await asyncio.wait((reading, check), return_when=asyncio.FIRST_COMPLETED)
            if reading.done() and (reading.exception() is not None or reading.result() is None):
                await check  # what it finds is part of what the stream was worth
        finally:
            await _cancel(reading)
            await _cancel(check)
        if not reading.cancelled():
            return reading.result()
        silence.seconds, silence.expects_lines = check.result()
        return StampedLines()

    def _at_end(self, opened: OpenStream) -> StreamEnd:
        """The answer has ended: with its container, or with an error's text."""
        stream = opened.stream
        try:
            stream.check()
            rest = stream.last_line()
        except LogFileMissingError as error:
            return self._ended(opened, HowEnded.ERROR_TEXT, str(error))
        except LogRemovedError:
            rest = StampedLines()  # written once the container is gone: everything before it was sent
        except KubeletError as error:
            return self._ended(opened, HowEnded.ERROR_TEXT, str(error))
        return self._ended(opened, HowEnded.CLEAN, rest=rest)

    def _ended(
        self, opened: OpenStream, how: HowEnded, cause: str = "", *, rest: StampedLines | None = None
    ) -> StreamEnd:
        if how is not HowEnded.CLEAN:
            log.debug("stream_ended", where=self._log.where, how=how, cause=cause)
        return opened.ended(how, self._patience.lively_seconds, rest=rest)


async def _cancel(task: asyncio.Task[Any]) -> None:
    """End a task; what it had come to is not looked at."""
    if not task.done():
        task.cancel()
        await asyncio.wait((task,))
