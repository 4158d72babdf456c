"""One follower a target: the whole wanted set is stated, and the fleet makes it so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Final, Protocol, Self

import structlog

from streamer.flow.backoff import Backoff
from streamer.model import LogBatch, Position, PositionStatus, Target
from streamer.source.api import ApiError, KubernetesApi
from streamer.source.discovery import Targets
from streamer.source.follower import PATIENCE, Follower, Patience
from streamer.source.pods import PodView

_DRAIN_SECONDS: Final = 60.0
"""How long a deleted pod's open stream may stay silent before it is closed."""

log = structlog.get_logger()


class Owner(Protocol):
    """Who keeps a target's position and takes its batches: a shard."""

    async def attach(self, target: Target) -> Position | None:
        """The target's position, as soon as the state is loaded; None if it was never followed."""
        ...

    async def put(self, batch: LogBatch) -> None:
        """Take a batch; waits while there is no room."""
        ...


class Fleet:
    """Starts and stops followers. Leaving its context cancels them all; nothing that they read is lost by that."""

    def __init__(
        self,
        api: KubernetesApi,
        owner_of: Callable[[Target], Owner],
        *,
        max_line_bytes: int,
        from_now: bool,
        patience: Patience = PATIENCE,
    ) -> None:
        self._api = api
        self._owner_of = owner_of
        self._max_line_bytes = max_line_bytes
        self._from_now = from_now
        self._patience = patience
        self._tasks = asyncio.TaskGroup()
        self._running: dict[str, tuple[PodView, asyncio.Task[None]]] = {}
        self._followers: dict[str, Follower] = {}
        self._draining: set[str] = set()
        self._closed = False

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True
        for _, task in self._running.values():
            task.cancel()
        await self._tasks.__aexit__(kind, error, trace)

    def __len__(self) -> int:
        return len(self._running)

    def apply(self, targets: Targets) -> None:
        """Make the set of followers the wanted one. Streams of pods that are gone are read to their end."""
        if self._closed:
            return
        wanted = targets.present
        for identity, found in wanted.items():
            self._draining.discard(identity)
            if identity not in self._running:
                self._start(found)
            else:
                self._running[identity] = (found, self._running[identity][1])
                if (follower := self._followers.get(identity)) is not None:
                    follower.update(found)
        for identity in self._running.keys() - wanted.keys() - self._draining:
            self._draining.add(identity)
            if (follower := self._followers.get(identity)) is not None and identity in targets.departed:
                follower.depart(targets.departed[identity])
            self._tasks.create_task(self._drain(identity), name=f"drain {identity}")

    def adopt(self, stored: Iterable[tuple[Target, Position]], targets: Targets) -> None:
        """See out the targets that an owner knows and the cluster does not: their pods left while nobody looked."""
        for target, position in stored:
            if target.id not in self._running and position.status is not PositionStatus.DONE:
                log.info("target_missing", target=target.id)
                self._start(PodView(target, position.instance, running=True, deleting=False, finished=False))
        self.apply(targets)

    def restart(self, owner: Owner) -> None:
        """Begin again at the committed positions with all targets of an owner whose state turned out to differ."""
        for identity, (found, task) in list(self._running.items()):
            if self._owner_of(found.target) is owner:
                task.cancel()
                self._forget(identity)
                self._start(found)

    def _start(self, found: PodView) -> None:
        identity = found.target.id
        task = self._tasks.create_task(self._follow(found), name=f"follow {identity}")
        self._running[identity] = (found, task)
        task.add_done_callback(lambda done: self._forget(identity, done))

    def _forget(self, identity: str, task: asyncio.Task[None] | None = None) -> None:
        if task is None or self._running.get(identity, (None, None))[1] is task:
            self._running.pop(identity, None)
            self._followers.pop(identity, None)

    async def _follow(self, found: PodView) -> None:
        """Follow one target; a fault of our own in it costs that target a pause, not the worker its life."""
        backoff = Backoff(1.0, 60.0)
        while True:
            try:
                await self._follow_from_position(found)
                return
            except Exception:
                log.exception("follower_failed", target=found.target.id)
            await asyncio.sleep(backoff.next_seconds())
            found = self._running.get(found.target.id, (found, None))[0]

    async def _follow_from_position(self, found: PodView) -> None:
        owner = self._owner_of(found.target)
        position = await owner.attach(found.target)
        follower = Follower(
            self._api,
            found,
            position,
            owner.put,
            max_line_bytes=self._max_line_bytes,
            from_now=self._from_now,
            patience=self._patience,
        )
        self._followers[found.target.id] = follower
        log.info(
            "target_followed", target=found.target.id, node=found.target.node, resumed=position is not None
        )
        await follower.run()

    async def _drain(self, identity: str) -> None:
        """See a target out that is not wanted any more."""
        if identity not in self._running:  # it has ended by itself meanwhile
            self._draining.discard(identity)
            return
        found, task = self._running[identity]
        target = found.target
        try:
            pod = await self._api.pod(target.namespace, target.pod)
            labels_changed = pod["metadata"]["uid"] == target.uid and not pod["metadata"].get(
                "deletionTimestamp"
            )
        except ApiError:
            labels_changed = False
        if identity not in self._draining:
            return
        if labels_changed:  # the pod lives on, but is not ours to follow; its position stays
            log.info("target_released", target=identity)
            task.cancel()
        while not task.done() and identity in self._draining:
            follower = self._followers.get(identity)
            now = asyncio.get_running_loop().time()
            left = _DRAIN_SECONDS if follower is None else follower.last_read_at + _DRAIN_SECONDS - now
            if left <= 0:
                log.warning("target_drain_timed_out", target=identity)
                task.cancel()
                break
            await asyncio.wait([task], timeout=left)
        self._draining.discard(identity)
