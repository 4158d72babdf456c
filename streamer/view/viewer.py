"""The composition root: store, feed, hub and server, and the tasks that are theirs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Literal

from streamer.config import Settings
from streamer.config.naming import TopicNames
from streamer.sink import Connection
from streamer.view.access import Access
from streamer.view.feed import Feed
from streamer.view.hub import Hub
from streamer.view.server import Tls, ViewServer
from streamer.view.store import Store

_CLASSES: Final = frozenset({"alerts", "summaries", "overflow", "health"})
_DAY_SECONDS: Final = 86_400


@dataclass(frozen=True, slots=True)
class Listen:
    """Where the page is served, and to whom."""

    access: Access
    host: str = "127.0.0.1"
    port: int = 0
    tls: Tls | None = None


def topics_of(settings: Settings, clusters: Iterable[str] = ()) -> list[str]:
    """The topics to read: those of the settings, with each of the clusters in their names."""
    names: dict[str, None] = {}
    for cluster in clusters or (settings.cluster,):
        routes = [route.topic for route in settings.routes]
        for name, kind in TopicNames(settings.topics, cluster, routes).all_topics().items():
            if kind in _CLASSES:
                names[name] = None
    return list(names)


@asynccontextmanager
async def viewing(
    connection: Connection,
    topics: Sequence[str],
    listen: Listen,
    *,
    start: Literal["beginning"] | int,
    isolation: Literal["read_committed", "read_uncommitted"] = "read_committed",
) -> AsyncIterator[str]:
    """Read the topics and serve the page while the context lasts; gives its URL.

    `start` is a time in ms since the epoch, or the beginning of what Kafka has. Counts are kept for a day, or since
    `start` where that is longer ago. Raises `ViewListenError` and `AccessError`; Kafka need not be there.
    """
    now_ms = time.time_ns() // 1_000_000
    since_ms = now_ms if start == "beginning" else start
    store = Store(now_ms, keep_seconds=max(_DAY_SECONDS, (now_ms - since_ms) // 1000 + 60))
    hub: Hub | None = None

    def changed() -> None:
        if hub is not None:
            hub.notify()

    feed = Feed(connection, topics, store, start=start, on_change=changed, isolation=isolation)
    hub = Hub(store, lambda: feed.status)
    server = ViewServer(hub, listen.access, host=listen.host, port=listen.port, tls=listen.tls)
    async with server.serving() as url, asyncio.TaskGroup() as tasks:
        working = [
            tasks.create_task(feed.run(), name="view feed"),
            tasks.create_task(hub.run(), name="view hub"),
        ]
        try:
            yield url
        finally:
            for task in working:
                task.cancel()
