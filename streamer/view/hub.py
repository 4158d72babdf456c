"""What all viewers share: the status, and an overview for each query that somebody looks at."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from streamer.view import shape
from streamer.view.feed import FeedState, FeedStatus
from streamer.view.health import ClusterHealth
from streamer.view.overview import Overview
from streamer.view.query import Query
from streamer.view.store import Store

_TICK_SECONDS: Final = 1.0
_OVERVIEW_MS: Final = 2_000
"""An overview is sent at most so often: it is the larger part of what is sent."""
_STATUS_CHANGED_MS: Final = 500
_STATUS_MS: Final = 5_000
"""Verdicts change with time alone, too; with thousands of pods they are not made for nothing."""
_TIDY_TICKS: Final = 60
MOST_VIEWERS: Final = 100


@dataclass(slots=True)
class _Shared:
    """An overview, and its JSON as it was last written."""

    overview: Overview
    version: int
    written_ms: int = 0
    body: bytes = b""
    users: int = 0
    stale: bool = True


@dataclass(eq=False, slots=True)
class Viewer:
    """Somebody who looks at the page."""

    changed: asyncio.Event = field(default_factory=asyncio.Event)


class Hub:
    """Wakes viewers when there is something to see, and makes what they see once for all of them."""

    def __init__(
        self,
        store: Store,
        feed: Callable[[], FeedStatus],
        *,
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self.store = store
        self.clock_ms = clock_ms
        self._feed = feed
        self._viewers: set[Viewer] = set()
        self._shared: dict[str, _Shared] = {}
        self._status: bytes = b""
        self._status_ms = 0
        self._status_of: tuple[int, str] = (-1, "")

    @property
    def full(self) -> bool:
        """Whether no further viewer is let in."""
        return len(self._viewers) >= MOST_VIEWERS

    def notify(self) -> None:
        """Something has changed."""
        for viewer in self._viewers:
            viewer.changed.set()

    async def run(self) -> None:
        """Let time pass, until cancelled."""
        ticks = 0
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            ticks += 1
            if ticks % _TIDY_TICKS == 0:
                self.store.advance(self.clock_ms())
            self.notify()

    @contextmanager
    def viewer(self, key: str, query: Query) -> Iterator[Viewer]:
        """Look at a query while the context lasts."""
        shared = self._shared.get(key)
        if shared is None:
            overview = self.store.overview(query, self.clock_ms())
            shared = self._shared[key] = _Shared(overview, self.store.version)
        shared.users += 1
        viewer = Viewer()
        self._viewers.add(viewer)
        try:
            yield viewer
        finally:
            self._viewers.discard(viewer)
            shared.users -= 1
            if not shared.users and self._shared.get(key) is shared:
                del self._shared[key]

    def status(self) -> bytes:
        """How the feed and each cluster stand, as JSON; the same bytes while nothing has changed."""
        feed, now_ms = self._feed(), self.clock_ms()
        of, age_ms = (self.store.health.version, repr(feed)), now_ms - self._status_ms
        if age_ms >= _STATUS_MS or (of != self._status_of and age_ms >= _STATUS_CHANGED_MS):
            self._status_of, self._status_ms = of, now_ms
            # While Kafka is away, nothing is known of the time since.
            judged_ms = feed.contact_ms if feed.state is FeedState.AWAY else now_ms
            verdicts = [] if not self.loaded else self.store.verdicts(judged_ms)
            found: dict[str, Any] = {
                "feed": feed.as_dict(),
                "verdicts": [each.as_dict() for each in verdicts],
                "counts": shape.coverage(self.store.health.clusters.values(), judged_ms)["counts"],
            }
            self._status = orjson.dumps(found)
        return self._status

    @property
    def loaded(self) -> bool:
        """Whether what was there at the start is read: before that, nothing can be judged."""
        feed = self._feed()
        return feed.share >= 1 or feed.state is FeedState.LIVE

    def overview(self, key: str) -> bytes:
        """The overview of a query that somebody looks at, as JSON; the same bytes while nothing has changed."""
        shared, now_ms = self._shared[key], self.clock_ms()
        if shared.body and now_ms - shared.written_ms < _OVERVIEW_MS:
            return shared.body
        changes = self.store.since(shared.version)
        if shared.overview.outdated or changes is None:
            shared.overview = self.store.overview(shared.overview.query, now_ms)
            shared.stale = True
        else:
            for change in changes:
                self.store.add_to(shared.overview, change)
                shared.stale = True
        shared.version = self.store.version
        before_s = shared.overview.start_s
        shared.overview.advance(now_ms // 1000)
        if shared.stale or shared.overview.start_s != before_s or not shared.body:
            shared.body = self._written(shared.overview)
            shared.written_ms = now_ms
            shared.stale = False
        return shared.body

    def written(self, query: Query) -> bytes:
        """The overview of any query, as JSON."""
        return self._written(self.store.overview(query, self.clock_ms()))

    def coverage(self) -> bytes:
        """The Falco pods, as JSON."""
        feed = self._feed()
        judged_ms = feed.contact_ms if feed.state is FeedState.AWAY else self.clock_ms()
        return orjson.dumps(shape.coverage(self.store.health.clusters.values(), judged_ms))

    def _written(self, overview: Overview) -> bytes:
        query = overview.query
        end_s = overview.start_s + overview.span.seconds
        sizes = self.store.sizes()
        since_ms = sizes["counted_since_ms"] if query.of_series else sizes["kept_since_ms"]
        marks = shape.marks(self._clusters(query), overview.start_s * 1000, end_s * 1000)
        content = {**overview.as_dict(), "marks": marks, "of_all": query.of_series, "since_ms": since_ms}
        return orjson.dumps(content | {"sizes": sizes})

    def _clusters(self, query: Query) -> list[ClusterHealth]:
        wanted = dict(query.wanted).get("cluster")
        unwanted = dict(query.unwanted).get("cluster", frozenset())
        return [
            health
            for name, health in self.store.health.clusters.items()
            if (wanted is None or name in wanted) and name not in unwanted
        ]
