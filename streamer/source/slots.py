"""A number of slots, and the queue of requests that wait for one. Plain asyncio: no tasks, safe to be cancelled at."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Final

_A_MOMENT_SECONDS: Final = 1e-6
"""Clocks are floating-point numbers: a timer may be so much too early."""


class Waiter:
    """A request in a queue; `turn` is done once it has a slot."""

    __slots__ = ("node", "slots", "turn")

    def __init__(self, node: str) -> None:
        self.node = node
        self.turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.slots: Slots | None = None
        """Where it is queued, or has a slot."""

    def leave(self) -> None:
        """Leave the queue, or give back the slot that it was given meanwhile."""
        assert self.slots is not None
        if self.turn.done() and not self.turn.cancelled():
            self.slots.give_back(self.node)
        else:
            self.slots.forget(self)


class Slots:
    """Slots given out in the order of asking, at most `per_second` after a burst, and `per_node` of one node.

    Where there is a limit for each node, nodes have their turns one after another. `divert` may queue the next
    request elsewhere instead; it returns True then.
    """

    def __init__(
        self,
        at_once: int,
        per_second: float,
        burst: int,
        *,
        per_node: int | None = None,
        divert: Callable[[Waiter], bool] = lambda _: False,
    ) -> None:
        self._at_once = at_once
        self._interval_seconds = 1 / per_second
        self._burst_seconds = (burst - 1) / per_second
        self._per_node = per_node
        self._divert = divert
        self._of_node: Counter[str] = Counter()
        self._lines: dict[str, dict[Waiter, None]] = {}
        """The queued requests, by node where that matters."""
        self._next: dict[str, None] = {}
        """The queues whose first request may go, in the order of their turns."""
        self._regular_at = float("-inf")
        """When the next one would go at a steady rate; a burst may run ahead of it."""
        self._timer: asyncio.TimerHandle | None = None
        self.not_before = float("-inf")
        """No slots are given before this time, on the loop's clock."""
        self.busy = 0
        self.counted: Callable[[int], None] = lambda _: None
        """Called with each change of `busy`."""

    @property
    def waiting(self) -> int:
        """How many requests are queued."""
        return sum(map(len, self._lines.values()))

    def queue(self, waiter: Waiter) -> None:
        """Queue a request; its turn may come at once."""
        waiter.slots = self
        key = self._key(waiter.node)
        self._lines.setdefault(key, {})[waiter] = None
        self._offer(key)
        self._admit()

    def take_at_once(self, node: str) -> bool:
        """A slot for a request that is under way already, if one is free."""
        if self.busy >= self._at_once or not self._fits(self._key(node)):
            return False
        self._take(self._key(node))
        return True

    def give_back(self, node: str) -> None:
        """A request is done."""
        key = self._key(node)
        self.busy -= 1
        self.counted(-1)
        self._of_node[key] -= 1
        if not self._of_node[key]:
            del self._of_node[key]
        self._offer(key)
        self._admit()

    def forget(self, waiter: Waiter) -> None:
        """Take a request out of the queue, if it is in it."""
        key = self._key(waiter.node)
        line = self._lines.get(key, {})
        line.pop(waiter, None)
        if not line:
            self._lines.pop(key, None)
            self._next.pop(key, None)

    def withdraw(self, node: str) -> list[Waiter]:
        """Take the requests for a node out of the queue."""
        key = self._key(node)
        self._next.pop(key, None)
        return list(self._lines.pop(key, ()))

    def pause(self, until: float) -> None:
        """Give no slots before a time, on the loop's clock, and then no burst."""
        self.not_before = max(self.not_before, until)
        self._regular_at = max(self._regular_at, self.not_before + self._burst_seconds)

    def _key(self, node: str) -> str:
        return "" if self._per_node is None else node

    def _fits(self, key: str) -> bool:
        return self._per_node is None or self._of_node[key] < self._per_node

    def _offer(self, key: str) -> None:
        if key in self._lines and key not in self._next and self._fits(key):
            self._next[key] = None

    def _take(self, key: str) -> None:
        self.busy += 1
        self.counted(1)
        self._of_node[key] += 1

    def _admit(self) -> None:
        """Give slots to the requests that may go now."""
        loop = asyncio.get_running_loop()
        while self._next and self.busy < self._at_once:
            now = loop.time()
            at = max(self.not_before, self._regular_at - self._burst_seconds)
            if at > now + _A_MOMENT_SECONDS:
                if self._timer is None:
                    self._timer = loop.call_at(at, self._timed)
                return
            key = next(iter(self._next))
            del self._next[key]
            waiter = next(iter(self._lines[key]))
            self.forget(waiter)
            if not waiter.turn.done() and not self._divert(
                waiter
            ):  # else it was cancelled, and leaves by itself
                self._regular_at = max(self._regular_at, now) + self._interval_seconds
                self._take(key)
                waiter.turn.set_result(None)
            self._offer(key)

    def _timed(self) -> None:
        self._timer = None
        self._admit()
