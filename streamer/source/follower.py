"""Follow one target's log: find the place up to which it was read, then stream what comes after it.

A break is never trusted to be what it looks like: a body that ends cleanly may mean a kubelet that was killed, a
time limit, or the end of the container. So every connection begins by finding the last lines taken in what is
served now (transform.align); the pod's status is asked only where the content cannot answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from typing import Final

import aiohttp
import structlog

from streamer.flow.backoff import Backoff
from streamer.model import Gap, GapReason, LogBatch, Position, PositionStatus
from streamer.source.api import ApiError, KubernetesApi, LogQuery
from streamer.source.place import Place, find_place, last_lines
from streamer.source.pods import PodView, view
from streamer.transform import align
from streamer.transform.read import LineReader, StampedLines
from streamer.transform.seek import Seek, SeekRing, SkipLines

_TAIL: Final = 512
"""Lines asked for when going on: as a rule the break was short."""
_LONGER_TAIL: Final = 8192
_SEEK_SECONDS: Final = 1.0
"""A followed tail has been served whole after so long; what shows no place by then is looked through in full."""
_FORBIDDEN_SECONDS: Final = 30.0

log = structlog.get_logger()

Put = Callable[[LogBatch], Awaitable[None]]


class Follower:
    """Reads one target from a position on, for as long as there is anything to read.

    `put` takes the batches; while it waits nothing is read, and TCP holds the log back. Cancelling `run` loses
    nothing: what was not put is read again from the position.
    """

    def __init__(
        self,
        api: KubernetesApi,
        found: PodView,
        position: Position | None,
        put: Put,
        *,
        max_line_bytes: int,
        from_now: bool = False,
    ) -> None:
        self._api = api
        self._view = found
        self._target = found.target
        self._where = (found.target.namespace, found.target.pod, found.target.container)
        self._put = put
        self._max_line_bytes = max_line_bytes
        self._new = position is None
        self._from_now = from_now and self._new
        position = position or Position()
        self._ring = position.ring
        self._last_ns = position.last_ns or None
        self._instance = position.instance
        self._gap: Gap | None = None  # goes out with the next line, or with the end
        self._backoff = Backoff()
        self._renewed = asyncio.Event()
        self._ended_cleanly = False
        self.last_read_at = asyncio.get_running_loop().time()
        """When bytes last came, on the loop's clock."""

    def update(self, found: PodView) -> None:
        """The pod as the API server describes it now."""
        self._view = found
        self._renewed.set()

    async def run(self) -> None:
        """Follow to the end of the pod."""
        if self._new:
            await self._put(LogBatch(self._target, [], []))  # on record before the first line
        while not await self._connect():
            pass
        end = LogBatch(self._target, [], [], self._ring, gap=self._gap, status=PositionStatus.DONE)
        await self._put(end)
        log.info("target_done", target=self._target.id)

    async def _connect(self) -> bool:
        """One try: a connection and what is read of it. True if there is nothing more to read, ever."""
        self._renewed.clear()
        before = self._ring
        try:
            await self._read()
        except _PodGoneError:
            return True
        except ApiError as error:
            if error.status == 404 and error.kind == "pods":
                if not self._ended_cleanly:
                    self._gap = Gap(GapReason.POD_GONE, certain=False, from_ns=self._last_ns, to_ns=None)
                return True
            await self._wait(error)
        except aiohttp.ClientError as error:
            self._ended_cleanly = False
            log.debug("stream_broke", target=self._target.id, cause=repr(error))
            await self._wait(None)
        else:
            self._ended_cleanly = True
            if self._view.finished and before == self._ring:
                return True
            await self._wait(None)
        return False

    async def _read(self) -> None:
        """Find the place, then stream from it to the end of the connection."""
        if self._from_now:
            await self._skip_to_now()
        if self._ring:
            await self._go_on()
            return
        if self._instance != self._view.instance and self._restarts > 0:
            await self._read_previous(None)
        if not self._ring:  # nothing tells this log from that of a later pod of the same name, but the uid
            await self._check_uid()
        await self._stream(LogQuery(follow=True))

    async def _skip_to_now(self) -> None:
        """Take the log's present end as the position, without its lines."""
        self._ring = await last_lines(self._api, self._where, self._max_line_bytes)
        await self._put(LogBatch(self._target, [], [], self._ring, instance=self._view.instance))
        self._from_now = False

    async def _go_on(self) -> None:
        """Align on the ring: in a short tail, a longer one, the whole file, the previous instance's file."""
        if self._instance != self._view.instance and await self._cross_restart():
            return
        if await self._stream(LogQuery(follow=True, tail_lines=_TAIL), SeekRing(self._ring, _TAIL)):
            return
        for query in (LogQuery(tail_lines=_LONGER_TAIL), LogQuery()):
            place = await self._find(query)
            if place is None:
                continue
            if query.tail_lines is None and place.taken <= self._ring.lines:
                # A young log, or one whose file begins in the middle of the ring: count from its first line.
                await self._stream(LogQuery(follow=True), SkipLines(self._ring, place.taken))
            else:
                tail = place.after + self._ring.lines + _TAIL
                await self._stream(LogQuery(follow=True, tail_lines=tail), SeekRing(self._ring, tail))
            return
        await self._cross_break()

    async def _cross_restart(self) -> bool:
        """Go on in the previous instance's log, then in the current one; False if the place is not there."""
        if (place := await self._find(LogQuery(previous=True))) is None:
            return False
        await self._read_previous(SkipLines(self._ring, place.taken))
        await self._stream(LogQuery(follow=True))
        return True

    async def _cross_break(self) -> None:
        """The last line taken is not in the container's log: it has restarted, or the log was rotated away."""
        if await self._cross_restart():
            return
        await self._check_uid()
        restarts = self._restarts - (self._instance.restart_count if self._instance else 0)
        skipped = restarts > 1
        self._gap = Gap(
            GapReason.INSTANCES_SKIPPED if skipped else GapReason.ROTATION_UNSEEN,
            certain=skipped,
            from_ns=self._last_ns,
            to_ns=None,
            detail=f"the container restarted {restarts} times unseen"
            if skipped
            else "the last line was rotated away",
        )
        if restarts > 0:
            await self._read_previous(None)
        await self._stream(LogQuery(follow=True))

    async def _read_previous(self, seek: Seek | None) -> None:
        """Read what the previous instance left; there may be nothing any more."""
        try:
            await self._stream(LogQuery(previous=True), seek)
        except ApiError as error:
            if error.status != 400:
                raise

    async def _find(self, query: LogQuery) -> Place | None:
        try:
            return await find_place(self._api, self._where, query, self._ring, self._max_line_bytes)
        except ApiError as error:
            if query.previous and error.status == 400:  # there is no previous instance
                return None
            raise

    async def _check_uid(self) -> None:
        """Ask for the pod: the log's address has its name only, which a later pod may have taken over."""
        found = view(await self._api.pod(self._target.namespace, self._target.pod), self._target.container)
        if found is None or found.target.uid != self._target.uid:
            raise _PodGoneError
        self._view = found

    @property
    def _restarts(self) -> int:
        return self._view.instance.restart_count if self._view.instance else 0

    async def _stream(self, query: LogQuery, seek: Seek | None = None) -> bool:
        """Hand over what a request gives, from the place on that `seek` finds; False if it is not there."""
        reader = LineReader(self._max_line_bytes)
        async with self._api.log(*self._where, query) as body:
            if seek is not None:
                try:
                    async with asyncio.timeout(_SEEK_SECONDS if query.follow else None):
                        found = await _find_start(body, reader, seek)
                except TimeoutError:
                    return False
                if found is None:
                    return False
                await self._hand_over(found, query)
            while chunk := await body.readany():
                await self._hand_over(reader.feed(chunk), query)
        return True

    async def _hand_over(self, piece: StampedLines, query: LogQuery) -> None:
        self.last_read_at = asyncio.get_running_loop().time()
        if not piece.lines and not piece.fragments:
            return
        ring = align.advance(self._ring, piece.lines, piece.oversize)
        batch = LogBatch(
            self._target,
            piece.lines,
            piece.times_ns,
            ring,
            sum(map(len, piece.lines)),
            oversize=piece.oversize,
            fragments=piece.fragments,
        )
        if not query.previous:
            batch.instance = self._instance = self._view.instance
        if piece.lines and self._gap:
            batch.gap, self._gap = replace(self._gap, to_ns=piece.times_ns[0]), None
        await self._put(batch)
        self._ring = ring
        if piece.lines:
            self._last_ns = piece.times_ns[-1]
            self._backoff.reset()

    async def _wait(self, error: ApiError | None) -> None:
        """Before the next try: as long as the server asks for, else a growing while, or until the pod changes."""
        seconds = self._backoff.next_seconds()
        if error is not None:
            seconds = max(seconds, error.retry_after_seconds or 0.0)
            if error.status == 403:
                seconds = _FORBIDDEN_SECONDS
                log.error(
                    "log_forbidden",
                    target=self._target.id,
                    cause=error.message,
                    fix=f"grant verb get on pods/log in namespace {self._target.namespace}",
                )
            elif error.status == 400:  # not started yet
                log.debug("log_not_ready", target=self._target.id, cause=error.message)
            else:
                log.warning("log_failed", target=self._target.id, status=error.status, cause=error.message)
        patient = error is not None and error.status in (401, 403, 429, 503)
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await (asyncio.Event() if patient else self._renewed).wait()


async def _find_start(body: aiohttp.StreamReader, reader: LineReader, seek: Seek) -> StampedLines | None:
    """Read until `seek` has found its place; None if the stream has ended, or cannot have it."""
    while chunk := await body.readany():
        if (found := seek.feed(reader.feed(chunk))) is not None:
            return found
        if seek.failed:
            break
    return None


class _PodGoneError(Exception):
    """The pod's name belongs to another pod now."""
