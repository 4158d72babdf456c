"""The bound on bytes of lines that were read and are not committed yet: one for all shards of a worker.

One half is divided equally among the shards, so that there is always room for each. Of the other half a shard may hold
as much as is left free: one that cannot commit, be it for hours, holds half of it, two hold a third each.
"""

from __future__ import annotations

import asyncio
from collections import deque


class Uncommitted:
    """All bytes, and the shares that wait for more."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._shares: dict[Share, None] = {}
        """In the order of their next turns."""
        self._own_bytes = 0.0
        """What each share has for itself."""
        self._common_bytes = 0.0
        """What all of them hold beyond that."""
        self.held_bytes = 0

    def share(self) -> Share:
        """A share for one shard, until it is closed."""
        made = Share(self)
        self._shares[made] = None
        self._divide()
        return made

    def remove(self, share: Share) -> None:
        """Drop all that a share holds, and count nothing more for it."""
        if self._shares.pop(share, share) is None:
            self.count(share, -share.held_bytes)
            self._divide()
            self.admit()

    def fits(self, share: Share, size_bytes: int) -> bool:
        """Whether a share may hold so much more. One that holds nothing may hold more than there is."""
        if self.held_bytes >= self._most_bytes:
            return False
        beyond_bytes = share.held_bytes + size_bytes - self._own_bytes
        free_bytes = self._most_bytes / 2 - self._common_bytes
        return not share.held_bytes or beyond_bytes <= max(0.0, free_bytes)

    def count(self, share: Share, change_bytes: int) -> None:
        """A share holds so much more, or less."""
        self._common_bytes -= self._beyond(share)
        share.held_bytes += change_bytes
        self.held_bytes += change_bytes
        self._common_bytes += self._beyond(share)

    def _beyond(self, share: Share) -> float:
        return max(0.0, share.held_bytes - self._own_bytes)

    def _divide(self) -> None:
        self._own_bytes = self._most_bytes / 2 / max(1, len(self._shares))
        self._common_bytes = sum(map(self._beyond, self._shares))

    def admit(self) -> None:
        """Admit waiting callers while there is room: one of each share, in turns."""
        admitted = True
        while admitted:
            admitted = False
            for share in list(self._shares):
                if share.admit():
                    admitted = True
                    del self._shares[share]
                    self._shares[share] = None


class Share:
    """One shard's part of the bytes. Waiting callers are served in the order of asking."""

    def __init__(self, of: Uncommitted) -> None:
        self._of = of
        self._waiting: deque[tuple[asyncio.Future[None], int]] = deque()
        self.closed = False
        self.held_bytes = 0

    def take_at_once(self, size_bytes: int) -> bool:
        """Count so many bytes more, unless there is no room for them or others wait for it."""
        if self.closed:
            return True
        if self._waiting or not self._of.fits(self, size_bytes):
            return False
        self._of.count(self, size_bytes)
        return True

    async def take(self, size_bytes: int) -> None:
        """Count so many bytes more, as soon as there is room. A cancelled caller has taken nothing."""
        if self.take_at_once(size_bytes):
            return
        waiter = (asyncio.get_running_loop().create_future(), size_bytes)
        self._waiting.append(waiter)
        try:
            await waiter[0]
        except asyncio.CancelledError:
            if not waiter[0].cancelled():  # it was its turn meanwhile
                self.give(size_bytes)
            elif waiter in self._waiting:
                self._waiting.remove(waiter)
                self._of.admit()  # those behind it may want less
            raise

    def give(self, size_bytes: int) -> None:
        """They are committed, or dropped."""
        if size_bytes := min(size_bytes, self.held_bytes):
            self._of.count(self, -size_bytes)
            self._of.admit()

    def close(self) -> None:
        """Drop all and release the waiting callers: nothing is counted any more."""
        self.closed = True
        self._of.remove(self)
        for turn, _ in self._waiting:
            if not turn.done():
                turn.set_result(None)
        self._waiting.clear()

    def admit(self) -> bool:
        """Admit the first waiting caller, if there is room."""
        while self._waiting and self._waiting[0][0].done():  # it was cancelled, and has not noticed yet
            self._waiting.popleft()
        if not self._waiting or not self._of.fits(self, self._waiting[0][1]):
            return False
        turn, size_bytes = self._waiting.popleft()
        self._of.count(self, size_bytes)
        turn.set_result(None)
        return True
