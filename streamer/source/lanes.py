"""What requests to the Kubernetes API are for, and the slots of each kind."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Final

from streamer.source.slots import Slots, Waiter
from streamer.telemetry import facts

_SLOW_AT_ONCE_PER_NODE: Final = 2
_REMEMBERED_SECONDS: Final = 300.0
"""For how long a node counts as slow that nothing is asked of."""
_LEAST_PAUSE_SECONDS: Final = 0.2
_MOST_PAUSE_SECONDS: Final = 10.0
_MOST_RETRY_AFTER_SECONDS: Final = 60.0
_JITTER: Final = 0.2


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
    """A request that has waited for so long gives up."""
    slow_at_once: int = 0
    """Requests to slow nodes under way; 0 where no node is involved."""


class SlowNodes:
    """The nodes that do not answer, or answer late, as far as requests have shown lately."""

    def __init__(self, on_recovery: Callable[[str], None]) -> None:
        self._since: dict[str, float] = {}
        """When each last showed it, the oldest first."""
        self._on_recovery = on_recovery

    def __contains__(self, node: str) -> bool:
        since = self._since.get(node)
        return since is not None and asyncio.get_running_loop().time() - since <= _REMEMBERED_SECONDS

    def mark(self, node: str) -> None:
        """From now on its requests use slots of their own."""
        now = asyncio.get_running_loop().time()
        self._since.pop(node, None)
        self._since[node] = now
        while now - self._since[oldest := next(iter(self._since))] > _REMEMBERED_SECONDS:
            del self._since[oldest]
        facts.slow_nodes(len(self._since))

    def clear(self, node: str) -> None:
        """It answers as it should."""
        if self._since.pop(node, None) is not None:
            facts.slow_nodes(len(self._since))
            self._on_recovery(node)


class LaneSlots:
    """One lane: slots for requests to healthy nodes, others for those to slow ones, and when the next may go."""

    def __init__(self, lane: Lane, limits: Limits, nodes: SlowNodes) -> None:
        self.lane = lane
        self.limits = limits
        self.nodes = nodes
        self._pause_seconds = 0.0
        self.quick = Slots(limits.at_once, limits.per_second, limits.burst, divert=self._divert)
        # A rate of their own: a thousand nodes that refuse at once must not use up that of the others.
        per_second, burst = limits.per_second / 2, max(1, limits.burst // 2)
        self.slow = Slots(limits.slow_at_once, per_second, burst, per_node=_SLOW_AT_ONCE_PER_NODE)
        self.quick.counted = self.slow.counted = partial(facts.api_requests, lane, "under_way")

    def queue(self, node: str) -> Waiter:
        """Queue a request for a node, "" where none matters."""
        waiter = Waiter(node)
        if not self._divert(waiter):
            self.quick.queue(waiter)
        return waiter

    def recovered(self, node: str) -> None:
        """The requests that wait for a slow node join the others."""
        for waiter in self.slow.withdraw(node):
            self.quick.queue(waiter)

    def nodes_matter(self, node: str) -> bool:
        """Whether a request for this node may be held up by it."""
        return bool(node and self.limits.slow_at_once)

    def refused(self, retry_after_seconds: float | None) -> None:
        """The server has too much to do: the whole lane waits, for as long as it says, or longer each time."""
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
        if not self.nodes_matter(waiter.node) or waiter.node not in self.nodes:
            return False
        self.slow.queue(waiter)
        return True
