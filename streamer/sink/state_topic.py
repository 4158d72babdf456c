"""The state topic as a whole: what each of its partitions holds."""

from __future__ import annotations

import asyncio
from typing import Final

import aiokafka.errors as kafka_errors

from streamer.sink.admin import admin
from streamer.sink.changelog import find_late, load_changelog
from streamer.sink.connection import Connection
from streamer.sink.diagnosis import HOW_TO_GRANT, diagnose
from streamer.sink.errors import KafkaUnavailable

Stored = dict[int, dict[str, bytes]]
"""The live keys of each shard with their values."""

_AT_ONCE: Final = 8


async def count_shards(connection: Connection, topic: str) -> int:
    """How many partitions the state topic has. Raises KafkaUnavailable."""
    async with admin(connection) as asked:
        partitions = (await asked.partitions([topic])).get(topic, 0)
    if partitions is None:
        raise KafkaUnavailable(
            f"we may not use the topic {topic}, or it is missing",
            f"grant READ on it: {HOW_TO_GRANT}",
        )
    if not partitions:
        raise KafkaUnavailable(f"there is no topic {topic}", "check `cluster` and `topics.state`")
    return partitions


async def read_state(connection: Connection, topic: str) -> Stored:
    """What every shard has stored, as it is committed now; nobody is disturbed.

    A transaction that is open waits for its end, or for the broker's (25 s). Raises KafkaUnavailable, StateBlocked.
    """
    partitions = await count_shards(connection, topic)
    turns = asyncio.Semaphore(_AT_ONCE)

    async def read(partition: int) -> dict[str, bytes]:
        async with turns:
            return await load_changelog(connection, topic, partition)

    try:
        async with asyncio.TaskGroup() as tasks:
            reading = [tasks.create_task(read(partition)) for partition in range(partitions)]
    except ExceptionGroup as failed:
        error = failed.exceptions[0]
        if isinstance(error, kafka_errors.KafkaError | TimeoutError):
            raise await diagnose(connection, error) from error
        raise error from None
    return {partition: task.result() for partition, task in enumerate(reading)}


async def glance(connection: Connection, topic: str, key: str) -> bytes | None:
    """A late value of this key, of whichever shard has one, committed or not; None where none is found at once.

    Raises KafkaUnavailable.
    """
    try:
        return await find_late(connection, topic, key)
    except kafka_errors.KafkaError as error:
        raise await diagnose(connection, error) from error
