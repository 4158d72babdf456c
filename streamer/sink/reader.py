"""Reading topics back: for the demo, for looking into them, and for tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
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
    ms since the epoch: earlier records are left out. A partition that `places` names is read from the offset there.
    A broker answers within `wait_ms` where nothing comes.
    """

    def __init__(
        self,
        connection: Connection,
        topics: Sequence[str],
        *,
        start: Literal["beginning", "end"] | int = "beginning",
        isolation: Literal["read_committed", "read_uncommitted"] = "read_committed",
        places: Mapping[tuple[str, int], int] | None = None,
        wait_ms: int = _FETCH_WAIT_MS,
    ) -> None:
        self._connection = connection
        self._topics = list(topics)
        self._start = start
        self._isolation = isolation
        self._given_places = places or {}
        self._wait_ms = wait_ms
        self._consumer: Any = None
        self._partitions: list[TopicPartition] = []

    async def open(self) -> None:
        """Connect. What is written from now on is seen, also with `start="end"`. Raises KafkaUnavailable."""
        consumer: Any = AIOKafkaConsumer(
            **self._connection.arguments("reader"),
            auto_offset_reset="earliest",
            check_crcs=self._connection.check_crcs,
            enable_auto_commit=False,
            fetch_max_wait_ms=self._wait_ms,
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
                    offset = self._given_places.get((partition.topic, partition.partition))
                    if offset is not None:
                        consumer.seek(partition, offset)
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
            if messages := await self.fetch():
                yield messages

    async def until_end(self, *, patience_seconds: float = _PATIENCE_SECONDS) -> AsyncIterator[Message]:
        """What is there, up to the end as it is at the call.

        A transaction whose end is not written yet is waited for, but nothing is for longer than `patience_seconds`.
        What is read next is what follows, without a record left out.
        """
        loop, ends = asyncio.get_running_loop(), await self.ends()
        deadline, before = loop.time() + patience_seconds, -1
        while True:
            for message in await self.fetch():
                if message.offset < ends[message.topic, message.partition]:
                    yield message
            places = await self.places()
            if all(places[each] >= end for each, end in ends.items()) or loop.time() > deadline:
                for (topic, partition), end in ends.items():
                    if places[topic, partition] > end:
                        self._consumer.seek(TopicPartition(topic, partition), end)
                return
            if sum(places.values()) > before:
                before, deadline = sum(places.values()), loop.time() + patience_seconds

    async def places(self) -> dict[tuple[str, int], int]:
        """The offset of the next record, by topic and partition."""
        return {(tp.topic, tp.partition): await self._consumer.position(tp) for tp in self._partitions}

    async def ends(self) -> dict[tuple[str, int], int]:
        """The offset behind the last record, open transactions included. Raises KafkaUnavailable."""
        client = self._consumer._client  # noqa: SLF001
        try:
            return {
                (tp.topic, tp.partition): await high_watermark(client, tp.topic, tp.partition)
                for tp in self._partitions
            }
        except kafka_errors.KafkaError as error:
            raise await diagnose(self._connection, error) from error

    async def rewind(self, offsets: int) -> set[tuple[str, int]]:
        """Go to so many offsets before the end of each partition; those (topic, number) that have earlier offsets.

        An offset may hold no record: transactions end with a marker.
        """
        begins = await self._consumer.beginning_offsets(self._partitions)
        ends = await self._consumer.end_offsets(self._partitions)
        for partition, end in ends.items():
            self._consumer.seek(partition, max(begins[partition], end - offsets))
        return {(tp.topic, tp.partition) for tp, end in ends.items() if end - offsets > begins[tp]}

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

    async def fetch(self) -> list[Message]:
        """What has come, or nothing after a short wait. Raises KafkaUnavailable."""
        try:
            fetched = await self._consumer.getmany(timeout_ms=self._wait_ms)
        except kafka_errors.KafkaError as error:
            raise await diagnose(self._connection, error) from error
        since_ms = self._start if isinstance(self._start, int) else 0  # times are alerts', not in order
        return [
            Message(m.topic, m.partition, m.offset, m.key, m.value, list(m.headers), m.timestamp)
            for messages in fetched.values()
            for m in messages
            if m.timestamp >= since_ms
        ]
