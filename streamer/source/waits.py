"""A follower's waits: its pace, what a refusal costs, and the wait for a change of its pod."""

from __future__ import annotations

import asyncio
from random import random
from typing import Final

import structlog

from streamer.flow.failure import one_line
from streamer.model import Target
from streamer.source.api import ApiError
from streamer.source.evidence import Refusal
from streamer.source.patience import Patience
from streamer.source.pod_status import PodStatusCache
from streamer.source.progress import Progress
from streamer.source.recovery import NodeRecovery
from streamer.source.rights import Rights
from streamer.source.stream import LogChangedError, is_log_removed
from streamer.telemetry.status import StreamState

_BURST_STEPS: Final = 20
_DELETING_SECONDS: Final = 0.25
_OUTAGES: Final = frozenset((Refusal.FAILED, Refusal.LOG_REMOVED))
"""A kubelet that has just started answers as if it did not know its pods."""

log = structlog.get_logger()


class Waits:
    """One target's."""

    def __init__(
        self,
        target: Target,
        progress: Progress,
        status: PodStatusCache,
        patience: Patience,
        recovery: NodeRecovery,
        rights: Rights,
    ) -> None:
        self._target = target
        self._progress = progress
        self._status = status
        self._patience = patience
        self._recovery = recovery
        self._rights = rights
        self._clock = asyncio.get_running_loop().time
        self._next_step_at = 0.0
        self._refused_since: float | None = None
        self.error: ApiError | None = None
        """Why the last step failed; None if it did not."""

    async def pace(self) -> None:
        """Make no request sooner than a second after the one before, on average: no answer may lead to a request loop.

        `_BURST_STEPS` may follow each other at once: a restart takes about ten.
        """
        self._next_step_at = max(self._next_step_at, self._clock() - _BURST_STEPS) + 1.0
        if (seconds := self._next_step_at - self._clock()) > 0:
            await asyncio.sleep(seconds)

    def refused(self, error: ApiError) -> Refusal:
        """A request was refused: what that means."""
        refusal = _refusal(error)
        self.error = error
        self._progress.cause = _cause(error)
        if refusal in _OUTAGES:
            self._recovery.failed()
            if self._refused_since is None:
                self._refused_since = self._clock()
        if refusal is Refusal.FORBIDDEN:
            self._rights.refused(self._target.namespace, self._clock())
        return refusal

    def served(self) -> None:
        """The log is served: those who wait for that are woken."""
        self._recovery.succeeded()
        self._rights.granted(self._target.namespace)
        self._refused_since = None

    async def for_retry(self, refusal: Refusal | None) -> None:
        """Wait before the next try: as long as the server asks for, else a growing while, or until the pod changes."""
        error, patience = self.error, self._patience
        since = self._refused_since
        is_outage = since is not None and self._clock() < since + patience.outage_seconds
        self._progress.enter(StreamState.WAITING)
        seconds = self._progress.backoff.next_seconds()
        if self._status.view.deleting:  # its log may be gone in a moment
            seconds = min(seconds, _DELETING_SECONDS)
        if error is not None:
            _log(self._target, error)
            if (asked_seconds := error.retry_after_seconds) is not None:  # whatever happens meanwhile
                await asyncio.sleep(asked_seconds)
                seconds = max(0.0, seconds - asked_seconds)
        if error is not None and error.status == 403:
            await self._for_turn()
        elif refusal in _OUTAGES and is_outage:
            wake = self._status.wake
            with self._recovery.waiting(self._target.id, wake, seconds, patience.outage_seconds) as most:
                await self._status.wait_for_news(most)
        else:
            await self._status.wait_for_news(seconds)

    async def _for_turn(self) -> None:
        """Wait until this target may try what is forbidden in its namespace, or until another one may do it."""
        while seconds := self._rights.seconds_to_turn(self._target.namespace, self._clock()):
            self._status.forget_news()
            await self._status.wait_for_news(seconds)

    async def for_change(self, seconds: float) -> None:
        """Wait for the watch to report a change of the pod; request it where the watch does not for long."""
        before = self._status.view
        await self._status.wait_for_news(seconds * (0.8 + 0.4 * random()))
        if self._status.view == before:
            await self._status.ask()


def _refusal(error: ApiError) -> Refusal:
    if is_log_removed(error):
        return Refusal.LOG_REMOVED
    if error.status == 400 or isinstance(error, LogChangedError):
        return Refusal.NOT_SERVED
    if error.status == 403:
        return Refusal.FORBIDDEN
    if error.status in (401, 429, 503):
        return Refusal.THROTTLED
    return Refusal.FAILED


def _cause(error: ApiError) -> str:
    """In one line; 0 stands for no answer."""
    status = f"HTTP {error.status}: " if error.status else ""
    return f"{status}{one_line(error)}"


def _log(target: Target, error: ApiError) -> None:
    if error.status == 403:
        # The pod is requested, too: what is refused stands in the server's words only.
        resource = "pods/log" if '"pods/log"' in error.message else "pods"
        log.error(
            "log_forbidden",
            target=target.id,
            cause=error.message,
            fix=f"grant verb get on {resource} in namespace {target.namespace}",
        )
    elif error.status == 400:  # not started yet
        log.debug("log_not_ready", target=target.id, cause=error.message)
    else:
        fix = {"fix": error.fix} if error.fix else {}
        log.warning("log_failed", target=target.id, status=error.status, cause=error.message, **fix)
