"""Read one target's stream while it is open: check it, and replace it in time. What it was worth is a `StreamEnd`.

An open stream is not trusted (docs/decisions/0004-an-open-stream-is-not-trusted.md): a kubelet can fall silent for
ever at a rotation, skip a file, or send one twice.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from math import inf
from random import uniform
from typing import Any, Final

import aiohttp
import structlog

from streamer.model import RING_LINES, DigestRing, GapReason, Instance
from streamer.source.api import ApiError, LogQuery
from streamer.source.evidence import HowEnded, InCurrent, StreamEnd
from streamer.source.lag import Lag
from streamer.source.patience import EMPTY_PROBES, Patience
from streamer.source.pod_status import PodStatusCache
from streamer.source.probes import ProbeTurns
from streamer.source.progress import Progress
from streamer.source.search import NotALogError, TargetLog
from streamer.source.stream import (
    KubeletError,
    LogFileMissingError,
    LogRemovedError,
    LogStream,
    is_log_removed,
)
from streamer.telemetry import facts
from streamer.telemetry.status import StreamState
from streamer.transform import align
from streamer.transform.match import RingMatcher
from streamer.transform.read import StampedLines

_DOUBTS: Final = 2
"""So often a log's first lines are doubted for their times, before its clock is taken to have been set back."""

_AT_ONCE_SECONDS: Final = 0.05
_NEWER_NS: Final = 1_000_000_000
"""A tail that begins so much later than the last line taken does not hold it."""

log = structlog.get_logger()

Begin = Callable[[int | None], Awaitable[Instance | None]]
"""Called with the time of a log's first line before it is handed over; with None, if the log has ended without one.

Gives the instance whose log it is where that is known better by now than when the log was requested, else None.
"""


class _Pace:
    """Whether lines come as fast as they were written: then what was there when the log was opened is through."""

    def __init__(self, window_seconds: float) -> None:
        self._window_seconds = window_seconds
        self._clock = asyncio.get_running_loop().time
        self._since: tuple[float, int] | None = None

    def is_live(self, time_ns: int) -> bool:
        """Take the time of a line that has just come. Compared are two lines that came a window apart."""
        now = self._clock()
        if self._since is None:
            self._since = now, time_ns
        came_seconds = now - self._since[0]
        if came_seconds < self._window_seconds:
            return False
        written_seconds = (time_ns - self._since[1]) / 1_000_000_000
        self._since = now, time_ns
        return abs(written_seconds - came_seconds) <= came_seconds / 4


@dataclass(slots=True)
class _Open:
    """The stream at hand, and what was found out about it."""

    stream: LogStream
    instance: Instance | None
    """Whose lines it brings, as far as that is known."""
    begin: Begin | None
    lag: Lag
    pace: _Pace
    renew_at: float
    ran: bool = True
    """Its container ran when it was opened, as far as was known: else all its lines were there already."""
    caught_up: bool = False
    """It has brought what was there when it was opened: what comes after a wait was written just then."""
    believed: bool = False
    """Its first lines are taken, whatever they are."""
    in_doubt: bool = False
    end_expected: bool = False
    """Its container is to end, or has ended, since it was last checked."""
    awaited: bytes = b""
    """The last line that the log had and the stream had not brought, while that is why it is in doubt."""
    compared_at: float = -inf
    found_empty: bool = False
    """Its log was empty when it could be compared at last: of two rotations since, the stream may have missed one."""
    last_taken_at: float = -inf
    taken_lines: int = 0

    def renewed(self, stream: LogStream, renew_at: float, lag: Lag) -> None:
        """Another stream goes on from the position. What was found out about the one before does not hold for it."""
        self.stream, self.renew_at, self.lag = stream, renew_at, lag
        self.caught_up = self.in_doubt = self.found_empty = False
        self.awaited, self.compared_at = b"", -inf
        self.last_taken_at = stream.opened_at


