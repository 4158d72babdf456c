"""The one budget of requests to the Kubernetes API: who may send how many, and at which rate.

Log requests are exempt from the API server's own limits (API Priority and Fairness), so the client has to limit itself.
See docs/decisions/0012-one-budget-for-the-api.md.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Final, TypeVar

from streamer.source.slots import Slots, Waiter
from streamer.telemetry import facts

T = TypeVar("T")

SLOW_SECONDS: Final = 1.0
"""A node whose answer's headers take longer is slow. A healthy kubelet takes milliseconds."""
_SLOW_AT_ONCE_PER_NODE: Final = 2
_REMEMBERED_SECONDS: Final = 300.0
"""For how long a node counts as slow that nothing is asked of."""
_LEAST_PAUSE_SECONDS: Final = 0.2
_MOST_PAUSE_SECONDS: Final = 10.0
_MOST_RETRY_AFTER_SECONDS: Final = 60.0
_JITTER: Final = 0.2
_LATE_SECONDS: Final = 0.05
"""A timer that is later than this shows that we were busy: what has arrived was not looked at yet."""


class Lane(StrEnum):
    """What a request is for. No lane waits for another."""

    DISCOVERY = "discovery"  # lists and watches
    POD = "pod"  # one pod's object; the API server answers without its node
    OPEN = "open"  # a log that is read on from, until its stream is aligned
    PROBE = "probe"  # a finite read that checks a silent stream


@dataclass(frozen=True, slots=True)
class Limits:
    """One lane's limits."""

    at_once: int
    """Requests under way, apart from those to slow nodes."""
    per_second: float
    burst: int
    """So many may follow each other at once after a pause."""
    wait_seconds: float
    """Who has waited for so long gives up."""
    slow_at_once: int = 0
    """Requests to slow nodes under way; 0 where no node is involved."""


LIMITS: Final[Mapping[Lane, Limits]] = {
    Lane.DISCOVERY: Limits(10, 20, 50, wait_seconds=60),
    Lane.POD: Limits(50, 200, 200, wait_seconds=30),
    # As many at once as may begin in SLOW_SECONDS: where all nodes hang, the rate is the only limit nevertheless.
    Lane.OPEN: Limits(100, 100, 100, wait_seconds=300, slow_at_once=100),
    Lane.PROBE: Limits(20, 50, 50, wait_seconds=30, slow_at_once=20),
}


class NoSlotError(Exception):
    """A request has waited for its turn for too long."""


class Permit:
    """One request's slot. Whoever has it calls `free` in the end, at any time and as often as one likes."""

    __slots__ = ("_budget", "_lane", "_slots", "_timer", "asked_at", "node")

    def __init__(self, budget: Budget, lane: _Lane, waiter: Waiter) -> None:
        self._budget = budget
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
        """Free the slot as soon as nothing has come for `SLOW_SECONDS`: a silent answer is no load."""
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
        if not self.node or not self._lane.limits.slow_at_once:
            return
        if status >= 500:  # its kubelet cannot be reached: it must not use up the rate of the others either
            self._budget.mark_slow(self.node)
        elif prompt:
            self._budget.mark_fast(self.node)

    async def send(self, request: Callable[[], Awaitable[T]], within_seconds: float) -> T | None:
        """What `request` gives; None if its node is slow and it has to wait for its turn among those to slow nodes.

        Raises TimeoutError, and whatever `request` raises.
        """
        loop = asyncio.get_running_loop()
        self.asked_at = loop.time()
        displaced = False

        def late(due_at: float) -> None:
            nonlocal displaced
            if (
                loop.time() > due_at + _LATE_SECONDS
            ):  # the answer may be there, and we too busy to have read it
                start(loop.time() + SLOW_SECONDS / 4)
                return
            self._timer = None
            self._budget.mark_slow(self.node)
            if self._lane.slow.take_at_once(self.node):
                assert self._slots is not None
                self._slots.give_back(self.node)
                self._slots = self._lane.slow
            else:
                displaced = True
                limit.reschedule(loop.time())

        def start(due_at: float) -> None:
            self._timer = loop.call_at(due_at, late, due_at)

        try:
            async with asyncio.timeout(within_seconds) as limit:
                if self.node and self._lane.limits.slow_at_once and self._slots is self._lane.quick:
                    start(self.asked_at + SLOW_SECONDS)
                return await request()
        except TimeoutError:
            if not displaced:
                raise
            return None
        finally:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None


