"""Reads the topics into the store: from some time on, with progress, then what comes; failures are retried."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Literal

import structlog

from streamer.flow.failure import one_line
from streamer.sink import Connection, KafkaUnavailable, Message, TopicReader
from streamer.sink.admin import admin
from streamer.view.store import Store

_LOOK_SECONDS: Final = 5.0
"""How often it is looked whether Kafka is there, and whether there are new topics or partitions."""
_AGAIN_SECONDS: Final = 2.0
_WAIT_MS: Final = 500
_PAUSE_SECONDS: Final = 0.2
"""Between two looks at what came: records of many partitions are taken together."""
_PATIENCE_SECONDS: Final = 5.0
"""For a transaction whose end is not written yet, before what is there counts as read."""

log = structlog.get_logger()


class FeedState(StrEnum):
    """What the feed is at."""

    CONNECTING = "connecting"
    LOADING = "loading"  # reads what was there when it began
    LIVE = "live"  # reads what is written, as it is written
    AWAY = "away"  # Kafka cannot be reached, or does not serve


@dataclass(slots=True)
class FeedStatus:
    """How the feed stands."""

    state: FeedState = FeedState.CONNECTING
    why: str = ""
    """Why it is away, with the fix."""
    contact_ms: int = 0
    """When Kafka was there last; 0 if it never was."""
    share: float = 0.0
    """How much is read of what was there at the start, from 0 to 1."""
    missing: tuple[str, ...] = ()
    """Topics that are not there, or not for us to see."""

    def as_dict(self) -> dict[str, Any]:
        """As the page gets it."""
        return {
            "state": self.state,
            "why": self.why,
            "contact_ms": self.contact_ms or None,
            "share": round(self.share, 3),
            "missing": list(self.missing),
        }


class Feed:
    """One consumer of all topics, in no group.

    `on_change` is called after records were taken and when the status changes. Between connections it goes on where it
    was, by partition: nothing is left out and nothing is taken twice.
    """

    def __init__(
        self,
        connection: Connection,
        topics: Sequence[str],
        store: Store,
        *,
        start: Literal["beginning"] | int,
        on_change: Callable[[], None],
        isolation: Literal["read_committed", "read_uncommitted"] = "read_committed",
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self.status = FeedStatus()
        self._connection = connection
        self._topics = list(topics)
        self._store = store
        self._start: Literal["beginning"] | int = start
        self._on_change = on_change
        self._isolation = isolation
        self._clock_ms = clock_ms
        self._places: dict[tuple[str, int], int] = {}
        self._loaded = False

    async def run(self) -> None:
        """Read, until cancelled."""
        while True:
            try:
                await self._read()
            except KafkaUnavailable as error:
                self._away(error)
                await asyncio.sleep(_AGAIN_SECONDS)

    async def _read(self) -> None:
        """Read with one connection, until there are other topics or partitions. Raises KafkaUnavailable."""
        partitions = await self._partitions()
        if not partitions:
            raise KafkaUnavailable(
                f"there is no topic {self._topics[0]}, nor any other of {len(self._topics)}",
                "check topics.prefix and the topics' ACLs; `falco-streamer topics create` makes them",
            )
        reader = TopicReader(
            self._connection,
            list(partitions),
            start=self._start,
            isolation=self._isolation,
            places=self._places,
            wait_ms=_WAIT_MS,
        )
        async with reader:
            self._places = {**self._places, **await reader.places()}
            watching = asyncio.create_task(self._watch(partitions), name="view watch")
            try:
                if not self._loaded:
                    await self._load(reader)
                self._reached()
                while not watching.done():
                    self._take(await reader.fetch(), live=self.status.state is FeedState.LIVE)
                    await asyncio.sleep(_PAUSE_SECONDS)
            finally:
                watching.cancel()

    async def _load(self, reader: TopicReader) -> None:
        """Read what was there at the start."""
        begins, ends = await reader.places(), await reader.ends()
        total = sum(max(0, end - begins[each]) for each, end in ends.items())
        loop = asyncio.get_running_loop()
        deadline, before = loop.time() + _PATIENCE_SECONDS, -1
        while True:
            places = await reader.places()
            left = sum(max(0, end - places[each]) for each, end in ends.items())
            self._set(FeedState.LOADING, share=1 - left / total if total else 1.0)
            if not left or loop.time() > deadline:
                break
            if sum(places.values()) > before:
                before, deadline = sum(places.values()), loop.time() + _PATIENCE_SECONDS
            self._take(await reader.fetch(), live=False)
        self._loaded = True

    def _take(self, messages: list[Message], *, live: bool) -> None:
        if not messages:
            return
        now_ms = self._clock_ms()
        for message in messages:
            try:
                self._store.note([message], now_ms, live=live)
            except Exception as error:  # one record must not keep the others from being seen
                place = f"{message.topic}/{message.partition}/{message.offset}"
                log.error("record_not_shown", record=place, cause=one_line(error))
            self._places[message.topic, message.partition] = message.offset + 1
        self._on_change()

    async def _watch(self, before: dict[str, int]) -> None:
        """Look whether Kafka is there; returns when there are other topics or partitions."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            try:
                partitions = await self._partitions()
            except KafkaUnavailable as error:
                self._away(error)
                continue
            self._reached()
            if partitions != before and partitions:
                return

    async def _partitions(self) -> dict[str, int]:
        """How many partitions those of the topics have that exist."""
        async with admin(self._connection) as asked:
            found = await asked.partitions(self._topics)
        there = {topic: count for topic, count in found.items() if count is not None}
        self.status.missing = tuple(topic for topic in self._topics if topic not in there)
        return there

    def _reached(self) -> None:
        self.status.contact_ms = self._clock_ms()
        self._set(FeedState.LIVE if self._loaded else FeedState.LOADING)

    def _away(self, error: KafkaUnavailable) -> None:
        if self.status.state is not FeedState.AWAY:
            log.warning("kafka_away", cause=error.cause, fix=error.fix)
        self._set(FeedState.AWAY, why=str(error))

    def _set(self, state: FeedState, *, why: str = "", share: float | None = None) -> None:
        if self.status.state is FeedState.AWAY and state is FeedState.LIVE:
            log.info("kafka_back")
        changed = (state, why) != (self.status.state, self.status.why)
        self.status.state, self.status.why = state, why
        if share is not None:
            changed = changed or share != self.status.share
            self.status.share = share
        if changed:
            self._on_change()
