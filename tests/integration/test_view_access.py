"""The viewer has a consumer's rights and needs no others: READ on the topics that it shows."""

from __future__ import annotations

import asyncio
import time

import pytest

from streamer.config import Settings
from streamer.sink import Connection
from streamer.view.feed import Feed, FeedState
from streamer.view.store import Store
from streamer.view.viewer import topics_of
from tests.integration.test_kafka_access import make_topics, settings
from tests.testbed.secure_kafka import SecureKafka, acl

__all__ = ["settings"]

pytestmark = pytest.mark.real


async def reached(settings: Settings, state: FeedState) -> Feed:
    """A feed once it is in a state."""
    changed = asyncio.Event()
    feed = Feed(
        Connection(settings.kafka),
        topics_of(settings),
        Store(time.time_ns() // 1_000_000),
        start=time.time_ns() // 1_000_000 - 60_000,
        on_change=changed.set,
    )
    running = asyncio.create_task(feed.run())
    try:
        async with asyncio.timeout(40):
            while feed.status.state is not state:
                changed.clear()
                await changed.wait()
    finally:
        running.cancel()
        await asyncio.wait([running])
    return feed


async def test_read_on_the_topics_is_all_that_it_needs(settings: Settings, secure_kafka: SecureKafka) -> None:
    await make_topics(secure_kafka, settings)
    feed = await reached(settings, FeedState.AWAY)
    assert "there is no topic" in feed.status.why
    assert "ACLs" in feed.status.why
    secure_kafka.allow(acl("topic", topic, "READ") for topic in topics_of(settings))
    feed = await reached(settings, FeedState.LIVE)
    assert feed.status.missing == ()
