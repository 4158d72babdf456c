"""A place to follow a simulated cluster from: what was read, and the position to go on from."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final, Protocol

from streamer.model import Gap, LogBatch, Oversize, Position, PositionStatus, Target
from streamer.source.api import connect
from streamer.source.discovery import Discovery
from streamer.source.fleet import Fleet
from streamer.source.patience import PATIENCE, Patience

HASTY: Final = Patience(
    quiet_seconds=0.05,
    empty_seconds=0.1,
    probe_seconds=0.2,
    together_seconds=0.01,
    stalled_seconds=0.1,
    forbidden_seconds=0.1,
    departed_seconds=0.5,
    status_seconds=0.2,
    ending_seconds=0.05,
)


def numbered(first: int, last: int) -> list[bytes]:
    return [b'{"n":%d}' % n for n in range(first, last)]


class Recorder:
    """Owns targets as a shard does: knows their positions, and takes their batches."""

    def __init__(self) -> None:
        self.targets: dict[str, Target] = {}
        self.positions: dict[str, Position] = {}
        self.lines: dict[str, list[bytes]] = {}
        self.gaps: list[Gap] = []
        self.oversize: list[Oversize] = []
        self.fragments = 0
        self._changed = asyncio.Event()

    async def attach(self, target: Target) -> Position | None:
        return self.positions.get(target.id)

    async def put(self, batch: LogBatch) -> None:
        self.targets[batch.target.id] = batch.target
        before = self.positions.get(batch.target.id, Position())
        self.positions[batch.target.id] = Position(
            batch.ring,
            before.lines + len(batch.lines),
            batch.times_ns[-1] if batch.times_ns else before.last_ns,
            status=batch.status,
            instance=batch.instance or before.instance,
        )
        texts = [line.split(b" ", 1)[1] for line in batch.lines]
        self.lines.setdefault(batch.target.pod, []).extend(texts)
        self.fragments += batch.fragments
        self.oversize += batch.oversize.values()
        if batch.gap:
            self.gaps.append(batch.gap)
        self._changed.set()

    async def until(self, condition: Callable[[], bool], seconds: float = 10.0) -> None:
        """Wait until what was read meets a condition."""
        async with asyncio.timeout(seconds):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def until_read(self, pod: str, lines: list[bytes], seconds: float = 10.0) -> None:
        """Wait until so many lines of a pod were read, then compare them."""
        with suppress(TimeoutError):  # the comparison says more than that time is up
            await self.until(lambda: len(self.lines.get(pod, [])) >= len(lines), seconds)
        assert self.lines.get(pod, []) == lines

    async def until_done(self, pod: str) -> None:
        """Wait until a pod's log was read to its end."""
        await self.until(
            lambda: any(
                position.status is PositionStatus.DONE
                for identity, position in self.positions.items()
                if identity.split("/")[1] == pod
            )
        )


class ApiServer(Protocol):
    """A simulated one, or a real one."""

    def kubeconfig(self, path: Path) -> Path:
        """Write a kubeconfig for it; returns its path."""


@asynccontextmanager
async def following(
    server: ApiServer,
    recorder: Recorder,
    tmp_path: Path,
    *,
    namespaces: tuple[str, ...] = (),
    from_now: bool = False,
    max_line_bytes: int = 786_432,
    patience: Patience = PATIENCE,
    watch_seconds: float = 60.0,
) -> AsyncIterator[Fleet]:
    """Follow the default selectors' pods into the recorder, until the context ends."""
    kubeconfig = server.kubeconfig(tmp_path / "kubeconfig")
    async with connect(kubeconfig, None) as api, asyncio.TaskGroup() as tasks:
        discovery = Discovery(
            api,
            ["app.kubernetes.io/name=falco", "app=falco"],
            namespaces,
            "falco",
            watch_seconds=watch_seconds,
            quiet_seconds=watch_seconds / 6,
        )

        async with Fleet(
            api, lambda _: recorder, max_line_bytes=max_line_bytes, from_now=from_now, patience=patience
        ) as fleet:
            discovery.on_change, discovery.on_recovery = fleet.take, fleet.wake

            async def adopt() -> None:
                stored = [(target, recorder.positions[target.id]) for target in recorder.targets.values()]
                await discovery.listed()
                fleet.adopt(stored, last_of=discovery.last_of)

            running = [tasks.create_task(discovery.run()), tasks.create_task(adopt())]
            yield fleet
            for task in running:
                task.cancel()


async def eventually(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for a condition that nothing announces."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "the condition was not met in time"
        await asyncio.sleep(0.01)
