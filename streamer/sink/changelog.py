"""Reading a shard's state back: its partition of the state topic, from the first record to the last committed."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition

from streamer.sink.client import drop_consumer, guard, high_watermark, learn_topics
from streamer.sink.connection import Connection
from streamer.sink.diagnosis import not_there
from streamer.sink.errors import KafkaUnavailable, StateBlocked

PATIENCE_SECONDS: Final = 30.0
"""How long a load may stand still. Longer than any transaction of ours lives (15 s, and the broker looks for those
that are over every 10 s), so that who waits longer waits for somebody else's."""

_FETCH_WAIT_MS: Final = 50
_NEAR: Final = 1_000
_FETCH_BYTES: Final = 4_194_304


async def load_changelog(
    connection: Connection, topic: str, partition: int, *, patience_seconds: float = PATIENCE_SECONDS
) -> dict[str, bytes]:
    """The live keys of a compacted partition: the last value of each, without those whose last was a tombstone.

    To be called after the producer's start, which ends the predecessor's transaction: then everything committed
    lies below the high watermark. Raises StateBlocked where it cannot be reached, KafkaError and TimeoutError.
    """
    consumer: Any = AIOKafkaConsumer(
        **connection.arguments(f"load-{partition}"),
        auto_offset_reset="earliest",
        check_crcs=connection.check_crcs,
        enable_auto_commit=False,
        fetch_max_wait_ms=_FETCH_WAIT_MS,
        isolation_level="read_committed",
        max_partition_fetch_bytes=_FETCH_BYTES,
    )
    guard(consumer._client, connection.credentials)  # noqa: SLF001 - its clients are all treated alike
    try:
        async with asyncio.timeout(patience_seconds):
            await consumer.start()
            if missing := await learn_topics(consumer._client, [topic]):  # noqa: SLF001
                raise not_there(consumer._client, missing, "READ and WRITE")  # noqa: SLF001
            if partition not in consumer.partitions_for_topic(topic):
                raise KafkaUnavailable(
                    f"topic {topic} has no partition {partition}", "it must have kafka.shards partitions"
                )
            end = await high_watermark(consumer._client, topic, partition)  # noqa: SLF001
        return await _read(consumer, TopicPartition(topic, partition), end, patience_seconds)
    finally:
        await drop_consumer(consumer)


async def find_late(
    connection: Connection, topic: str, key: str, *, patience_seconds: float = 3.0
) -> bytes | None:
    """A late value of this key, of whichever partition; None where there is none, or none in time. Raises KafkaError.

    It waits for nobody's transaction: what it finds may belong to one that is not committed, or never will be.
    """
    consumer: Any = AIOKafkaConsumer(
        **connection.arguments("glance"),
        auto_offset_reset="earliest",
        check_crcs=connection.check_crcs,
        enable_auto_commit=False,
        fetch_max_wait_ms=_FETCH_WAIT_MS,
    )
    guard(consumer._client, connection.credentials)  # noqa: SLF001 - its clients are all treated alike
    try:
        async with asyncio.timeout(patience_seconds):
            await consumer.start()
            await learn_topics(consumer._client, [topic])  # noqa: SLF001
            for partition in sorted(consumer.partitions_for_topic(topic) or ()):
                end = await high_watermark(consumer._client, topic, partition)  # noqa: SLF001
                if end and (found := await _last(consumer, TopicPartition(topic, partition), end, key)):
                    return found
    except TimeoutError:
        return None
    finally:
        await drop_consumer(consumer)
    return None


async def _last(consumer: Any, tp: TopicPartition, end: int, key: str) -> bytes | None:
    """The last value of a key, if it is near the partition's end."""
    last: bytes | None = None
    consumer.assign([tp])
    consumer.seek(tp, max(0, end - _NEAR))
    while await consumer.position(tp) < end:
        for message in (await consumer.getmany(tp, timeout_ms=_FETCH_WAIT_MS)).get(tp, ()):
            if message.key == key.encode() and message.value is not None:
                last = message.value
    return last


async def _read(consumer: Any, tp: TopicPartition, end: int, patience_seconds: float) -> dict[str, bytes]:
    live: dict[str, bytes] = {}
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience_seconds
    consumer.assign([tp])
    reached = 0
    while True:
        async with asyncio.timeout_at(deadline):
            # The position, not the last record's offset: commit markers have offsets too, and come last.
            position = await consumer.position(tp)
        if position >= end:
            return live
        if position > reached:
            reached, deadline = position, loop.time() + patience_seconds
        elif loop.time() >= deadline:
            raise StateBlocked(
                f"topic {tp.topic}, partition {tp.partition} cannot be read beyond offset {position} of {end}: another "
                "producer's transaction is open in it; see `kafka-transactions.sh describe-producers --topic "
                f"{tp.topic} --partition {tp.partition}`"
            )
        fetched = await consumer.getmany(tp, timeout_ms=_FETCH_WAIT_MS)
        for message in fetched.get(tp, ()):
            key = (message.key or b"").decode(errors="surrogateescape")
            if message.value is None:
                live.pop(key, None)
            else:
                live[key] = message.value
