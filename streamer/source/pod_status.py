"""What the API last said about one target's pod: requested by the follower, or reported by the watch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from math import inf
from typing import Final

from streamer.flow.waker import Waker
from streamer.model import Instance
from streamer.source.api import ApiError, KubernetesApi
from streamer.source.patience import Patience
from streamer.source.pods import PodView, view

_ENDS: Final = 3
"""Of so many instances, the latest ones, the ends are remembered."""


class PodGoneError(Exception):
    """The pod was deleted, or its name belongs to another pod now."""


class PodStatusCache:
    """The pod of one target, as it was last described. `view` may be older than the pod's log."""

    def __init__(self, api: KubernetesApi, found: PodView, patience: Patience) -> None:
        self._api = api
        self._target = found.target
        self._patience = patience
        self.view = self._reported = found
        self.ended_at = inf if found.running else asyncio.get_running_loop().time()
        """When its container was first known to have ended, on the loop's clock; inf while it runs."""
        self.deleting_at = asyncio.get_running_loop().time() if found.deleting else inf
        """When the pod was first known to be deleted, on the loop's clock; inf while it is not."""
        self.departed_at = inf
        """When the watch reported that the pod is gone, on the loop's clock."""
        self._ended_ns: dict[Instance, int] = {}
        self._news = Waker()
        self._note_ends(found)
        self.departed = False
        """The watch has reported that the pod is gone."""

    # Reported by the watch

    def update(self, found: PodView) -> None:
        """Take the pod as the watch describes it now. A repeated report is ignored: an answer may be newer."""
        if found != self._reported or self.departed:
            self._reported = found
            self._see(found)
            self.departed, self.departed_at = False, inf
            self._news.wake()

    def depart(self, last: PodView | None) -> None:
        """The pod is gone from the API; `last` is its last description, where that is known."""
        self._see(last or self.view)
        self.departed, self.departed_at = True, asyncio.get_running_loop().time()
        self._news.wake()

    def wake(self) -> None:
        """Let a wait for news end now."""
        self._news.wake()

    def _see(self, found: PodView) -> None:
        if found.running:
            self.ended_at = inf
        elif self.view.running or found.instance != self.view.instance:
            self.ended_at = asyncio.get_running_loop().time()
        if found.deleting and self.deleting_at == inf:
            self.deleting_at = asyncio.get_running_loop().time()
        self._note_ends(found)
        self.view = found

    def _note_ends(self, found: PodView) -> None:
        """Remember when the latest instances ended: a status names the last two ends at most."""
        ends = ((found.previous, found.previous_ended_ns), (found.instance, found.ended_ns))
        for instance, ended_ns in ends:
            if instance is not None and ended_ns is not None:
                self._ended_ns[instance] = ended_ns
        for oldest in sorted(self._ended_ns, key=lambda each: each.restart_count)[:-_ENDS]:
            del self._ended_ns[oldest]

    def ended_ns(self, instance: Instance | None) -> int | None:
        """When an instance ended, by the node's clock and in whole seconds; None if no status has said so."""
        return None if instance is None else self._ended_ns.get(instance)

    # Requested

    async def ask(self) -> None:
        """Request the pod: a log's address has its name only, which a later pod may have taken over.

        Raises `PodGoneError`, and `ApiError` other than 404 for the pod.
        """
        try:
            pod = await self._api.pod(self._target.namespace, self._target.pod)
        except ApiError as error:
            if error.is_pod_gone:
                raise PodGoneError from error
            raise
        found = view(pod, self._target.container)
        if found is None or found.target.uid != self._target.uid:
            raise _NameTakenError
        self._see(found)

    async def confirm(self) -> None:
        """After opening a log without knowing its lines: make sure that the name has not changed hands meanwhile.

        A pod that is gone is no doubt: what was opened is the log of the one that has just left.
        """
        try:
            await self.ask()
        except _NameTakenError:
            raise
        except PodGoneError:
            pass

    async def ask_until(self, answered: Callable[[PodView], bool]) -> bool:
        """Request the pod until its status has caught up with its log; False if it does not within 5 s.

        A server that asks for a pause gets it.
        """
        pause_seconds = self._patience.status_seconds / 10
        with suppress(TimeoutError, PodGoneError):
            async with asyncio.timeout(self._patience.status_seconds):
                while not answered(self.view):
                    asked_seconds = 0.0
                    try:
                        await self.ask()
                    except ApiError as error:
                        asked_seconds = error.retry_after_seconds or 0.0
                    if not answered(self.view):
                        await asyncio.sleep(max(pause_seconds, asked_seconds))
        return answered(self.view)

    async def next_instance(self, before: Instance | None) -> Instance | None:
        """The instance after `before`, as soon as the status shows it; a nameless one if it does not in time."""
        await self.ask_until(lambda now: now.instance not in (None, before))
        if before is None or self.view.instance != before:
            return self.view.instance
        return Instance("", before.restart_count + 1)

    # Waited for

    def forget_news(self) -> None:
        """What was reported so far is known."""
        self._news.clear()

    async def wait_for_news(self, seconds: float) -> None:
        """Wait for a report, for at most so long."""
        await self._news.wait(seconds)

    async def wait_while(self, condition: Callable[[PodView], bool], seconds: float | None = None) -> None:
        """Wait while the view meets a condition and the pod is there, for at most so long."""
        clock = asyncio.get_running_loop().time
        end = inf if seconds is None else clock() + seconds
        while condition(self.view) and not self.departed and (left_seconds := end - clock()) > 0:
            self._news.clear()
            await self._news.wait(None if seconds is None else left_seconds)


class _NameTakenError(PodGoneError):
    """Another pod has the name."""
