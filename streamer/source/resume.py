"""Find the place up to which a target was read in what the API serves now, and read on from there.

Every connection begins so, for a break is never trusted to be what it looks like: a body that ends cleanly may mean
a kubelet that was killed, a time limit, or the end of the container. The content of the last lines tells
(docs/decisions/0002-positions-by-content.md); the pod's status is asked only where it cannot.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, NamedTuple

from streamer.model import DigestRing, GapReason, Instance
from streamer.source.api import ApiError, KubernetesApi, LogQuery
from streamer.source.patience import Patience
from streamer.source.place import Place, find_place, last_line, log_end, ring_of_now
from streamer.source.pods import PodView
from streamer.source.progress import Progress
from streamer.source.reader import Begin, Reader
from streamer.source.stream import KubeletError, Where
from streamer.source.witness import Witness
from streamer.transform import align
from streamer.transform.read import StampedLines
from streamer.transform.seek import Seek, SeekRing, SkipLines

_SECOND_NS: Final = 1_000_000_000
_LOST_TRIES: Final = 5
_LAST_RECORD: Final = LogQuery(tail_lines=1)
_LAST_RECORD_OF_PREVIOUS: Final = LogQuery(tail_lines=1, previous=True)


class Resumption:
    """One target's way from its position to its log's end; `read` is one connection's worth of it."""

    def __init__(
        self,
        api: KubernetesApi,
        where: Where,
        progress: Progress,
        witness: Witness,
        reader: Reader,
        max_line_bytes: int,
        patience: Patience,
        *,
        from_now: bool,
        from_birth: bool,
    ) -> None:
        self._api = api
        self._where = where
        self._progress = progress
        self._witness = witness
        self._reader = reader
        self._max_line_bytes = max_line_bytes
        self._patience = patience
        self._from_now = from_now
        self._watched = from_birth
        """Whether the log's first lines are ours to read: what was gone before the target was known is not."""

    async def read(self) -> None:
        """Find the place, then stream from it to the end of the connection. Raises what its parts raise."""
        progress, witness = self._progress, self._witness
        if self._from_now:
            await self._skip_to_now()
        if progress.ring:
            await self._go_on()
            return
        await witness.check()  # nothing else tells this log from that of a later pod of the same name
        if progress.instance != witness.view.instance and witness.restarts > 0:
            await self._read_previous(None)
        if progress.ring:
            await self._stream_next_instance(ours_is_previous=True)
        else:
            await self._stream_from_start(LogQuery(follow=True))

    async def _skip_to_now(self) -> None:
        """Take the log's present end as the position, without its lines."""
        ring = await ring_of_now(self._api, self._where, self._max_line_bytes)
        await self._progress.skip_to(ring, self._witness.view.instance)
        self._from_now = False

    async def _go_on(self) -> None:
        """Align on the ring: in a short tail, a longer one, the whole file, the previous instance's file."""
        progress, tail = self._progress, self._patience.tail_lines
        if progress.instance != self._witness.view.instance and await self._cross_restart():
            return
        if await self._stream(LogQuery(follow=True, tail_lines=tail), SeekRing(progress.ring, tail)):
            return
        longer = self._patience.longer_tail_lines
        if await self._find(LogQuery(tail_lines=longer)) is not None and await self._stream(
            LogQuery(follow=True, tail_lines=2 * longer), SeekRing(progress.ring, 2 * longer)
        ):
            return
        # A tail counts records, and of long lines it holds few: the place is counted from the file's first line.
        if (place := await self._find(LogQuery())) is not None:
            await self._stream(LogQuery(follow=True), SkipLines(progress.ring, place.taken))
            return
        await self._cross_break()

    async def _cross_restart(self) -> bool:
        """Go on in the previous instance's log, then in the current one; False if the place is not there."""
        if (place := await self._find(LogQuery(previous=True))) is None:
            return False
        self._progress.belongs_to(self._witness.view.previous)
        await self._read_previous(SkipLines(self._progress.ring, place.taken))
        await self._stream_next_instance(ours_is_previous=True)
        return True

    async def _cross_break(self) -> None:
        """The last line taken is not in the container's log: it has restarted, or the log was rotated away."""
        progress = self._progress
        if await self._cross_restart():
            return
        await self._witness.check()
        known = progress.instance.restart_count if progress.instance else 0
        previous = await self._end_of_previous()
        if previous is not None:
            # It may be ours, or a later one: the status that knows of no restart since may be older than the logs.
            await self._witness.ask_until(
                lambda view: view.instance is not None and view.instance.restart_count > known
            )
        restarts = self._witness.restarts - known
        if not progress.drained or not 0 < restarts <= 2:
            # After two restarts the rest of ours may be missing; after three, a whole instance is.
            skipped = restarts > 1
            progress.miss(
                GapReason.INSTANCES_SKIPPED if skipped else GapReason.ROTATION_UNSEEN,
                certain=restarts > 2,
                detail=f"{restarts} restarts unseen" if skipped else "the last line taken was rotated away",
            )
        if restarts > 0:
            before = progress.ring
            # If its last line is among those at hand, ours is a later one, rotated since.
            if not previous or align.find_ring(previous, before) is None:
                await self._read_previous(None)
            await self._stream_next_instance(ours_is_previous=progress.ring != before)
        else:
            await self._stream_from_start(LogQuery(follow=True))

    async def _stream_next_instance(self, *, ours_is_previous: bool = False) -> None:
        """Stream the current log from its first line, if it is that of another instance than the one just read.

        While a container waits for its restart the API serves the former instance's log as the current one. And
        the instance after ours may have ended as well: with `ours_is_previous`, that is asked once the stream is open.
        """
        if await self._find(LogQuery()) is not None:
            return  # it is still the log that was read; the next try aligns on it
        view = self._witness.view
        if view.instance == view.previous == self._progress.instance:
            return  # it waits for its restart, and what was read of its log has been rotated away
        with await self._reader.open(LogQuery(follow=True)) as stream:
            if ours_is_previous:
                place = await self._find(LogQuery(previous=True))
                if place is None or place.after:  # what was read of it may have been cut off
                    return
            await self._witness.confirm()
            await self._reader.follow(stream, await self._next_instance(), begin=self._begin_current)

    async def _next_instance(self) -> Instance | None:
        """The instance after the one just read, as soon as the status tells of it."""
        before = self._progress.instance
        await self._witness.ask_until(lambda view: view.instance not in (None, before))
        now = self._witness.view.instance
        if before is None or now != before:
            return now
        return Instance("", before.restart_count + 1)

    async def _end_of_previous(self) -> DigestRing | None:
        """The digest of the previous instance's last line, none if it has no line; None if there is no such log."""
        try:
            return (await last_line(self._api, self._where, self._max_line_bytes, previous=True)).ring
        except ApiError as error:
            if not await self._has_no_previous(error):
                raise
            return None

    async def _read_previous(self, seek: Seek | None) -> None:
        """Read what the previous instance left; there may be nothing any more."""
        before = self._progress.ring
        try:
            if seek is None:
                await self._stream_from_start(LogQuery(previous=True))
            elif not await self._stream(LogQuery(previous=True), seek):
                raise ApiError(0, "the previous log was not served whole")
            # By now the log after that may be the previous one, and have nothing but the beginning of a line.
            empty = seek is None and self._progress.ring == before
            await self.take_last_line(LogQuery(previous=True), alone=empty)
        except ApiError as error:
            if not await self._has_no_previous(error):
                raise
        self._reader.ended_cleanly = False  # that was not the log that may go on

    async def _find(self, query: LogQuery) -> Place | None:
        try:
            return await find_place(self._api, self._where, query, self._progress.ring, self._max_line_bytes)
        except ApiError as error:
            if query.previous and await self._has_no_previous(error):
                return None
            raise

    async def _has_no_previous(self, error: ApiError) -> bool:
        """Whether what a request for the previous instance's log raised means that there is no such log.

        A kubelet short of disk space deletes ended containers, and the pod's status goes on naming the last one. It
        is asked for again before that is believed, and so is the present log: a runtime may be starting anew.
        """
        if not isinstance(error, KubeletError):
            return error.status == 400
        for _ in range(_LOST_TRIES):
            await asyncio.sleep(self._patience.status_seconds / _LOST_TRIES)
            try:
                await log_end(self._api, self._where, _LAST_RECORD_OF_PREVIOUS, self._max_line_bytes)
            except KubeletError:
                continue
            except ApiError as other:
                return other.status == 400
            return False
        await log_end(self._api, self._where, _LAST_RECORD, self._max_line_bytes)
        return True

    async def take_last_line(self, query: LogQuery, *, alone: bool) -> bool | None:
        """Take a last line without a newline: the container has ended, and two snapshots must agree.

        The whole log is asked for: of a record that was cut before its newline, a full tail shows nothing.

        `alone`: also where it is the log's only one. Gives whether all was taken that the log has; None if it has no
        line at all by which to tell that.
        """
        progress = self._progress
        end = await log_end(self._api, self._where, query, self._max_line_bytes)
        if end.rest.lines and end != await log_end(self._api, self._where, query, self._max_line_bytes):
            raise ApiError(0, "the log's end was served in two ways")
        line = align.digests(end.rest.lines, end.rest.oversize)
        if line and progress.ring.endswith(line):
            return True
        if end.ring:
            # It must follow what was taken: the status may be older than the log, which is a later instance's then.
            if not align.ends_with(progress.ring, end.ring):
                return False
        elif not line:
            return None
        elif not (alone and await self._is_ours(end.rest, query)):
            return False
        if line:
            await progress.hand_over(end.rest, progress.instance)
        return True

    async def _is_ours(self, line: StampedLines, query: LogQuery) -> bool:
        """Whether a log's only line, one without a newline, is of the instance that was read.

        A previous log does not change any more. Of another, it must be what the last stream ended with, or that have
        ended with nothing; and no later instance be told of that may have written it.
        """
        if query.previous:
            return True
        rest, instance = self._reader.rest, self._progress.instance
        if rest is None or (rest.lines and rest != line):
            return False
        return not await self._witness.ask_until(lambda view: view.running or view.instance != instance)

    async def _stream(self, query: LogQuery, seek: Seek) -> bool:
        # As of now: a later view may be of a later instance than the one that this request reads.
        instance = self._progress.instance if query.previous else self._witness.view.instance
        return await self._reader.read_from(query, seek, instance)

    async def _stream_from_start(self, query: LogQuery) -> None:
        """Hand over a log of which nothing was taken yet."""
        witness = self._witness
        instance = witness.view.previous if query.previous else witness.view.instance
        with await self._reader.open(query) as stream:
            await witness.confirm()
            begin: Begin = self._begin_previous if query.previous else self._begin_current
            known = instance or (None if query.previous else witness.view.instance)
            await self._reader.follow(stream, known, begin=begin)

    async def _begin_current(self, first_ns: int | None) -> Instance | None:
        return await self._begin(first_ns, lambda view: _Life(view.instance, view.started_ns, view.ended_ns))

    async def _begin_previous(self, first_ns: int | None) -> Instance | None:
        return await self._begin(
            first_ns, lambda view: _Life(view.previous, view.previous_started_ns, view.previous_ended_ns)
        )

    async def _begin(self, first_ns: int | None, life_of: Callable[[PodView], _Life]) -> Instance | None:
        """Say it where a log does not begin with its container: its first file was rotated before it was read.

        All times are the node's, the container's in whole seconds. Sooner than the kubelet looks at a file's size,
        it is not rotated away. And who ran for longer has printed something. Gives the instance that the log begins
        with: the status may not have told of it yet when the log was asked for.
        """
        watched, self._watched = self._watched, True
        progress, most_ns = self._progress, int(self._patience.begin_seconds * _SECOND_NS)

        def late(view: PodView) -> bool | None:
            life = life_of(view)
            until_ns = life.ended_ns if first_ns is None else first_ns
            if life.started_ns is None or until_ns is None:
                return None
            return not -_SECOND_NS <= until_ns - life.started_ns <= most_ns

        if watched and progress.gap is None:
            await self._witness.ask_until(lambda view: late(view) is False)
            if late(self._witness.view):
                progress.miss(
                    GapReason.ROTATION_UNSEEN,
                    detail="the log does not begin with its container: it was rotated",
                )
        return life_of(self._witness.view).instance if late(self._witness.view) is False else None


class _Life(NamedTuple):
    """An instance as its pod's status tells of it; all times are the node's."""

    instance: Instance | None
    started_ns: int | None
    ended_ns: int | None
