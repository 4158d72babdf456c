"""Follow one target's log for as long as there is anything to read: connections, waits, and the end.

How the place is found again after a break is `resume`, how a stream is read and doubted `reader`, what the pod's
status is worth `witness`, and what was taken so far `progress`.
"""

from __future__ import annotations

import asyncio
from random import random

import aiohttp
import structlog

from streamer.model import DigestRing, GapReason, Position, PositionStatus
from streamer.source.api import ApiError, KubernetesApi, LogQuery
from streamer.source.patience import PATIENCE, Patience
from streamer.source.pods import PodView
from streamer.source.progress import Progress, Put
from streamer.source.reader import NotInOrderError, Reader
from streamer.source.resume import Resumption
from streamer.source.stream import Where
from streamer.source.witness import PodGoneError, Witness
from streamer.telemetry import facts
from streamer.telemetry.status import StreamState, TargetStatus

log = structlog.get_logger()


class Follower:
    """Reads one target from a position on, to the end of its pod.

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
        self._target = found.target
        self._patience = patience
        self._new = position is None
        # All lines of a container that has not started are written from now on.
        self._from_now = from_now and self._new and found.instance is not None
        self._done = position is not None and position.status is PositionStatus.DONE
        target = found.target
        where = Where(target.namespace, target.pod, target.container, target.node)
        self._progress = Progress(found.target, position, put)
        self._witness = Witness(api, found, patience)
        self._reader = Reader(api, where, self._progress, self._witness, max_line_bytes, patience)
        self._resumption = Resumption(
            api,
            where,
            self._progress,
            self._witness,
            self._reader,
            max_line_bytes,
            patience,
            from_now=self._from_now,
            from_birth=not self._new or found.started_ns is None,
        )

    @property
    def last_read_at(self) -> float:
        """When bytes last came, on the loop's clock."""
        return self._progress.last_read_at

    def status(self, now_ns: int) -> TargetStatus:
        """How it stands; `now_ns` is by our clock."""
        progress = self._progress
        waiting_ns = progress.waiting_line_ns
        return TargetStatus(
            self._target,
            progress.state,
            running=self._witness.view.running,
            unread_seconds=progress.unread_seconds,
            behind_seconds=0.0 if waiting_ns is None else max(0, now_ns - waiting_ns) / 1_000_000_000,
            quiet_seconds=asyncio.get_running_loop().time() - progress.last_read_at,
        )

    def update(self, found: PodView) -> None:
        """The pod as the API server describes it now."""
        was_running = self._witness.view.running
        self._witness.update(found)
        if was_running and not self._witness.view.running:
            self._reader.expect_end()

    def depart(self, last: PodView | None) -> None:
        """The pod is gone from the API; as it was at the last, if that is known."""
        self._progress.touch()
        self._witness.depart(last)
        if not self._witness.view.running:
            self._reader.expect_end()

    async def run(self) -> None:
        """Follow to the end of the pod."""
        if self._done:  # the watch may show the pod a while longer; its end was told once
            return
        if self._new and not self._from_now:
            await self._progress.attach()
        while not await self._connect():
            pass
        await self._progress.end()
        log.info("target_done", target=self._target.id)

    async def give_up(self) -> None:
        """End it here, once `run` was cancelled: the pod is gone, and its stream has been silent for long."""
        self._progress.miss(GapReason.POD_GONE, detail="its stream was given up while it was silent")
        await self._progress.end()

    async def _connect(self) -> bool:
        """One try: a connection and what is read of it. True if there is nothing more to read, ever."""
        progress = self._progress
        self._witness.forget_news()
        progress.enter(StreamState.OPENING)
        before = progress.ring
        first = self._witness.view.instance
        if progress.ring and progress.instance is None and first is not None and first.restart_count == 0:
            progress.belongs_to(
                first
            )  # lines came before the status told whose they are: there was no other yet
        try:
            await self._resumption.read()
            facts.stream_reconnects("ended")
            if await self._has_finished(before):
                # Its log stays as it is, and so does the position, while the pod is there.
                progress.enter(StreamState.ENDED)
                await self._witness.wait_while_finished()
            await self._wait(None)
        except PodGoneError:
            return await self._see_out()
        except NotInOrderError as error:  # find the place again, at once
            self._reader.ended_cleanly = False
            facts.stream_reconnects("out_of_order")
            log.info("log_realigned", target=self._target.id, cause=str(error))
            if before == progress.ring:
                progress.doubts += 1
                await self._wait(None)
        except ApiError as error:
            if (error.status, error.kind) == (404, "pods"):
                return await self._see_out()
            if (error.status, error.kind) == (404, "pods/log"):  # the kubelet knows the pod no more
                self._doubt_end()
            else:
                self._reader.ended_cleanly = False
            if error.status == 401:
                await self._api.renew_token()
            facts.stream_reconnects("error")
            facts.api_failed("log", error.status)
            await self._wait(error)
        except aiohttp.ClientError as error:
            self._reader.ended_cleanly = False
            facts.stream_reconnects("broken")
            log.debug("stream_broke", target=self._target.id, cause=repr(error))
            await self._wait(None)
        return False

    async def _see_out(self) -> bool:
        """The pod is gone: say it where its log may have held more.

        It held no more where it was seen at its end, or where its stream ended cleanly and nothing has spoken against
        that being the end of its container; and if the pod was known to be ending, so that it was not
        started again when it left.
        """
        progress, witness = self._progress, self._witness
        complete = progress.drained or self._reader.ended_cleanly
        if complete and await witness.ended_before_it_left():
            last = witness.view
            complete = (last.deleting or last.finished) and progress.instance in (None, last.instance)
        else:
            complete = False
        if not complete:
            progress.miss(GapReason.POD_GONE)
        return True

    async def _has_finished(self, before: DigestRing) -> bool:
        """The stream has ended cleanly, which means nothing by itself; True if the pod prints nothing more, ever.

        `before` is the ring before this connection: of a log that has no line now, only one that brought nothing has
        read it to its end.
        """
        progress, witness = self._progress, self._witness
        try:
            await witness.check()
        except PodGoneError:
            # A container's end comes before its pod's: this may have been a stream that had stalled.
            self._doubt_end()
            raise
        instance, view = progress.instance, witness.view
        # Without an instance nothing is known yet, least of all that the container has ended.
        if instance is not None and view.instance == instance and not view.running:
            if self._compared:
                progress.drained |= self._reader.ended_cleanly
                return witness.view.finished and progress.drained
            whole = await self._resumption.take_last_line(LogQuery(), alone=True)
            progress.drained = before == progress.ring if whole is None else whole
            self._reader.ended_cleanly &= whole is not False
            return witness.view.finished and progress.drained
        # Nor was anything read to its end, where what was to come next was another log by then.
        return witness.view.finished and before == progress.ring and self._reader.ended_cleanly

    def _doubt_end(self) -> None:
        """What its end was worth cannot be asked any more: it is believed of a stream that had not stalled.

        Such a one had just brought lines, or was compared with the log since its container's end was known.
        """
        reader = self._reader
        self._progress.drained |= reader.ended_cleanly and self._compared
        reader.ended_cleanly &= self._compared or reader.ended_lively

    @property
    def _compared(self) -> bool:
        """Whether the log, looked at since its container's end was known, had no more than was taken."""
        return self._reader.whole_at >= self._witness.ended_at

    async def _wait(self, error: ApiError | None) -> None:
        """Before the next try: as long as the server asks for, else a growing while, or until the pod changes."""
        seconds = self._progress.backoff.next_seconds()
        if self._progress.drained:  # there is nothing to come until the container starts again, which is news
            seconds = self._patience.probe_seconds * (0.8 + 0.4 * random())
        elif self._witness.view.deleting:  # its log may be gone in a moment
            seconds = min(seconds, 0.25)
        self._progress.enter(StreamState.ENDED if self._progress.drained else StreamState.WAITING)
        if error is not None:
            seconds = max(seconds, error.retry_after_seconds or 0.0)
            if error.status == 403:
                seconds = self._patience.forbidden_seconds
            self._tell(error)
        if error is not None and error.status in (401, 403, 429, 503):
            await asyncio.sleep(seconds)
        else:
            await self._witness.wait_for_news(seconds)

    def _tell(self, error: ApiError) -> None:
        if error.status == 403:
            # The pod is asked for, too: what is refused stands in the server's words only.
            resource = "pods/log" if '"pods/log"' in error.message else "pods"
            log.error(
                "log_forbidden",
                target=self._target.id,
                cause=error.message,
                fix=f"grant verb get on {resource} in namespace {self._target.namespace}",
            )
        elif error.status == 400:  # not started yet
            log.debug("log_not_ready", target=self._target.id, cause=error.message)
        else:
            fix = {"fix": error.fix} if error.fix else {}
            log.warning("log_failed", target=self._target.id, status=error.status, cause=error.message, **fix)
