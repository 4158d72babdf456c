"""What a read_committed consumer of the topics sees: the judge of delivery, with nothing of ours in it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from tests.schemas import check_record

PRIORITIES = ("emergency", "alert", "critical", "error", "warning", "notice", "informational", "debug")


class Oracle:
    """All records of some topics, in the order of each partition."""

    def __init__(self, consumer: Any, fields: Collection[str] = ()) -> None:
        self._consumer = consumer
        self._fields = fields
        self.records: list[Any] = []

    @property
    def alerts(self) -> int:
        """How many alerts were seen."""
        return sum(dict(record.headers).get("kind") == b"alert" for record in self.records)

    def of(self, topic: str) -> list[Any]:
        """The records of one topic."""
        return [record for record in self.records if record.topic == topic]

    async def until(self, condition: Callable[[Oracle], bool], seconds: float = 60) -> None:
        """Read until a condition holds, or until time is up: the test's own assertions say what is missing."""
        deadline = asyncio.get_running_loop().time() + seconds
        while not condition(self) and asyncio.get_running_loop().time() < deadline:
            await self._fetch(200)

    async def read_to_end(self) -> None:
        """Read all that is committed by now."""
        ends = await self._consumer.end_offsets(self._consumer.assignment())
        while any([await self._consumer.position(partition) < end for partition, end in ends.items()]):
            await self._fetch(200)

    async def _fetch(self, wait_ms: int) -> None:
        for records in (await self._consumer.getmany(timeout_ms=wait_ms)).values():
            for record in records:
                if "ce_type" in dict(record.headers):  # the state has no headers
                    check_record(record, self._fields)
            self.records += records


@asynccontextmanager
async def oracle(
    bootstrap: str, topics: Sequence[str], fields: Collection[str] = ()
) -> AsyncIterator[Oracle]:
    """Read topics, which must exist, from their beginning; `fields` are the static ones of `records.fields`."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    await consumer.start()
    try:
        partitions = []
        for topic in topics:
            found = consumer.partitions_for_topic(topic) or await _learn(consumer, topic)
            partitions += [TopicPartition(topic, partition) for partition in found]
        consumer.assign(partitions)
        yield Oracle(consumer, fields)
    finally:
        await consumer.stop()


async def _learn(consumer: Any, topic: str) -> set[int]:
    async with asyncio.timeout(30):
        while not (found := consumer.partitions_for_topic(topic)):
            consumer._client.add_topic(topic)
            await consumer._client.force_metadata_update()
    return set(found)
