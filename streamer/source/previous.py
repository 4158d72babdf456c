"""The log of the instance before the present one: of the one in hand, after a restart, or of one in between."""

from __future__ import annotations

from streamer.model import RING_LINES, DigestRing, Instance
from streamer.source.api import ApiError, LogQuery
from streamer.source.beginning import Beginning
from streamer.source.ending import Ending
from streamer.source.evidence import EndOfLog, HowEnded, InPrevious
from streamer.source.pod_status import PodStatusCache
from streamer.source.progress import Progress
from streamer.source.reader import Reader
from streamer.source.search import TargetLog
from streamer.source.stream import LogChangedError
from streamer.telemetry.status import StreamState
from streamer.transform import align
from streamer.transform.match import ends_before_last
from streamer.transform.read import StampedLines


class PreviousLog:
    """One target's. Its methods raise `ApiError`, `PodGoneError` and `aiohttp.ClientError`."""

    def __init__(
        self,
        log: TargetLog,
        progress: Progress,
        status: PodStatusCache,
        reader: Reader,
        ending: Ending,
        beginning: Beginning,
    ) -> None:
        self._log = log
        self._progress = progress
        self._status = status
        self._reader = reader
        self._ending = ending
        self._beginning = beginning

    async def search(self, tail_lines: int | None) -> InPrevious:
        """Look for the position in its last lines, or in all of it (None), and take what follows it there."""
        progress = self._progress
        progress.enter(StreamState.OPENING)
        instance = self._status.view.previous
        query = LogQuery(previous=True, tail_lines=tail_lines)

        async def take(new: StampedLines) -> None:
            progress.found()
            await progress.hand_over(new, instance)

        try:
            found = await self._log.read_on(query, progress.ring, take)
            if found.held:
                await self._finish(instance, found.end.rest, alone=False)
                return InPrevious.HELD
            if tail_lines is not None:
                return InPrevious.NOT_IN_TAIL
            check = LogQuery(previous=True, tail_lines=RING_LINES)
            end = await self._log.end(check)
        except ApiError as error:
            if not await self._ending.has_no_previous(error):
                raise
            return InPrevious.NO_LOG
        if end.ring and not end.is_in(found.served):
            raise LogChangedError("the previous log was cut off, or changed, while it was read")
        last = DigestRing(found.served[-DigestRing.WIDTH :])
        taken = bool(last) and align.find_ring(last, progress.ring) is not None
        return InPrevious.ROTATED if taken else InPrevious.ABSENT

    async def take(self) -> InPrevious:
        """Take it from its first line; there may be no such log any more."""
        progress, before = self._progress, self._progress.ring
        progress.enter(StreamState.OPENING)
        instance = self._status.view.previous
        try:
            with await self._log.open(LogQuery(previous=True)) as stream:
                await self._status.confirm()
                instance = instance or self._status.view.previous
                end = await self._reader.follow(stream, instance, begin=self._beginning.of_previous)
            if end.how is not HowEnded.CLEAN or end.in_doubt:
                raise LogChangedError("the previous log was not served whole")
            # By now the log after that may be the previous one, and have nothing but the beginning of a line.
            await self._finish(instance, end.rest, alone=progress.ring == before)
        except ApiError as error:
            if not await self._ending.has_no_previous(error):
                raise
            return InPrevious.NO_LOG
        return InPrevious.TAKEN if progress.ring != before else InPrevious.EMPTY

    async def is_ours(self) -> bool:
        """Whether it ends with the lines that were taken last."""
        ring = self._progress.ring
        try:
            query = LogQuery(tail_lines=RING_LINES, previous=True)
            end = await self._log.end(query)
        except ApiError as error:
            if not await self._ending.has_no_previous(error):
                raise
            return True
        served = DigestRing(end.digests[-len(ring) :]) if ring else DigestRing()
        if not served or align.ends_with(ring, served) or ends_before_last(ring, served):
            return True
        if align.find_ring(DigestRing(ring[-DigestRing.WIDTH :]), end.digests) is not None:
            self._progress.not_drained()  # it is ours, and has more
        return False

    async def _finish(self, instance: Instance | None, rest: StampedLines | None, *, alone: bool) -> None:
        """It was read, to `rest`: make sure that this was all of it, and take a last line without a newline."""
        found = await self._ending.compare_previous(rest, alone=alone)
        if found is EndOfLog.MORE:
            raise LogChangedError("the previous log was not served whole")
        if self._progress.ring:
            self._progress.belongs_to(instance)
            self._progress.drain(instance)
