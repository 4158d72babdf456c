"""One follower a target: the whole wanted set is stated, and the fleet makes it so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Final, Protocol, Self

import structlog

from streamer.flow.backoff import Backoff
from streamer.model import LogBatch, Position, PositionStatus, Target
from streamer.source.api import ApiError, KubernetesApi
from streamer.source.discovery import Targets
from streamer.source.follower import Follower
from streamer.source.patience import PATIENCE, Patience
from streamer.source.pods import PodView
from streamer.telemetry.status import StreamState, TargetStatus

_DRAIN_SECONDS: Final = 60.0
"""How long a deleted pod's open stream may stay silent before it is closed."""

_AGAIN_SECONDS: Final = 5.0

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
    """Starts and stops followers of those targets that have an owner here.

    Leaving its context cancels them all; nothing that they read is lost by that.
    """

    def __init__(
        self,
        api: KubernetesApi,
        owner_of: Callable[[Target], Owner | None],
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
        self._owners: dict[str, Owner] = {}
        self._followers: dict[str, Follower] = {}
        self._started_at: dict[str, float] = {}
        self._wanted: Mapping[str, PodView] = {}
        self._draining: set[str] = set()
        self._drains: dict[str, asyncio.Task[None]] = {}
        """One a target at the most, until its follower has ended: two would tell its end twice."""
        self._closed = False

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True
        for task in [*self._drains.values(), *(task for _, task in self._running.values())]:
            task.cancel()
        await self._tasks.__aexit__(kind, error, trace)

    def __len__(self) -> int:
        return len(self._running)

    def status(self, now_ns: int, owner: Owner | None = None) -> list[TargetStatus]:
        """How each target stands, or each of one owner's; `now_ns` is by our clock."""
        now = asyncio.get_running_loop().time()
        return [
            follower.status(now_ns)
            if (follower := self._followers.get(identity)) is not None
            else TargetStatus(
                found.target,
                StreamState.OPENING,
                running=found.running,
                unread_seconds=now - self._started_at.get(identity, now),
                behind_seconds=0.0,
                quiet_seconds=now - self._started_at.get(identity, now),
            )
            for identity, (found, _) in self._running.items()
            if owner is None or self._owners.get(identity) is owner
        ]

    def apply(self, targets: Targets) -> None:
        """Make the set of followers the wanted one. Streams of pods that are gone are read to their end."""
        if self._closed:
            return
        self._wanted = wanted = {
            identity: found
            for identity, found in targets.present.items()
            if self._owner_of(found.target) is not None
        }
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
            if identity not in self._drains:  # it may have left before, and have come back
                self._drains[identity] = self._tasks.create_task(
                    self._drain(identity), name=f"drain {identity}"
                )

    def adopt(self, stored: Iterable[tuple[Target, Position]], targets: Targets) -> None:
        """See out the targets that an owner knows and the cluster does not: their pods left while nobody looked."""
        for target, position in stored:
            if target.id not in self._running and position.status is not PositionStatus.DONE:
                log.info("target_missing", target=target.id)
                self._start(PodView(target, position.instance, running=True, deleting=False, finished=False))
        self.apply(targets)

    def restart(self, owner: Owner) -> None:
        """Begin again at the committed positions with all targets of an owner whose state turned out to differ."""
        for found in self.release(owner):
            self._start(found)

    def release(self, owner: Owner) -> list[PodView]:
        """Stop following an owner's targets, as if we never had: another worker goes on at its last commit."""
        released = []
        for identity, (found, task) in list(self._running.items()):
            if self._owners.get(identity) is owner:
                task.cancel()
                self._forget(identity)
                self._draining.discard(identity)
                if (draining := self._drains.pop(identity, None)) is not None:
                    draining.cancel()
                released.append(found)
        return released

    def _start(self, found: PodView) -> None:
        identity = found.target.id
        owner = self._owner_of(found.target)
        if owner is None:
            return
        self._owners[identity] = owner
        task = self._tasks.create_task(self._follow(found, owner), name=f"follow {identity}")
        self._running[identity] = (found, task)
        self._started_at[identity] = asyncio.get_running_loop().time()
        task.add_done_callback(lambda done: self._forget(identity, done))

    def _forget(self, identity: str, task: asyncio.Task[None] | None = None) -> None:
        if task is None or self._running.get(identity, (None, None))[1] is task:
            self._running.pop(identity, None)
            self._followers.pop(identity, None)
            self._started_at.pop(identity, None)
            self._owners.pop(identity, None)

    async def _follow(self, found: PodView, owner: Owner) -> None:
        """Follow one target; a fault of our own in it costs that target a pause, not the worker its life."""
        backoff = Backoff(1.0, 60.0)
        while True:
            try:
                await self._follow_from_position(found, owner)
                return
            except Exception:
                log.exception("follower_failed", target=found.target.id)
            await asyncio.sleep(backoff.next_seconds())
            found = self._running.get(found.target.id, (found, None))[0]

    async def _follow_from_position(self, found: PodView, owner: Owner) -> None:
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
        try:
            while identity in self._running and identity in self._draining:
                found, task = self._running[identity]
                gone = await self._is_gone(found.target)
                if identity not in self._draining:
                    return
                if gone is False:  # the pod lives on, but is not ours to follow; its position stays
                    log.info("target_released", target=identity)
                    await self._release(identity, task)
                    return
                follower = self._followers.get(identity)
                now = asyncio.get_running_loop().time()
                left = _DRAIN_SECONDS if follower is None else follower.last_read_at + _DRAIN_SECONDS - now
                if left <= 0 and gone and follower is not None:
                    await self._give_up(found, task, follower)
                    return
                # Where the API did not answer, it is asked again.
                await asyncio.wait([task], timeout=max(left, _AGAIN_SECONDS))
        finally:
            if self._drains.get(identity) is asyncio.current_task():
                self._draining.discard(identity)
                del self._drains[identity]

    async def _release(self, identity: str, task: asyncio.Task[None]) -> None:
        task.cancel()
        await asyncio.wait([task])
        if identity in self._wanted and identity not in self._running and not self._closed:
            self._start(self._wanted[identity])  # it was wanted again while its follower ended

    async def _is_gone(self, target: Target) -> bool | None:
        """Whether a pod has left, or is about to, and not only its labels; None if that cannot be told now."""
        try:
            metadata = (await self._api.pod(target.namespace, target.pod))["metadata"]
            return bool(metadata["uid"] != target.uid or metadata.get("deletionTimestamp"))
        except ApiError as error:
            return True if (error.status, error.kind) == (404, "pods") else None

    async def _give_up(self, found: PodView, task: asyncio.Task[None], follower: Follower) -> None:
        """Close the stream of a pod that is gone: it may be half open, and what it might still bring is a gap."""
        identity = found.target.id
        log.warning("target_drain_timed_out", target=identity)
        owner = self._owners[identity]
        task.cancel()
        await asyncio.wait([task])
        if task.cancelled() and identity not in self._running and not self._closed:
            self._owners[identity] = owner
            ending = self._tasks.create_task(follower.give_up(), name=f"give up {identity}")
            # On record as running, so that nobody begins to follow it anew before its end is told.
            self._running[identity] = (found, ending)
            ending.add_done_callback(lambda done: self._forget(identity, done))
            await asyncio.wait([ending])
