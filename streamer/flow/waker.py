"""Wait for news, or for a while."""

from __future__ import annotations

import asyncio


class Waker:
    """One task waits, anybody wakes it. Lighter than an `asyncio.Event`: there is one for each of many targets."""

    __slots__ = ("_pending", "_waiter")

    def __init__(self) -> None:
        self._pending = False
        self._waiter: asyncio.Future[None] | None = None

    def wake(self) -> None:
        """There is news: the wait under way ends, or else the next one does at once."""
        self._pending = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def clear(self) -> None:
        """All news so far are known."""
        self._pending = False

    async def wait(self, seconds: float | None = None) -> None:
        """Return once there is news, after `seconds` at the latest; the news are known then."""
        if not self._pending:
            loop = asyncio.get_running_loop()
            self._waiter = loop.create_future()
            timer = None if seconds is None else loop.call_later(max(0.0, seconds), self.wake)
            try:
                await self._waiter
            finally:
                self._waiter = None
                if timer is not None:
                    timer.cancel()
        self._pending = False
