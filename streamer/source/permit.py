"""One request's slot, from its turn to its answer and on until the answer causes no load any more."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from streamer.source.lanes import LaneSlots
from streamer.source.slots import Slots, Waiter

T = TypeVar("T")

SLOW_SECONDS: Final = 1.0
"""A node whose answer's headers take longer is slow. A healthy kubelet takes milliseconds."""
_LATE_SECONDS: Final = 0.05
"""A timer that is later than this shows that we were busy: what has arrived was not looked at yet."""


class Permit:
    """One request's slot. Its holder calls `free` in the end; calling it again has no effect."""

    __slots__ = ("_lane", "_slots", "_timer", "asked_at", "node")

    def __init__(self, lane: LaneSlots, waiter: Waiter) -> None:
        self._lane = lane
        self._slots: Slots | None = waiter.slots
        self._timer: asyncio.TimerHandle | None = None
        self.node = waiter.node
        self.asked_at = asyncio.get_running_loop().time()

    def free(self) -> None:
        """Give the slot back."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._slots is not None:
            self._slots.give_back(self.node)
            self._slots = None

    def watch(self, bytes_received: Callable[[], int]) -> None:
        """Free the slot as soon as nothing has come for `SLOW_SECONDS`: a silent answer causes no load."""
        known, loop = bytes_received(), asyncio.get_running_loop()

        def look() -> None:
            nonlocal known
            if (now := bytes_received()) == known:
                self._timer = None
                self.free()
                return
            known = now
            self._timer = loop.call_later(SLOW_SECONDS, look)

        if self._slots is not None:
            self._timer = loop.call_later(SLOW_SECONDS, look)

    def answered(self, status: int, retry_after_seconds: float | None = None) -> None:
        """The headers are there: learn from them about the node and the lane."""
        if status in (429, 503):
            self._lane.refused(retry_after_seconds)
            return
        self._lane.accepted()
        prompt = asyncio.get_running_loop().time() - self.asked_at < SLOW_SECONDS
        if not self._lane.nodes_matter(self.node):
            return
        if status >= 500:  # its kubelet cannot be reached: it must not use up the rate of the others either
            self._lane.nodes.mark(self.node)
        elif prompt:
            self._lane.nodes.clear(self.node)

    async def send(self, request: Callable[[], Awaitable[T]], within_seconds: float) -> T | None:
        """What `request` gives; None if its node is slow and it has to wait for its turn among those to slow nodes.

        Raises TimeoutError, and whatever `request` raises.
        """
        loop = asyncio.get_running_loop()
        self.asked_at = loop.time()
        displaced = False

        def late(due_at: float | None) -> None:
            nonlocal displaced
            if due_at is not None and loop.time() > due_at + _LATE_SECONDS:
                # The answer may be there, and we too busy to have read it: it has one more chance.
                self._timer = loop.call_later(SLOW_SECONDS / 4, late, None)
                return
            self._timer = None
            self._lane.nodes.mark(self.node)
            if self._lane.slow.take_at_once(self.node):
                assert self._slots is not None
                self._slots.give_back(self.node)
                self._slots = self._lane.slow
            else:
                displaced = True
                limit.reschedule(loop.time())

        try:
            async with asyncio.timeout(within_seconds) as limit:
                if self._lane.nodes_matter(self.node) and self._slots is self._lane.quick:
                    due_at = self.asked_at + SLOW_SECONDS
                    self._timer = loop.call_at(due_at, late, due_at)
                return await request()
        except TimeoutError:
            if not displaced:
                raise
            return None
        finally:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
