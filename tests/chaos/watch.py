"""Looks on while the run lasts: how far each target is. It decides when to go on, not whether all is right."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import orjson
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from tests.chaos.load import Journal


class Watch:
    """What a read_committed consumer has seen: the newest line of each target, and who was seen out."""

    def __init__(self, journal: Journal, state_topic: str) -> None:
        self._journal = journal
        self._state_topic = state_topic
        self.done: set[str] = set()
        """Targets that the committed state calls read to their end, or knows no more."""
        self.newest_ns: dict[str, int] = {}
        self.seen: set[bytes] = set()

    async def run(self, consumer: Any) -> None:
        while True:
            try:
                found = await consumer.getmany(timeout_ms=100)
            except KafkaError:
                await asyncio.sleep(0.5)
                continue
            for records in found.values():
                for record in records:
                    if record.topic == self._state_topic:
                        self._position(record.key, record.value)
                        continue
                    if (line := self._journal.by_body.get(record.value)) is None:
                        continue  # the judge will say so
                    self.seen.add(line.body)
                    self.newest_ns[line.uid] = max(line.at_ns, self.newest_ns.get(line.uid, 0))

    def _position(self, key: bytes, value: bytes | None) -> None:
        kind, *target = key.split(b"/")
        if kind == b"position" and (value is None or orjson.loads(value)["status"] == "done"):
            self.done.add(target[2].decode())


@asynccontextmanager
async def watching(
    bootstrap: str, topics: Sequence[str], state_topic: str, journal: Journal
) -> AsyncIterator[Watch]:
    """Read alert topics and the state from their beginning while the context lasts."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        retry_backoff_ms=500,
    )
    # Kafka is away at times, which is expected here; and the consumer says so hundreds of times a second.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    await consumer.start()
    watch = Watch(journal, state_topic)
    task: asyncio.Task[None] | None = None
    try:
        consumer.assign(
            [
                TopicPartition(topic, partition)
                for topic in [*topics, state_topic]
                for partition in await _partitions(consumer, topic)
            ]
        )
        task = asyncio.create_task(watch.run(consumer))
        yield watch
    finally:
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await consumer.stop()


async def _partitions(consumer: Any, topic: str) -> set[int]:
    async with asyncio.timeout(30):
        while not (found := consumer.partitions_for_topic(topic)):
            await consumer._client.force_metadata_update()
    return set(found)
