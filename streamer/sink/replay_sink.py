"""Where a replay's records go: Kafka, standard output or nowhere.

A replay has no shard: no state topic, no transactions, no transactional id of the live worker's.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import BinaryIO, Protocol

import aiokafka.errors as kafka_errors

from streamer.config import Settings
from streamer.flow.publishing import PublishFailed
from streamer.model import Publication, Record
from streamer.sink.connection import Connection
from streamer.sink.delivery import Delivery
from streamer.sink.diagnosis import diagnose
from streamer.sink.guarded import GuardedProducer
from streamer.sink.packing import Packer, TopicLimits
from streamer.sink.producer import OPERATION_SECONDS
from streamer.sink.topics import prepare_topics


def _value(record: Record) -> bytes:
    return record.value


class ReplaySink(Protocol):
    """Takes publications; their changes of state are not kept."""

    async def publish(self, publication: Publication) -> None:
        """Publish the records. Raises SinkError, and OSError where standard output is closed."""
        ...


@asynccontextmanager
async def replay_sink(
    to: str, settings: Settings, encode: Callable[[Record], bytes] = _value
) -> AsyncIterator[ReplaySink]:
    """The sink of `replay --to`: kafka, stdout or null; `encode` makes a line of stdout.

    Raises KafkaUnavailable, TopicsUnfit.
    """
    if to != "kafka":
        yield StdoutSink(sys.stdout.buffer, encode) if to == "stdout" else NullSink()
        return
    connection = Connection(settings.kafka)
    limits = await prepare_topics(connection, settings, state=False)
    sink = KafkaSink(connection, limits)
    try:
        await sink.open()
        yield sink
    finally:
        await sink.close()


class NullSink:
    """Counts records and forgets them."""

    def __init__(self) -> None:
        self.records = 0

    async def publish(self, publication: Publication) -> None:
        """Count."""
        self.records += len(publication.records)


class StdoutSink:
    """Prints the records, one a line."""

    def __init__(self, out: BinaryIO, encode: Callable[[Record], bytes] = _value) -> None:
        self._out = out
        self._encode = encode

    async def publish(self, publication: Publication) -> None:
        """Print; a value has no newline of its own."""
        if publication.records:
            self._out.write(b"".join(self._encode(record) + b"\n" for record in publication.records))
            self._out.flush()


class KafkaSink:
    """Publishes by an idempotent producer: no record twice and none lost while it lives."""

    def __init__(self, connection: Connection, limits: dict[str, TopicLimits]) -> None:
        self._connection = connection
        self._limits = limits
        self._packer = Packer(compression=connection.compression, transactional=False)
        self._producer: GuardedProducer | None = None

    async def open(self) -> None:
        """Connect. Raises KafkaUnavailable."""
        self._producer = GuardedProducer(self._connection, "replay", None)
        try:
            async with asyncio.timeout(OPERATION_SECONDS):
                await self._producer.start()
        except (kafka_errors.KafkaError, TimeoutError) as error:
            raise await diagnose(self._connection, error) from error

    async def close(self) -> None:
        """Disconnect; what was published is acknowledged already."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.drop()

    async def publish(self, publication: Publication) -> None:
        """Publish and wait for every acknowledgement. Raises RecordsRefused, PublishFailed."""
        producer = self._producer
        assert producer is not None, "opened before"
        topics = {record.topic for record in publication.records}
        delivery = Delivery(producer)
        try:
            async with asyncio.timeout(OPERATION_SECONDS):
                if await producer.learn(topics):
                    raise PublishFailed("a topic is missing that was there at the start")
                lanes = self._packer.pack(
                    publication.records,
                    producer.partitions(topics),
                    limits=self._limits,
                    now_ms=time.time_ns() // 1_000_000,
                )
                done = await delivery.run(lanes)
        except TimeoutError:
            raise PublishFailed(f"no acknowledgement of {delivery.unacknowledged()} in time") from None
        except kafka_errors.KafkaError as error:
            raise PublishFailed(str(error)) from error
        if not done:
            batch, failure = delivery.failures[0]
            raise PublishFailed(f"{batch.topic}/{batch.partition} was not written: {failure}") from failure