@dataclass(slots=True)
class _Silence:
    """How long a stream may be silent before it is checked, and whether it should bring something meanwhile."""

    seconds: float
    expects_lines: bool = False


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
        self._turns = turns
        self._probes = 0
        self._empty_probes = 0
        self._open: _Open | None = None

    def expect_end(self) -> None:
        """The container has ended, or is to end: a stream that stays silent and open is checked now.

        Once a deleted pod's container has ended, its log is gone, and cannot be compared any more.
        """
        if self._open is not None:
            self._open.end_expected = True
            self._open.stream.hurry(self._patience.ending_seconds)

    async def align(
        self,
        stream: LogStream,
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
        matcher = RingMatcher(held or self._progress.ring, anchored=tail_lines is None)
        last_ns = self._progress.last_ns
        most_lines = inf if tail_lines is None else tail_lines + RING_LINES
        pause_seconds = self._patience.silent_seconds if is_held else self._patience.quiet_seconds
        pace = _Pace(2 * self._patience.quiet_seconds)
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
                self._progress.found()
                if new is not None:
                    await self._progress.hand_over(new, instance)
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
        pace = _Pace(2 * self._patience.quiet_seconds)
        self._open = opened = _Open(stream, instance, begin, lag, pace, self._renew_at(), believed=believed)
        self._probes = 0
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

    async def _renew(self, opened: _Open) -> LogStream | None:
        """Make before break: an open stream keeps the file readable that a rotation takes away."""
        tail = self._patience.tail_lines
        with ExitStack() as attempt:
            try:
                async with asyncio.timeout(self._patience.answer_seconds):
                    other = attempt.enter_context(
                        await self._log.open(LogQuery(follow=True, tail_lines=tail))
                    )
                    found = await self.align(other, tail, opened.instance)
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

    async def _live(self, opened: _Open) -> StreamEnd | None:
        """Hand over what comes, and check the stream where it is silent or out of order.

        Its end; None once it is old and should be replaced.
        """
        clock = asyncio.get_running_loop().time
        silence = _Silence(self._patience.quiet_seconds)
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
                self._probes = self._empty_probes = 0
                if (how := await self._take(opened, piece)) is not None:
                    return self._ended(opened, how)
                pause_seconds = self._progress.mean_pause_seconds
                silence.seconds = self._patience.seconds_after_lines(silence.seconds, pause_seconds)
            del piece  # it may be large, and the next one be hours away
        return None

    async def _read(self, opened: _Open, silence: _Silence) -> StampedLines | None:
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
        check = asyncio.create_task(self._check_silence(opened))
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

    def _at_end(self, opened: _Open) -> StreamEnd:
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

    async def _take(self, opened: _Open, piece: StampedLines) -> HowEnded | None:
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

    async def _hand_over(self, opened: _Open, piece: StampedLines) -> None:
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

    def _ended(
        self, opened: _Open, how: HowEnded, cause: str = "", *, rest: StampedLines | None = None
    ) -> StreamEnd:
        now, stream = asyncio.get_running_loop().time(), opened.stream
        if how is not HowEnded.CLEAN:
            log.debug("stream_ended", where=self._log.where, how=how, cause=cause)
        # Of what came before the position was found, nobody knows how late it was.
        arrived_at = stream.arrived_at if opened.taken_lines else stream.opened_at
        silent_seconds = now - arrived_at + opened.lag.late_seconds
        return StreamEnd(
            how,
            at=now,
            taken_lines=opened.taken_lines,
            in_doubt=opened.in_doubt,
            compared_at=opened.compared_at,
            last_taken_at=opened.last_taken_at,
            lively=(opened.caught_up or opened.ran) and silent_seconds <= self._patience.lively_seconds,
            at_node_ns=time.time_ns() - opened.lag.offset_ns,
            rest=None if opened.in_doubt else rest,
        )

    async def _check_silence(self, opened: _Open) -> tuple[float, bool]:
        """Check whether the log has more than the stream brought: how long to wait now, and whether for something."""
        patience, ring = self._patience, self._progress.ring
        doubted, opened.in_doubt = opened.in_doubt, True
        asked_at = asyncio.get_running_loop().time()
        wanted_seconds = patience.seconds_to_probe(self._probes, self._progress.mean_pause_seconds)
        long_seconds = self._turns.take(asked_at, wanted_seconds)
        ended = not self._status.view.running
        try:
            async with asyncio.timeout(patience.answer_seconds):
                if ended:  # what stands behind the last newline is a line now, and a tail may leave it out
                    end = await self._log.end_after(ring, self._progress.last_ns)
                else:
                    end = await self._log.last_line(expected=ring)
        except asyncio.CancelledError:
            opened.in_doubt = doubted  # lines have come meanwhile
            raise
        except (ApiError, aiohttp.ClientError, TimeoutError) as error:
            # The stream itself may be well: a deleted pod's is.
            log.debug("probe_failed", where=self._log.where, cause=repr(error))
            if is_log_removed(error) or (
                isinstance(error, ApiError) and error.is_pod_gone
            ):  # that says nothing against the stream
                opened.in_doubt = doubted
            return long_seconds, False
        wait_seconds = long_seconds
        if not end.ring and ring:
            self._empty_probes += 1
            opened.in_doubt = doubted  # it was rotated, and nothing was written since
            behind_seconds = asked_at - opened.last_taken_at + opened.lag.late_seconds
            if not end.rest.lines and behind_seconds < patience.rotation_seconds:
                opened.compared_at = asked_at  # it was rotated once: the last line taken was the file's last
            elif doubted and opened.compared_at <= opened.last_taken_at:
                opened.found_empty = True
            if self._empty_probes <= EMPTY_PROBES:
                wait_seconds = patience.empty_seconds
        else:
            self._empty_probes = 0
            if not ring.endswith(end.last):
                opened.awaited = end.last
                return patience.stalled_seconds, True
            self._probes += 1
            opened.in_doubt, opened.caught_up = False, True
            opened.lag.compared()
            if not end.rest.lines:  # else it has more, once its container has ended
                opened.compared_at = asked_at
        # A container that has ended prints no more, and its stream should end.
        return (patience.stalled_seconds, True) if ended else (wait_seconds, False)

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


async def _cancel(task: asyncio.Task[Any]) -> None:
    """End a task; what it had come to is not looked at."""
    if not task.done():
        task.cancel()
        await asyncio.wait((task,))
