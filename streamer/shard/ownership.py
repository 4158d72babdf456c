"""Which shards are run here: those that the group of workers has assigned to us."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable
from functools import reduce
from typing import Final

import structlog

from streamer.flow.backoff import Backoff
from streamer.flow.membership import Membership
from streamer.model import Ledger
from streamer.shard.assign import shard_of
from streamer.shard.shard import Shard

_CALM_SECONDS: Final = 60.0
"""A shard that was fenced once more within this time waits longer before it is taken back."""

log = structlog.get_logger()


class Ownership:
    """Starts a shard when it is assigned to us and stops it when it is lost; whatever stays goes on undisturbed.

    A shard that is lost is stopped as it is, without a last commit: who has it now may have fenced us already, and
    reads on from our last one. Shards run as tasks of `tasks`.
    """

    def __init__(
        self,
        membership: Membership,
        tasks: asyncio.TaskGroup,
        make_shard: Callable[[int], Shard],
        count: int,
        *,
        on_gained: Callable[[Shard], None] = lambda _: None,
        on_lost: Callable[[Shard], None] = lambda _: None,
    ) -> None:
        self._membership = membership
        self._tasks = tasks
        self._make_shard = make_shard
        self._count = count
        self._on_gained = on_gained
        self._on_lost = on_lost
        self._ending = False
        self._loaded = False
        self._running: dict[int, asyncio.Task[None]] = {}
        self._turns: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._fenced_at: dict[int, float] = {}
        self._backoffs: dict[int, Backoff] = {}
        self.shards: dict[int, Shard] = {}
        """The shards that are ours, by index."""
        self.fenced: Counter[int] = Counter()
        """How often each shard was taken from us while we wrote, by index."""

    @property
    def trouble(self) -> str:
        """What kept us out of the group at the last try; "" if nothing did, or once the group has assigned shards."""
        return "" if self._membership.assigned is not None else self._membership.trouble

    @property
    def loaded(self) -> bool:
        """Whether all shards of the first assignment, be it an empty one, have been loaded."""
        return not self.loading and self._loaded

    @property
    def loading(self) -> list[Shard]:
        """The shards of the first assignment that are not loaded yet; what is gained later on is not waited for."""
        waiting = [shard for shard in self.shards.values() if not shard.loaded]
        assigned = self._membership.assigned
        self._loaded = self._loaded or (
            assigned is not None and self.shards.keys() >= assigned and not waiting
        )
        return [] if self._loaded else waiting

    @property
    def ledger(self) -> Ledger:
        """The sum of our shards' committed ledgers."""
        return reduce(Ledger.__add__, (shard.ledger for shard in self.shards.values()), Ledger())

    def owner_of(self, uid: str) -> Shard | None:
        """The shard of a pod, if it is ours."""
        return self.shards.get(shard_of(uid, self._count))

    async def run(self) -> None:
        """Do as the group says, until cancelled. Shards outlive this task."""
        async for assigned in self._membership.assignments():
            self._take(assigned)

    def gain_no_more(self) -> None:
        """From now on shards are only lost: what would serve those that are gained is about to end."""
        self._ending = True

    async def drain(self, seconds: float) -> int:
        """Let all shards commit what they have and end; returns how many did not in time. Nothing is lost by that."""
        self.gain_no_more()
        for shard in self.shards.values():
            shard.drain()
        running = [task for task in self._running.values() if not task.done()]
        if not running:
            return 0
        _, late = await asyncio.wait(running, timeout=seconds)
        for task in late:
            task.cancel()
        return len(late)

    def _take(self, assigned: frozenset[int]) -> None:
        lost, gained = self.shards.keys() - assigned, assigned - self.shards.keys()
        if self._ending:
            gained = frozenset()
        if lost or gained:
            log.info("shards_changed", gained=sorted(gained), lost=sorted(lost), owned=len(assigned))
        for index in sorted(lost):
            shard = self.shards.pop(index)
            self._on_lost(shard)
            self._running[index].cancel()
        for index in sorted(gained):
            self.shards[index] = shard = self._make_shard(index)
            shard.on_fenced = self._wait_for_confirmation
            self._running[index] = self._tasks.create_task(self._run(shard), name=f"shard {index}")
            self._on_gained(shard)

    async def _run(self, shard: Shard) -> None:
        """Run a shard once all former runs of the same one have ended: their last requests must not overtake ours."""
        async with self._turns[shard.index]:
            await shard.run()

    async def _wait_for_confirmation(self, shard: Shard) -> None:
        """Return when it is known that the shard is still ours, and not at once: who fenced us may not know yet.

        Where it is ours no more, the shard is stopped while it waits.
        """
        index, now = shard.index, asyncio.get_running_loop().time()
        self.fenced[index] += 1
        backoff = self._backoffs.setdefault(index, Backoff(0.2, 10.0))
        if now - self._fenced_at.get(index, now) > _CALM_SECONDS:
            backoff.reset()
        self._fenced_at[index] = now
        await self._membership.confirmed()
        await asyncio.sleep(backoff.next_seconds())
