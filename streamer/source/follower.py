"""Follow one target's log: find the place up to which it was read, then stream what comes after it.

A break is never trusted to be what it looks like: a body that ends cleanly may mean a kubelet that was killed, a
time limit, or the end of the container. So every connection begins by finding the last lines taken in what is
served now (transform.align); the pod's status is asked only where the content cannot answer. Nor is an open stream
trusted: a kubelet can fall silent for ever at a rotation, skip a file, or send one twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, replace
from random import random
from typing import Final

import aiohttp
import structlog

from streamer.flow.backoff import Backoff
from streamer.model import DigestRing, Gap, GapReason, Instance, LogBatch, Position, PositionStatus
from streamer.source.api import ApiError, KubernetesApi, LogQuery
from streamer.source.place import Place, find_place, last_digest, last_line, ring_at_end
from streamer.source.pods import PodView, view
from streamer.source.stream import LogStream, Where, open_log
from streamer.transform import align
from streamer.transform.read import StampedLines
from streamer.transform.seek import Seek, SeekRing, SkipLines

_TAIL: Final = 512
"""Lines asked for when going on: as a rule the break was short."""
_LONGER_TAIL: Final = 8192
_DOUBTS: Final = 2
"""So often a log's first lines are doubted for their times, before its clock is taken to have been set back."""

log = structlog.get_logger()

