"""A worker that can die: the real fleet, and a shard that commits what it was given a prefix at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from streamer.model import DigestRing, Gap, LogBatch, Oversize, Position, PositionStatus, Target
from streamer.source.api import KubernetesApi
from streamer.source.fleet import Fleet
from streamer.source.patience import Patience
from streamer.source.pods import PodView
from streamer.source.podset import PodChange
from streamer.telemetry.status import StreamState
from streamer.transform import align

_REBASE_NS: Final = 10_000_000_000


@dataclass(frozen=True)
class Line:
    raw: bytes
    oversize: Oversize | None


@dataclass
class Committed:
    """What outlives a worker: positions, and what a read_committed consumer sees."""

    positions: dict[str, Position] = field(default_factory=dict)
    targets: dict[str, Target] = field(default_factory=dict)
    output: dict[str, list[Line | Gap]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    left_released: set[str] = field(default_factory=set)
    """The uids of pods that were gone when a worker next looked, after they had lost their label."""

    def commit(self, batch: LogBatch) -> None:
        identity = batch.target.id
        self.targets[identity] = batch.target
        before = self.positions.get(identity, Position())
        self.positions[identity] = after(before, batch)
        if (before.status, batch.status) == (PositionStatus.RELEASED, PositionStatus.DONE):
            self.left_released.add(batch.target.uid)
        output = self.output.setdefault(identity, [])
        if batch.gap is not None:
            output.append(batch.gap)
        output += [Line(line, batch.oversize.get(index)) for index, line in enumerate(batch.lines)]
        if batch.lines and align.advance(before.ring, batch.lines, batch.oversize) != batch.ring:
            self.faults.append("a batch does not go on from the position before it")


def after(position: Position, batch: LogBatch) -> Position:
    """The position behind a batch, as transform.process has it."""
    last_ns = position.last_ns
    for time_ns in batch.times_ns:
        if time_ns >= last_ns or last_ns - time_ns > _REBASE_NS:
            last_ns = time_ns
    return Position(
        DigestRing(batch.ring),
        position.lines + len(batch.lines),
        last_ns,
        newest_ns=max(position.newest_ns, *batch.times_ns) if batch.times_ns else position.newest_ns,
        status=batch.status,
        instance=batch.instance or position.instance,
    )


class Worker:
    """One life of the worker."""

    def __init__(
        self,
        api: KubernetesApi,
        committed: Committed,
        room: int,
        max_line_bytes: int,
        patience: Patience,
    ) -> None:
        self._api = api
        self._patience = patience
        self._committed = committed
        self._room = room
        self._max_line_bytes = max_line_bytes
        self._pending: list[LogBatch] = []
        self._moved = asyncio.Event()
        self._blocked_until = 0.0
        self._alive = True
        self._fleet: Fleet | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self, present: Iterable[PodView], departed: Mapping[str, PodView]) -> None:
        """Follow what the watch shows, and see to what it has shown and how that left, by `Target.id`."""
        self._early = [PodChange(found, present=True) for found in present]
        self._departed = departed
        self._task = asyncio.create_task(self._run())

    def take(self, change: PodChange) -> None:
        """What the watch shows next."""
        if self._fleet is None:
            self._early.append(change)
        elif self._alive:
            self._fleet.take(change)

    def block(self, seconds: float) -> None:
        """Take nothing for so long."""
        self._blocked_until = max(self._blocked_until, asyncio.get_running_loop().time() + seconds)

    def unblock(self) -> None:
        self._blocked_until = 0.0

    async def die(self, committed: int | None) -> None:
        """Die with the first `committed` of what is pending committed (None: all), the rest lost."""
        self._alive = False
        for batch in self._pending[:committed]:
            self._committed.commit(batch)
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        if self._task.done() and not self._task.cancelled() and (error := self._task.exception()) is not None:
            self._committed.faults.append(f"the fleet died: {error!r}")

    def idle(self) -> list[str]:
        """Which of the containers that run have no stream open, in words."""
        assert self._fleet is not None
        return [
            f"{status.target.pod} runs, and is {status.state}"
            for status in self._fleet.status(0)
            if status.running and status.state is not StreamState.FOLLOWING
        ]

    async def _run(self) -> None:
        stored = [(self._committed.targets[name], place) for name, place in self._committed.positions.items()]
        async with Fleet(
            self._api,
            lambda _: self,
            max_line_bytes=self._max_line_bytes,
            from_now=False,
            patience=self._patience,
        ) as self._fleet:
            for change in self._early:
                self._fleet.take(change)
            self._fleet.adopt(stored, last_of=lambda target: self._departed.get(target.id))
            while True:
                await asyncio.sleep(0.5)
                self._commit()

    def _commit(self) -> None:
        if self._is_blocked():
            return
        for batch in self._pending:
            self._committed.commit(batch)
        self._pending.clear()
        self._moved.set()

    def _is_blocked(self) -> bool:
        return asyncio.get_running_loop().time() < self._blocked_until

    # As its followers see it

    async def attach(self, target: Target) -> Position | None:
        position = self._committed.positions.get(target.id)
        for batch in self._pending:
            if batch.target.id == target.id:
                position = after(position or Position(), batch)
        return position

    async def put(self, batch: LogBatch) -> None:
        while len(self._pending) >= self._room or not self._alive:
            self._moved.clear()
            await self._moved.wait()
        self._pending.append(batch)
