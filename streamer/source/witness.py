"""What the API says of one pod: asked for by the follower, or told by the watch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from math import inf

from streamer.source.api import ApiError, KubernetesApi
from streamer.source.patience import Patience
from streamer.source.pods import PodView, view


class PodGoneError(Exception):
    """The pod is gone, or its name belongs to another pod now."""


class Witness:
    """The pod of one target, as it was last described. `view` may be older than the log is."""

    def __init__(self, api: KubernetesApi, found: PodView, patience: Patience) -> None:
        self._api = api
        self._target = found.target
        self._patience = patience
        self.view = self._told = found
        self.ended_at = inf if found.running else asyncio.get_running_loop().time()
        """When its container was first known to have ended, on the loop's clock; never, while it runs."""
        self._news = asyncio.Event()
        self._departed = False

    # What the watch tells

    def update(self, found: PodView) -> None:
        """The pod as the watch describes it now. What it has said before is no news: an answer may be newer."""
        if found != self._told or self._departed:
            self._told = found
            self._see(found)
            self._departed = False
            self._news.set()

    def depart(self, last: PodView | None) -> None:
        """The pod is gone from the API; as it was at the last, if that is known."""
        self._see(last or self.view)
        self._departed = True
        self._news.set()

    def _see(self, found: PodView) -> None:
        if found.running:
            self.ended_at = inf
        elif self.view.running or found.instance != self.view.instance:
            self.ended_at = asyncio.get_running_loop().time()
        self.view = found

    # What is asked

    async def check(self) -> None:
        """Ask for the pod: the log's address has its name only, which a later pod may have taken over.

        Raises `PodGoneError`, `ApiError` other than 404 of the pod.
        """
        try:
            pod = await self._api.pod(self._target.namespace, self._target.pod)
        except ApiError as error:
            if (error.status, error.kind) == (404, "pods"):
                raise PodGoneError from error
            raise
        found = view(pod, self._target.container)
        if found is None or found.target.uid != self._target.uid:
            raise _NameTakenError
        self._see(found)

    async def confirm(self) -> None:
        """After opening a log without knowing its lines: the name may have changed hands since it was last asked.

        No pod at all is no doubt: what was opened is the log of the one that has just gone.
        """
        try:
            await self.check()
        except _NameTakenError:
            raise
        except PodGoneError:
            pass

    # What is waited for

    def forget_news(self) -> None:
        """What was told so far is known."""
        self._news.clear()

    async def wait_for_news(self, seconds: float) -> None:
        """Wait until something is told, at most so long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()

    async def wait_while_finished(self) -> None:
        """Wait until a pod that prints no more leaves, or runs again."""
        while self.view.finished and not self._departed:
            self._news.clear()
            await self._news.wait()

    async def ask_until(self, answered: Callable[[PodView], bool]) -> bool:
        """Ask until the status has caught up with what is known from the log; False if it does not in time."""
        with suppress(TimeoutError, PodGoneError):
            async with asyncio.timeout(self._patience.status_seconds):
                while not answered(self.view):
                    with suppress(ApiError):  # one refusal is no answer
                        await self.check()
                    if not answered(self.view):
                        await asyncio.sleep(self._patience.status_seconds / 10)
        return answered(self.view)

    async def ended_before_it_left(self) -> bool:
        """Whether the container was known to have ended when the pod left; waits for the watch to tell."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._patience.departed_seconds):
                while not self._departed:
                    self._news.clear()
                    await self._news.wait()
        return not self.view.running

    @property
    def restarts(self) -> int:
        """How often the container was started again."""
        return self.view.instance.restart_count if self.view.instance else 0


class _NameTakenError(PodGoneError):
    """Another pod has the name."""
