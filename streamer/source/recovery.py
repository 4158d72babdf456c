"""The end of an outage is noticed by one target of a node and wakes all the others that wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

_LEADER_SECONDS: Final = 1.0
_A_MOMENT_SECONDS: Final = 0.01
"""A timer may be so much too early."""


class NodeRecovery:
    """One node, as the followers of its pods see it."""

    def __init__(self) -> None:
        self._clock = asyncio.get_running_loop().time
        self._waiting: dict[str, Callable[[], None]] = {}
        self._failing_since: float | None = None
        self._led_until = float("-inf")
        """Until then somebody waits who tries again soon."""

    def succeeded(self) -> None:
        """A log of this node was served: wake those that wait for it."""
        self._failing_since = None
        for wake in self._waiting.values():
            wake()

    def failed(self) -> None:
        """A log of this node could not be read."""
        if self._failing_since is None:
            self._failing_since = self._clock()

    @contextmanager
    def waiting(
        self, identity: str, wake: Callable[[], None], seconds: float, outage_seconds: float
    ) -> Iterator[float]:
        """While inside, a success wakes. Gives how long to wait.

        That is `seconds`, but at most a second for one of those that wait, while the outage lasts for less than
        `outage_seconds`. Who is back after its try may be that one again, whoever waits meanwhile.
        """
        now = self._clock()
        failing_seconds = 0.0 if self._failing_since is None else now - self._failing_since
        if now >= self._led_until - _A_MOMENT_SECONDS and failing_seconds < outage_seconds:
            seconds = min(seconds, _LEADER_SECONDS)
            self._led_until = now + seconds
        self._waiting[identity] = wake
        try:
            yield seconds
        finally:
            self._waiting.pop(identity, None)


class Recovery:
    """All nodes."""

    def __init__(self) -> None:
        self._nodes: dict[str, NodeRecovery] = {}

    def of(self, node: str) -> NodeRecovery:
        """A node's."""
        if node not in self._nodes:
            self._nodes[node] = NodeRecovery()
        return self._nodes[node]
