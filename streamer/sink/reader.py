"""Reading topics back: for the demo, for looking into them, and for tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, Literal, NamedTuple, Self

import aiokafka.errors as kafka_errors
from aiokafka import AIOKafkaConsumer, TopicPartition

from streamer.model.record import Headers
from streamer.sink.client import drop_consumer, guard, high_watermark, learn_topics
from streamer.sink.connection import Connection
from streamer.sink.diagnosis import diagnose
from streamer.sink.errors import KafkaUnavailable

_START_SECONDS = 12.0
_FETCH_WAIT_MS = 100
_PATIENCE_SECONDS = 5.0


class Message(NamedTuple):
    """A record as a consumer sees it."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp_ms: int

    def header(self, name: str) -> bytes | None:
        """The value of a header, None where there is none."""
        return next((value for key, value in self.headers if key == name), None)


class TopicReader:
    """Reads all partitions of some topics, in no consumer group; an asynchronous context manager.

    In order by partition. A record is seen once its transaction is committed (`isolation`). `start` may be a time in
    ms since the epoch: earlier records are left out.
    """

    def __init__(
        self,
        connection: Connection,
        topics: Sequence[str],
        *,
        start: Literal["beginning", "end"] | int = "beginning",
        isolation: Literal["read_committed", "read_uncommitted"] = "read_committed",
    ) -> None:
        self._connection = connection
        self._topics = list(topics)
        self._start = start
        self._isolation = isolation
        self._consumer: Any = None
        self._partitions: list[TopicPartition] = []

    async def open(self) -> None:
        """Connect. What is written from now on is seen, also with `start="end"`. Raises KafkaUnavailable."""
        consumer: Any = AIOKafkaConsumer(
            **self._connection.arguments("reader"),
            auto_offset_reset="earliest",
            check_crcs=self._connection.check_crcs,
            enable_auto_commit=False,
            fetch_max_wait_ms=_FETCH_WAIT_MS,
            isolation_level=self._isolation,
        )
        self._consumer = consumer
        guard(consumer._client, self._connection.credentials)  # noqa: SLF001 - its clients are all treated alike
        try:
            async with asyncio.timeout(_START_SECONDS):
                await consumer.start()
                if missing := await learn_topics(consumer._client, self._topics):  # noqa: SLF001
                    raise KafkaUnavailable(
                        f"there is no topic {', '.join(missing)}", "create it, or name another"
                    )
                self._partitions = [
                    TopicPartition(topic, partition)
                    for topic in self._topics
                    for partition in sorted(consumer.partitions_for_topic(topic))
                ]
                consumer.assign(self._partitions)
                if self._start == "end":
                    await consumer.seek_to_end()
                elif self._start != "beginning":
                    await self._seek(self._start)
                for partition in self._partitions:
                    await consumer.position(partition)
        except BaseException as error:
            await self.close()
            if isinstance(error, kafka_errors.KafkaError | TimeoutError):
                raise await diagnose(self._connection, error) from error
            raise

    async def close(self) -> None:
        """Disconnect; may be called again."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await drop_consumer(consumer)

    async def batches(self) -> AsyncIterator[list[Message]]:
        """What comes, as it comes, for ever: one list a fetch."""
        while True:
            if messages := await self._fetch():
                yield messages

    async def until_end(self, *, patience_seconds: float = _PATIENCE_SECONDS) -> AsyncIterator[Message]:
        """What is there, up to the end as it is at the call.

        A transaction whose end is not written yet is waited for, but nothing is for longer than `patience_seconds`.
        """
        client, loop = self._consumer._client, asyncio.get_running_loop()  # noqa: SLF001
        ends = {tp: await high_watermark(client, tp.topic, tp.partition) for tp in self._partitions}
        deadline, before = loop.time() + patience_seconds, -1
        while True:
            for message in await self._fetch():
                if message.offset < ends[TopicPartition(message.topic, message.partition)]:
                    yield message
            positions = {tp: await self._consumer.position(tp) for tp in self._partitions}
            if all(positions[tp] >= end for tp, end in ends.items()) or loop.time() > deadline:
                return
            if sum(positions.values()) > before:
                before, deadline = sum(positions.values()), loop.time() + patience_seconds

    async def __aiter__(self) -> AsyncIterator[Message]:
        """One record after the other, for ever."""
        async for messages in self.batches():
            for message in messages:
                yield message

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _seek(self, since_ms: int) -> None:
        """To the first record in each partition that is not earlier; to the end where there is none."""
        # The ends come first: what is written between the two questions lies behind them.
        ends = await self._consumer.end_offsets(self._partitions)
        found = await self._consumer.offsets_for_times(dict.fromkeys(self._partitions, since_ms))
        for partition, place in found.items():
            self._consumer.seek(partition, ends[partition] if place is None else place.offset)

    async def _fetch(self) -> list[Message]:
        try:
            fetched = await self._consumer.getmany(timeout_ms=_FETCH_WAIT_MS)
        except kafka_errors.KafkaError as error:
            raise await diagnose(self._connection, error) from error
        since_ms = self._start if isinstance(self._start, int) else 0  # times are alerts', not in order
        return [
            Message(m.topic, m.partition, m.offset, m.key, m.value, list(m.headers), m.timestamp)
            for messages in fetched.values()
            for m in messages
            if m.timestamp >= since_ms
        ]