class _Lane:
    """One lane: slots for requests to healthy nodes, others for those to slow ones, and when the next may go."""

    def __init__(self, lane: Lane, limits: Limits, is_slow: Callable[[str], bool]) -> None:
        self.lane = lane
        self.limits = limits
        self._is_slow = is_slow
        self._pause_seconds = 0.0
        self.quick = Slots(limits.at_once, limits.per_second, limits.burst, divert=self._divert)
        # A rate of their own: a thousand nodes that refuse at once must not use up that of the others.
        per_second, burst = limits.per_second / 2, max(1, limits.burst // 2)
        self.slow = Slots(limits.slow_at_once, per_second, burst, per_node=_SLOW_AT_ONCE_PER_NODE)
        self.quick.counted = self.slow.counted = partial(facts.api_requests, lane, "under_way")

    def queue(self, node: str) -> Waiter:
        """Stand in line."""
        waiter = Waiter(node)
        if not self._divert(waiter):
            self.quick.queue(waiter)
        return waiter

    def recovered(self, node: str) -> None:
        """Those who wait for a slow node go on among the others."""
        for waiter in self.slow.withdraw(node):
            self.quick.queue(waiter)

    def refused(self, retry_after_seconds: float | None) -> None:
        """The server has too much to do: the whole lane waits, for as long as it says or ever longer."""
        now = asyncio.get_running_loop().time()
        if retry_after_seconds is None:
            if now < self.quick.not_before:
                return  # sent before the pause began, which is for this as well
            doubled = max(_LEAST_PAUSE_SECONDS, 2 * self._pause_seconds)
            self._pause_seconds = seconds = min(_MOST_PAUSE_SECONDS, doubled)
        else:
            seconds = min(_MOST_RETRY_AFTER_SECONDS, retry_after_seconds)
        facts.api_slowed_down(self.lane)
        until = now + seconds * (1 + _JITTER * random.random())
        self.quick.pause(until)
        self.slow.pause(until)

    def accepted(self) -> None:
        """It takes requests: pauses become shorter again."""
        self._pause_seconds /= 2
        if self._pause_seconds < _LEAST_PAUSE_SECONDS / 2:
            self._pause_seconds = 0.0

    def _divert(self, waiter: Waiter) -> bool:
        if not self.limits.slow_at_once or not self._is_slow(waiter.node):
            return False
        self.slow.queue(waiter)
        return True


class Budget:
    """All slots for requests to one API server."""

    def __init__(self, limits: Mapping[Lane, Limits] = LIMITS) -> None:
        self._slow_since: dict[str, float] = {}
        self._lanes = {lane: _Lane(lane, limits[lane], self._is_slow) for lane in Lane}

    async def acquire(self, lane: Lane, node: str = "") -> Permit:
        """A slot, in the order of asking. Raises `NoSlotError`. Whoever is cancelled has none."""
        of = self._lanes[lane]
        waiter = of.queue(node)
        if waiter.turn.done():
            return Permit(self, of, waiter)
        seconds = of.limits.wait_seconds
        facts.api_requests(lane, "waiting", 1)
        try:
            async with asyncio.timeout(seconds):
                await waiter.turn
        except BaseException as error:
            waiter.leave()
            if not isinstance(error, TimeoutError):
                raise
            facts.api_wait_timed_out(lane)
            raise NoSlotError(f"no free slot for a request ({lane}) within {seconds:.0f} s") from None
        finally:
            facts.api_requests(lane, "waiting", -1)
        return Permit(self, of, waiter)

    async def send(
        self, lane: Lane, node: str, request: Callable[[], Awaitable[T]], within_seconds: float
    ) -> tuple[Permit, T]:
        """Send a request once it is its turn; gives its slot as well, which the caller frees.

        `request` gives an answer's headers and is called again where it was cancelled in favour of healthy nodes.
        Raises `NoSlotError`, TimeoutError if the headers are not there `within_seconds`, and what `request` raises.
        """
        while True:
            permit = await self.acquire(lane, node)
            try:
                answer = await permit.send(request, within_seconds)
            except BaseException:
                permit.free()
                raise
            if answer is not None:
                return permit, answer
            permit.free()

    def mark_slow(self, node: str) -> None:
        """From now on its requests use slots of their own."""
        now = asyncio.get_running_loop().time()
        self._slow_since.pop(node, None)
        self._slow_since[node] = now
        while now - self._slow_since[oldest := next(iter(self._slow_since))] > _REMEMBERED_SECONDS:
            del self._slow_since[oldest]
        facts.slow_nodes(len(self._slow_since))

    def mark_fast(self, node: str) -> None:
        """It answers as it should."""
        if self._slow_since.pop(node, None) is not None:
            facts.slow_nodes(len(self._slow_since))
            for lane in self._lanes.values():
                lane.recovered(node)

    def _is_slow(self, node: str) -> bool:
        since = self._slow_since.get(node)
        return since is not None and asyncio.get_running_loop().time() - since <= _REMEMBERED_SECONDS

    def busy(self, lane: Lane) -> Counter[str]:
        """Slots taken, by kind (`quick`, `slow`), and requests that wait (`waiting`)."""
        of = self._lanes[lane]
        waiting = of.quick.waiting + of.slow.waiting
        return Counter(quick=of.quick.busy, slow=of.slow.busy, waiting=waiting)
