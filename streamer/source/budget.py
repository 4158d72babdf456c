"""The one budget of requests to the Kubernetes API: who may send how many, and at which rate.

Log requests are exempt from the API server's own limits (API Priority and Fairness), so the client has to limit itself.
See docs/decisions/0012-one-budget-for-the-api.md.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, TypeVar

from streamer.source.lanes import Lane, LaneSlots, Limits, SlowNodes
from streamer.source.permit import Permit
from streamer.telemetry import facts

__all__ = ["LIMITS", "Budget", "Lane", "Limits", "NoSlotError", "Permit"]

T = TypeVar("T")

LIMITS: Final[Mapping[Lane, Limits]] = {
    Lane.DISCOVERY: Limits(10, 50, 100, wait_seconds=60),
    Lane.POD: Limits(50, 200, 200, wait_seconds=30),
    # As many at once as may begin in SLOW_SECONDS: where all nodes hang, the rate is the only limit nevertheless.
    Lane.OPEN: Limits(100, 100, 100, wait_seconds=300, slow_at_once=200),
    Lane.PROBE: Limits(20, 50, 50, wait_seconds=30, slow_at_once=20),
}


class NoSlotError(Exception):
    """A request has waited for its turn for too long."""


class Budget:
    """All slots for requests to one API server."""

    def __init__(self, limits: Mapping[Lane, Limits] = LIMITS) -> None:
        self.slow_nodes = SlowNodes(self._recovered)
        self._lanes = {lane: LaneSlots(lane, limits[lane], self.slow_nodes) for lane in Lane}

    async def acquire(self, lane: Lane, node: str = "") -> Permit:
        """A slot, in the order of asking. Raises `NoSlotError`. A cancelled caller has none."""
        of = self._lanes[lane]
        waiter = of.queue(node)
        if waiter.turn.done():
            return Permit(of, waiter)
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
        return Permit(of, waiter)

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

    def busy(self, lane: Lane) -> Counter[str]:
        """Slots taken, by kind (`quick`, `slow`), and requests that wait (`waiting`)."""
        of = self._lanes[lane]
        waiting = of.quick.waiting + of.slow.waiting
        return Counter(quick=of.quick.busy, slow=of.slow.busy, waiting=waiting)

    def _recovered(self, node: str) -> None:
        for lane in self._lanes.values():
            lane.recovered(node)
