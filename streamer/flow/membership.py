"""The contract between a worker and the group of workers that share the shards."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Final, Protocol

_TURN_SECONDS: Final = 10.0


class Membership(Protocol):
    """A worker's place in the group. What it says may be old news: only fencing keeps two owners apart."""

    @property
    def assigned(self) -> frozenset[int] | None:
        """The shards that were ours at the last word of the group; None before the first."""
        ...

    @property
    def trouble(self) -> str:
        """What keeps us out of the group; "" if nothing does."""
        ...

    async def run(self) -> None:
        """Be a member until cancelled, then leave. Never ends by itself, never hangs."""
        ...

    def assignments(self) -> AsyncIterator[frozenset[int]]:
        """The shards that are ours, each time the group has divided them; an iterator that is late misses some."""
        ...

    async def confirmed(self) -> None:
        """Return once the group, asked from now on, has confirmed that what is assigned to us still is."""
        ...


class Alone:
    """Owns every shard: for a broker that knows no groups worth the name, and for one worker only."""

    def __init__(self, shards: int) -> None:
        self.assigned: frozenset[int] | None = frozenset(range(shards))
        self.trouble = ""

    async def run(self) -> None:
        """Do nothing; there is nobody to agree with."""
        await asyncio.Event().wait()

    async def assignments(self) -> AsyncIterator[frozenset[int]]:
        """All, once. Never ends."""
        assert self.assigned is not None
        yield self.assigned
        await asyncio.Event().wait()

    async def confirmed(self) -> None:
        """It is not known, so give the other members a turn."""
        await asyncio.sleep(_TURN_SECONDS * random.uniform(0.1, 1.0))
