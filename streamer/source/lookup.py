"""Look for the position in finite answers of the current log."""

from __future__ import annotations

from streamer.source.api import LogQuery
from streamer.source.evidence import InCurrent
from streamer.source.patience import Patience
from streamer.source.pod_status import PodStatusCache
from streamer.source.progress import Progress
from streamer.source.search import TargetLog
from streamer.source.seen import Seen
from streamer.source.stream import LogChangedError
from streamer.source.waits import Waits
from streamer.telemetry.status import StreamState
from streamer.transform.read import StampedLines


class Lookup:
    """One target's. Its methods raise `ApiError` and `aiohttp.ClientError`."""

    __slots__ = ("_log", "_patience", "_progress", "_seen", "_status", "_waits")

    def __init__(
        self,
        log: TargetLog,
        progress: Progress,
        status: PodStatusCache,
        patience: Patience,
        waits: Waits,
        seen: Seen,
    ) -> None:
        self._log = log
        self._progress = progress
        self._status = status
        self._patience = patience
        self._waits = waits
        self._seen = seen

    async def skip_to_now(self) -> None:
        """Put the target on record at the end of its log."""
        ring = await self._log.ring_of_now()
        await self._progress.skip_to(ring, self._status.view.instance)
        self._seen.note(from_now=False)

    async def tail(self) -> None:
        """In a tail of the usual length."""
        await self._read(LogQuery(tail_lines=self._patience.tail_lines), InCurrent.NOT_IN_TAIL)

    async def longer_tail(self) -> None:
        """In a longer tail."""
        query = LogQuery(tail_lines=self._patience.longer_tail_lines)
        await self._read(query, InCurrent.NOT_IN_LONGER_TAIL)

    async def whole(self) -> None:
        """In the whole log."""
        await self._read(LogQuery(), InCurrent.ABSENT)

    async def _read(self, query: LogQuery, if_absent: InCurrent) -> None:
        """Look for the position in a finite answer of the current log, and take what follows it there."""
        progress = self._progress
        progress.enter(StreamState.OPENING)
        instance = self._status.view.instance
        before = self._seen.end

        async def take(new: StampedLines) -> None:
            progress.found()
            self._seen.note(stream=None)  # it had not brought everything
            await progress.hand_over(new, instance)

        found = await self._log.read_on(query, progress.ring, take)
        self._waits.served()
        self._seen.note(removals=0)
        self._seen.end = found.end
        if found.held:
            progress.found()
            self._seen.held_lines, self._seen.held = query.tail_lines, found.end.part_of(progress.ring)
            self._seen.note(current=InCurrent.HELD)
            return
        if query.tail_lines is None and before.ring and not before.is_in(found.served):
            # A clean end means nothing. An answer is whole that has the lines which were the log's last before.
            raise LogChangedError("the log was cut off, or rotated, while it was read")
        self._seen.note(current=if_absent)
