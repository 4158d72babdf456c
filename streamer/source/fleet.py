"""The targets that are followed here: a registry of one actor a target."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Self

import structlog

from streamer.model import Position, PositionStatus, Target
from streamer.source.actor import TargetActor
from streamer.source.api import KubernetesApi
from streamer.source.means import Means, Owner
from streamer.source.patience import PATIENCE, Patience
from streamer.source.pods import PodView
from streamer.source.podset import PodChange
from streamer.source.probes import ProbeTurns
from streamer.source.recovery import Recovery
from streamer.source.rights import Rights
from streamer.telemetry.status import TargetStatus

log = structlog.get_logger()


class Fleet:
    """Starts and stops the actors of those targets that have an owner here.

    Leaving its context cancels them all, and nothing starts after that; nothing that they read is lost by it.
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
        self._owner_of = owner_of
        log_rights = Rights(self._wake, most_seconds=patience.forbidden_seconds)
        turns = ProbeTurns(patience.together_seconds)
        self._means = Means(
            api, Rights(self._wake), log_rights, Recovery(), max_line_bytes, from_now, patience, turns
        )
        self._tasks = asyncio.TaskGroup()
        self._actors: dict[str, tuple[TargetActor, asyncio.Task[None]]] = {}
        self._closed = False

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True
        for _, task in self._actors.values():
            task.cancel()
        await self._tasks.__aexit__(kind, error, trace)

    def __len__(self) -> int:
        return len(self._actors)

    def status(self, now_ns: int, owner: Owner | None = None) -> list[TargetStatus]:
        """How each target stands, or each of one owner's; `now_ns` is by our clock."""
        return [
            actor.status(now_ns)
            for actor, _ in self._actors.values()
            if owner is None or actor.owner is owner
        ]

    def take(self, change: PodChange) -> None:
        """A change of one pod, as discovery hands it over."""
        if change.present:
            self.update(change.view)
        else:
            self.depart(change.view.target.id, change.view)

    def update(self, view: PodView) -> None:
        """A pod appeared or changed."""
        if (known := self._actors.get(view.target.id)) is not None:
            known[0].update(view)
        else:
            self._start(view)

    def depart(self, target_id: str, last: PodView | None) -> None:
        """A pod is gone from the watch: deleted, or its label is gone. `last` is how it left, if that is known."""
        if (known := self._actors.get(target_id)) is not None:
            known[0].depart(last)

    def adopt(
        self,
        stored: Iterable[tuple[Target, Position]],
        *,
        last_of: Callable[[Target], PodView | None] = lambda _: None,
        ours: bool = True,
    ) -> None:
        """Bring those targets to their end that an owner knows and the watch does not: they left while nobody looked.

        `last_of` says how one left, where that is known. Not `ours` are those of a namespace in which nobody looks
        for pods: they are released.
        """
        for target, position in stored:
            settled = position.status is PositionStatus.DONE or (
                position.status is PositionStatus.RELEASED and not ours
            )
            if target.id not in self._actors and not settled:
                log.info("target_missing", target=target.id)
                view = PodView(target, position.instance, running=True, deleting=False, finished=False)
                self._start(view, present=False, last=last_of(target), ours=ours)

    def restart(self, owner: Owner) -> None:
        """Begin again at the committed positions with all targets of an owner whose state turned out to differ."""
        for actor, task in self._release(owner):
            self._start(actor.view, present=actor.is_present(), last=actor.last, ours=actor.ours, after=task)

    def release(self, owner: Owner) -> list[Target]:
        """Stop following an owner's targets, as if we never had: another worker goes on at its last commit."""
        return [actor.target for actor, _ in self._release(owner)]

    def wake(self, namespace: str) -> None:
        """The API server answers again for a namespace, "" for all: nobody need wait any longer."""
        self._means.rights.reconsider(namespace)
        self._means.log_rights.reconsider(namespace)
        self._wake(namespace)

    def _wake(self, namespace: str) -> None:
        for actor, _ in self._actors.values():
            if namespace in ("", actor.target.namespace):
                actor.wake()

    def _release(self, owner: Owner) -> list[tuple[TargetActor, asyncio.Task[None]]]:
        released = [each for each in self._actors.values() if each[0].owner is owner]
        for actor, task in released:
            del self._actors[actor.target.id]
            task.cancel()
        return released

    def _start(
        self,
        view: PodView,
        *,
        present: bool = True,
        last: PodView | None = None,
        ours: bool = True,
        after: asyncio.Task[None] | None = None,
    ) -> None:
        if self._closed or (owner := self._owner_of(view.target)) is None:
            return
        actor = TargetActor(
            self._means, owner, view, present=present, last=last, ours=ours, on_end=self._forget
        )
        task = self._tasks.create_task(actor.run(after), name=f"target {view.target.id}")
        self._actors[view.target.id] = (actor, task)

    def _forget(self, actor: TargetActor) -> None:
        if (known := self._actors.get(actor.target.id)) is not None and known[0] is actor:
            del self._actors[actor.target.id]