Put = Callable[[LogBatch], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the follower waits for what; all in seconds."""

    seek_seconds: float = 1.0
    """A followed tail has been served whole by then; what shows no place is looked through in full."""
    read_seconds: float = 60.0
    """Within so long the place is found in the log of an instance that has ended."""
    quiet_seconds: float = 1.0
    """So long silent after a catch-up, a stream is asked whether that was all."""
    empty_seconds: float = 5.0
    """The same where the log's file is empty: a rotation was seen, and the next line may be missed."""
    probe_seconds: float = 60.0
    """The same for a stream that had all there was when last asked."""
    stalled_seconds: float = 2.0
    """A line that the log has and the stream does not bring within so long: it never will."""
    renew_seconds: float = 3 * 3600.0
    """A stream's age when it is replaced: the kubelet ends it after 4 h."""
    behind_seconds: float = 20.0
    """Being behind for longer, two rotations may have passed: the kubelet looks at log sizes every 10 s."""
    departed_seconds: float = 5.0
    """The watch may tell of a deletion so much later than a request for the pod does."""
    forbidden_seconds: float = 30.0


PATIENCE: Final = Patience()


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
        patience: Patience = PATIENCE,
    ) -> None:
        self._api = api
        self._view = found
        self._target = found.target
        self._where = Where(found.target.namespace, found.target.pod, found.target.container)
        self._put = put
        self._max_line_bytes = max_line_bytes
        self._patience = patience
        self._new = position is None
        self._done = position is not None and position.status is PositionStatus.DONE
        self._from_now = from_now and self._new
        position = position or Position()
        self._ring = position.ring
        self._last_ns = position.last_ns or None
        self._newest_ns = 0
        self._instance = position.instance
        self._gap: Gap | None = None  # goes out with the next line, or with the end
        self._behind_told = False
        self._doubts = 0  # how often lines were found out of order since some were taken
        self._drained = False  # the instance in hand has ended, and its log was read to its end
        self._backoff = Backoff()
        self._renewed = asyncio.Event()
        self._departed = asyncio.Event()
        self.last_read_at = asyncio.get_running_loop().time()
        """When bytes last came, on the loop's clock."""

    def update(self, found: PodView) -> None:
        """The pod as the API server describes it now."""
        self._view = found
        self._renewed.set()

    def depart(self, last: PodView | None) -> None:
        """The pod is gone from the API; as it was at the last, if that is known."""
        self._view = last or self._view
        self.last_read_at = asyncio.get_running_loop().time()  # how long it is silent counts from now
        self._departed.set()
        self._renewed.set()

    async def run(self) -> None:
        """Follow to the end of the pod."""
        if self._done:  # the watch may show the pod a while longer; its end was told once
            return
        if self._new:
            await self._put(LogBatch(self._target, [], []))  # on record before the first line
        while not await self._connect():
            pass
        end = LogBatch(self._target, [], [], self._ring, gap=self._gap, status=PositionStatus.DONE)
        await self._put(end)
        log.info("target_done", target=self._target.id)

    # Connections

    async def _connect(self) -> bool:
        """One try: a connection and what is read of it. True if there is nothing more to read, ever."""
        self._renewed.clear()
        before = self._ring
        try:
            await self._read()
            if await self._ask_the_pod(before):
                await (
                    self._departed.wait()
                )  # its log stays as it is, and so does the position, while the pod is there
            else:
                await self._wait(None)
        except _PodGoneError as gone:
            if not gone.read_to_end:
                self._gap = Gap(GapReason.POD_GONE, certain=False, from_ns=self._last_ns, to_ns=None)
            return True
        except _NotInOrderError as error:  # find the place again, at once
            log.info("log_realigned", target=self._target.id, cause=str(error))
            if before == self._ring:
                self._doubts += 1
                await self._wait(None)
        except ApiError as error:
            if error.status == 404 and error.kind == "pods":
                if not self._drained:
                    self._gap = Gap(GapReason.POD_GONE, certain=False, from_ns=self._last_ns, to_ns=None)
                return True
            if error.status == 401:
                await self._api.renew_token()
            await self._wait(error)
        except aiohttp.ClientError as error:
            log.debug("stream_broke", target=self._target.id, cause=repr(error))
            await self._wait(None)
        return False

    async def _read(self) -> None:
        """Find the place, then stream from it to the end of the connection."""
        if self._from_now:
            await self._skip_to_now()
        if self._ring:
            await self._go_on()
            return
        await self._check_uid()  # nothing else tells this log from that of a later pod of the same name
        if self._instance != self._view.instance and self._restarts > 0:
            await self._read_previous(None)
        if self._ring:
            await self._stream_next_instance()
        else:
            await self._stream_from_start(LogQuery(follow=True))

    async def _skip_to_now(self) -> None:
        """Take the log's present end as the position, without its lines."""
        self._ring = await ring_at_end(self._api, self._where, self._max_line_bytes)
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
        await self._stream_next_instance(ours_is_previous=True)
        return True

    async def _cross_break(self) -> None:
        """The last line taken is not in the container's log: it has restarted, or the log was rotated away."""
        if await self._cross_restart():
            return
        await self._check_uid()
        restarts = self._restarts - (self._instance.restart_count if self._instance else 0)
        if not self._drained or not 0 < restarts <= 2:
            # After two restarts the rest of ours may be missing; after three, a whole instance is.
            skipped = restarts > 1
            self._gap = Gap(
                GapReason.INSTANCES_SKIPPED if skipped else GapReason.ROTATION_UNSEEN,
                certain=restarts > 2,
                from_ns=self._last_ns,
                to_ns=None,
                detail=f"{restarts} restarts unseen" if skipped else "the last line taken was rotated away",
            )
        if restarts > 0:
            if not await self._has_read_previous():
                await self._read_previous(None)
            await self._stream_next_instance()
        else:
            await self._stream_from_start(LogQuery(follow=True))

    async def _stream_next_instance(self, *, ours_is_previous: bool = False) -> None:
        """Stream the current log from its first line, if it is that of another instance than the one just read.

        While a container waits for its restart the API serves the former instance's log as the current one. And
        the instance after ours may have ended as well: with `ours_is_previous`, that is asked once the stream is open.
        """
        if await self._find(LogQuery()) is not None:
            return  # it is still the log that was read; the next try aligns on it
        async with AsyncExitStack() as stack:
            instance = self._view.instance
            stream = await self._open(stack, LogQuery(follow=True))
            if ours_is_previous and await self._find(LogQuery(previous=True)) is None:
                return
            await self._confirm_uid()
            await self._follow_on(stack, stream, instance, from_start=True)

    async def _has_read_previous(self) -> bool:
        """Whether the previous instance's last line is among those at hand: ours is a later one, rotated since."""
        try:
            end = await last_digest(self._api, self._where, self._max_line_bytes, previous=True)
        except ApiError as error:
            if error.status != 400:
                raise
            return False
        return bool(end) and align.find_ring(end, self._ring) is not None

    async def _read_previous(self, seek: Seek | None) -> None:
        """Read what the previous instance left; there may be nothing any more."""
        try:
            if seek is None:
                await self._stream_from_start(LogQuery(previous=True))
            else:
                await self._stream(LogQuery(previous=True), seek)
            await self._take_last_line(LogQuery(previous=True))
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

    # What the pod says

    async def _check_uid(self) -> None:
        """Ask for the pod: the log's address has its name only, which a later pod may have taken over."""
        found = view(await self._api.pod(self._target.namespace, self._target.pod), self._target.container)
        if found is None or found.target.uid != self._target.uid:
            raise _PodGoneError(read_to_end=False)
        self._view = found

    async def _confirm_uid(self) -> None:
        """After opening a log without knowing its lines: the name may have changed hands since it was last asked.

        No pod at all is no doubt: what was opened is the log of the one that has just gone.
        """
        try:
            await self._check_uid()
        except ApiError as error:
            if (error.status, error.kind) != (404, "pods"):
                raise

    async def _ask_the_pod(self, before: DigestRing) -> bool:
        """The stream has ended cleanly, which means nothing by itself; True if the pod prints nothing more, ever.

        `before` is the ring before this connection: only one that brought nothing has read an ended log to its end.
        """
        try:
            await self._check_uid()
        except (ApiError, _PodGoneError) as error:
            if isinstance(error, ApiError) and (error.status, error.kind) != (404, "pods"):
                raise
            with suppress(TimeoutError):  # how it left is about to be told by the watch
                async with asyncio.timeout(self._patience.departed_seconds):
                    await self._departed.wait()
            ending = self._view.deleting or not self._view.running
            raise _PodGoneError(read_to_end=ending) from error
        # Without an instance nothing is known yet, least of all that the container has ended.
        if self._instance is not None and self._view.instance == self._instance and not self._view.running:
            await self._take_last_line(LogQuery(tail_lines=_TAIL))
            self._drained = before == self._ring
        return self._view.finished and before == self._ring

    async def _take_last_line(self, query: LogQuery) -> None:
        """Take a last line without a newline: the container has ended, and two snapshots must agree."""
        first = await last_line(self._api, self._where, query, self._max_line_bytes)
        if not first.line.lines or self._ring.endswith(align.digests(first.line.lines, first.line.oversize)):
            return
        # It must follow what was taken: the status may be older than the log, which is a later instance's then,
        # and a tail may begin in the middle of a long line.
        if not (self._ring.endswith(first.before) if first.before else query.tail_lines is None):
            return
        if first == await last_line(self._api, self._where, query, self._max_line_bytes):
            await self._hand_over(first.line, self._instance)

    @property
    def _restarts(self) -> int:
        return self._view.instance.restart_count if self._view.instance else 0

    # Streams

    async def _stream(self, query: LogQuery, seek: Seek) -> bool:
        """Hand over what a request gives, from the place on that `seek` finds; False if it is not there."""
        # As of now: a later view may be of a later instance than the one that this request reads.
        instance = self._instance if query.previous else self._view.instance
        async with AsyncExitStack() as stack:
            stream = await self._open(stack, query)
            if not await self._find_start(stream, seek, instance, follow=query.follow):
                return False
            await self._follow_on(stack, stream, instance)
        return True

    async def _stream_from_start(self, query: LogQuery) -> None:
        """Hand over a log of which nothing was taken yet."""
        instance = self._instance if query.previous else self._view.instance
        async with AsyncExitStack() as stack:
            stream = await self._open(stack, query)
            await self._confirm_uid()
            await self._follow_on(stack, stream, instance, from_start=True)

    async def _follow_on(
        self, stack: AsyncExitStack, stream: LogStream, instance: Instance | None, *, from_start: bool = False
    ) -> None:
        """Read a stream, and the ones that replace it, to the end.

        Lines older than those taken are doubted. At the start of a log they may only be the lines of a clock that
        was set back meanwhile: where they come again and again, they are believed.
        """
        believed = from_start and self._doubts >= _DOUBTS
        self._newest_ns = 0 if believed else self._last_ns or 0
        while await self._live(stream, instance):
            # Make before break: an open stream keeps the file readable that a rotation takes away.
            async with AsyncExitStack() as attempt:
                other = await self._open(attempt, LogQuery(follow=True, tail_lines=_TAIL))
                if await self._find_start(other, SeekRing(self._ring, _TAIL), instance, follow=True):
                    log.debug("stream_renewed", target=self._target.id)
                    await stack.aclose()
                    stack.push_async_exit(attempt.pop_all())
                    stream = other
                else:
                    stream.opened_at += self._patience.renew_seconds / 20

    async def _open(self, stack: AsyncExitStack, query: LogQuery) -> LogStream:
        return await stack.enter_async_context(open_log(self._api, self._where, query, self._max_line_bytes))

    async def _find_start(
        self, stream: LogStream, seek: Seek, instance: Instance | None, *, follow: bool
    ) -> bool:
        """Hold lines back until `seek` has found the place; False if the stream cannot have it."""
        found: StampedLines | None = None
        with suppress(TimeoutError):
            async with asyncio.timeout(
                self._patience.seek_seconds if follow else self._patience.read_seconds
            ):
                while found is None and not seek.failed:
                    piece = await stream.read()
                    # At the end: the last line taken may have been one without a newline.
                    found = seek.feed(stream.last_line() if piece is None else piece)
                    if piece is None:
                        break
        if found is None:
            return False
        await self._hand_over(found, instance)
        return True

    async def _live(self, stream: LogStream, instance: Instance | None) -> bool:
        """Hand over what comes, and doubt the stream where it is silent or out of order.

        False at its end; True once it is old and should be replaced.
        """
        clock = asyncio.get_running_loop().time
        wait_seconds, expecting = self._patience.quiet_seconds, False
        while clock() < stream.opened_at + self._patience.renew_seconds:
            try:
                piece = await stream.read(wait_seconds)
            except TimeoutError:
                if expecting:
                    raise _NotInOrderError(
                        "the stream has stalled: the log has lines that it does not bring"
                    ) from None
                wait_seconds, expecting = await self._doubt_silence()
                continue
            if piece is None:
                if stream.error_text:
                    raise ApiError(0, f"the kubelet says: {stream.error_text}")
                return False
            expecting = False
            if piece.lines:
                doubtful = align.first_doubtful(piece.lines, piece.times_ns, self._newest_ns, self._ring)
                if doubtful is not None:
                    await self._hand_over(piece.before(doubtful), instance)
                    raise _NotInOrderError(
                        "lines out of order: a clock was set, or the kubelet began a file again"
                    )
            self._watch_for_delay(stream)
            await self._hand_over(piece, instance)
        return True

    async def _doubt_silence(self) -> tuple[float, bool]:
        """Ask whether the log has more than the stream brought: how long to wait now, and whether for something."""
        jitter = 0.8 + 0.4 * random()
        try:
            end = await last_digest(self._api, self._where, self._max_line_bytes, expected=self._ring)
        except (ApiError, aiohttp.ClientError) as error:  # the stream itself may be well: a deleted pod's is
            log.debug("probe_failed", target=self._target.id, cause=str(error))
            return self._patience.probe_seconds * jitter, False
        if not end and self._ring:
            return self._patience.empty_seconds * jitter, False
        if self._ring.endswith(end):
            return self._patience.probe_seconds * jitter, False
        return self._patience.stalled_seconds, True

    def _watch_for_delay(self, stream: LogStream) -> None:
        """Say it where two rotations may have passed while we did not read: then a file may have been skipped."""
        behind_seconds = asyncio.get_running_loop().time() - stream.waited_at
        if behind_seconds < self._patience.behind_seconds:
            self._behind_told = False
        elif not self._behind_told and self._gap is None:
            self._behind_told = True
            detail = f"reading was behind for {behind_seconds:.0f} s: the log may have been rotated twice"
            self._gap = Gap(
                GapReason.ROTATION_UNSEEN, certain=False, from_ns=self._last_ns, to_ns=None, detail=detail
            )

    async def _hand_over(self, piece: StampedLines, instance: Instance | None) -> None:
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
            instance=instance,
        )
        if piece.lines and self._gap:
            # While we are behind, nobody knows up to where.
            to_ns = None if self._behind_told else piece.times_ns[0]
            batch.gap, self._gap = replace(self._gap, to_ns=to_ns), None
        await self._put(batch)
        self._ring, self._instance = ring, instance
        if piece.lines:
            self._drained = False
            self._doubts = 0
            self._last_ns = piece.times_ns[-1]
            self._newest_ns = max(self._newest_ns, *piece.times_ns)
            self._backoff.reset()

    async def _wait(self, error: ApiError | None) -> None:
        """Before the next try: as long as the server asks for, else a growing while, or until the pod changes."""
        seconds = self._backoff.next_seconds()
        if self._view.deleting:  # its log may be gone in a moment
            seconds = min(seconds, 0.1)
        if error is not None:
            seconds = max(seconds, error.retry_after_seconds or 0.0)
            if error.status == 403:
                seconds = self._patience.forbidden_seconds
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


class _PodGoneError(Exception):
    """The pod is gone, or its name belongs to another pod now."""

    def __init__(self, *, read_to_end: bool) -> None:
        super().__init__()
        self.read_to_end = read_to_end


class _NotInOrderError(Exception):
    """The stream cannot be trusted any more; the place must be found again."""
