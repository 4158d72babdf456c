"""Open a target's log and follow it: from the position on, or from the first line."""

from __future__ import annotations

from streamer.model import DigestRing, Instance
from streamer.source.api import LogQuery
from streamer.source.beginning import Beginning
from streamer.source.evidence import InCurrent, InPrevious, Refusal
from streamer.source.patience import Patience
from streamer.source.pod_status import PodStatusCache
from streamer.source.position_search import find_position
from streamer.source.previous import PreviousLog
from streamer.source.progress import Progress
from streamer.source.reader import Reader
from streamer.source.search import TargetLog
from streamer.source.seen import Seen
from streamer.source.stream import LogStream
from streamer.source.waits import Waits
from streamer.telemetry import facts
from streamer.telemetry.status import StreamState


class Following:
    """One target's. Its methods raise `ApiError`, `PodGoneError` and `aiohttp.ClientError`."""

    def __init__(
        self,
        log: TargetLog,
        progress: Progress,
        status: PodStatusCache,
        patience: Patience,
        waits: Waits,
        reader: Reader,
        beginning: Beginning,
        previous: PreviousLog,
        seen: Seen,
    ) -> None:
        self._log = log
        self._progress = progress
        self._status = status
        self._patience = patience
        self._waits = waits
        self._reader = reader
        self._beginning = beginning
        self._previous = previous
        self._seen = seen
        self._ended_with = DigestRing()
        """The last lines taken when the last stream ended."""
        self._kept: tuple[LogStream, Instance | None] | None = None
        """Opened before the status was awaited, and not read: what is rotated away meanwhile stays readable."""

    def drop_kept(self) -> None:
        """Close what was opened and not read, if anything was."""
        if self._kept is not None:
            self._kept[0].close()
            self._kept = None

    async def await_status(self) -> None:
        """Give the status time to catch up with the log, which is opened and not read meanwhile."""
        await self._status.ask()
        stream = await self._log.open(LogQuery(follow=True))
        stream.settle()
        self._kept = stream, self._status.view.instance
        if self._seen.facts.previous not in (InPrevious.NO_LOG, InPrevious.EMPTY):
            known = self._progress.instance.restart_count if self._progress.instance else 0
            await self._status.ask_until(
                lambda view: view.instance is not None and view.instance.restart_count > known
            )
        self._seen.note(asked=True, status_awaited=True)

    async def tail(self) -> None:
        """From the position, in a tail of the usual length."""
        progress, first = self._progress, self._status.view.instance
        if progress.instance is None and first is not None and first.restart_count == 0:
            # Lines came before the status showed whose they are: there was no other instance yet.
            progress.belongs_to(first)
        is_held = self._seen.facts.current is InCurrent.HELD
        farther = self._seen.held_lines != self._patience.tail_lines
        if_absent = InCurrent.HELD_FARTHER if is_held and farther else InCurrent.NOT_IN_TAIL
        await self._follow_from(self._patience.tail_lines, is_held=is_held, if_absent=if_absent)

    async def longer_tail(self) -> None:
        """From the position, in a tail twice as long as the one in which it was found."""
        lines = None if self._seen.held_lines is None else 2 * self._seen.held_lines
        await self._follow_from(lines, is_held=True, if_absent=InCurrent.NOT_IN_TAIL)

    async def _follow_from(self, lines: int | None, *, is_held: bool, if_absent: InCurrent) -> None:
        """Follow from the position, which is looked for in the last `lines` lines (None: in the whole log)."""
        self._progress.enter(StreamState.OPENING)
        instance = self._status.view.instance
        with await self._log.open(LogQuery(follow=True, tail_lines=lines)) as stream:
            self._served()
            found = await find_position(
                stream,
                self._progress,
                self._patience,
                lines,
                instance,
                held=self._seen.held if is_held else None,
            )
            if found is InCurrent.HELD:
                await self._follow(stream, instance)
            else:
                current = if_absent if found is InCurrent.NOT_IN_TAIL else found
                # An empty log, or another instance's, says nothing about how this one's stream ended.
                kept = found is InCurrent.EMPTY or self._seen.evidence().restarts > 0
                self._seen.note(
                    current=current, stream=self._seen.facts.stream if kept else None, fresh=False
                )

    async def first(self) -> None:
        """Follow a log of which nothing was taken yet."""
        self._progress.enter(StreamState.OPENING)
        (kept, instance), self._kept = self._kept or (None, self._status.view.instance), None
        with kept or await self._log.open(LogQuery(follow=True)) as stream:
            self._served()
            await self._status.confirm()
            await self._follow(stream, instance or self._status.view.instance, begins=True)

    async def next(self) -> None:
        """Follow the log of the instance after the one that was read last.

        While the stream is open and not read, it keeps its file. That no third instance came and ended in between is
        checked once it is open: then the previous log is still the one that was read.
        """
        self._progress.enter(StreamState.OPENING)
        was_complete = (
            self._seen.facts.previous in (InPrevious.HELD, InPrevious.TAKEN) or self._progress.drained
        )
        with await self._log.open(LogQuery(follow=True)) as stream:
            self._served()
            if was_complete and not await self._previous.is_ours():
                self._seen.start_search()
                self._seen.note(refusal=Refusal.FAILED)
                return
            await self._status.confirm()
            instance = await self._status.next_instance(self._progress.instance)
            await self._follow(stream, instance, begins=True)

    async def _follow(self, stream: LogStream, instance: Instance | None, *, begins: bool = False) -> None:
        begin = self._beginning.of_current if begins else None
        # What was taken while the position was looked for is news, too.
        before = self._seen.facts.stream if not begins and self._progress.ring == self._ended_with else None
        self._seen.note(stream=None, fresh=False)
        end = await self._reader.follow(stream, instance, begin=begin)
        facts.stream_reconnects(end.how)
        if end.taken_lines:
            self._progress.backoff.reset()
        self._progress.enter(StreamState.OPENING)  # what is asked next is not reading
        self._seen.start_search()
        self._ended_with = self._progress.ring
        self._seen.note(stream=end.after(before), fresh=True)

    def _served(self) -> None:
        self._waits.served()
        self._seen.note(removals=0)
