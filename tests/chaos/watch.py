"""Looks on while the run lasts: how far each target has arrived. It decides when to go on, not whether all is right."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from tests.chaos.load import Journal


class Watch:
    """The newest line of each target that a read_committed consumer has seen, and how many records."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
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
                    if (line := self._journal.by_body.get(record.value)) is None:
                        continue  # the judge will say so
                    self.seen.add(line.body)
                    self.newest_ns[line.uid] = max(line.at_ns, self.newest_ns.get(line.uid, 0))


@asynccontextmanager
async def watching(bootstrap: str, topics: Sequence[str], journal: Journal) -> AsyncIterator[Watch]:
    """Read alert topics from their beginning while the context lasts."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        retry_backoff_ms=500,
    )
    # Kafka is away at times, which is no news here; and the consumer says so hundreds of times a second.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    await consumer.start()
    watch = Watch(journal)
    try:
        consumer.assign([TopicPartition(topic, partition) for topic in topics for partition in range(2)])
        task = asyncio.create_task(watch.run(consumer))
        yield watch
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    finally:
        await consumer.stop()
