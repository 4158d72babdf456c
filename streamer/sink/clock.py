"""The brokers' clock, as the end of the last transaction shows it.

A commit's marker has the time of the broker that wrote it, and the changes of state before it that of the worker: the
two were written within one transaction. So nothing has to be written to compare them.
"""

from __future__ import annotations

from typing import Any, Final

from aiokafka import TopicPartition
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.record.memory_records import MemoryRecords

from streamer.config import Settings
from streamer.model import Finding, Verdict
from streamer.sink.admin import admin
from streamer.sink.client import high_watermark, learn_topics
from streamer.sink.connection import Connection

_AHEAD_MS: Final = 2_000
_BEHIND_MS: Final = 15_000
"""A transaction takes 12 s at the most: only what is more is the clocks'."""
_FETCH_BYTES: Final = 1_048_576
_READ_UNCOMMITTED: Final = 0


async def examine_clock(connection: Connection, settings: Settings) -> Finding | None:
    """How the worker's clock differs from the brokers'; None where no transaction was committed yet.

    Raises KafkaUnavailable.
    """
    topic = settings.topic_names.state
    apart: list[int] = []
    async with admin(connection) as asked:
        if await learn_topics(asked.client, [topic], patience_seconds=1.0):
            return None
        for partition in asked.client.cluster.partitions_for_topic(topic):
            end = await high_watermark(asked.client, topic, partition)
            if end >= 2:
                apart += await _apart_ms(asked.client, topic, partition, end)
    if not apart:
        return None
    worst = max(apart, key=abs)
    if -_AHEAD_MS <= worst <= _BEHIND_MS:
        return Finding("clock.kafka", Verdict.FINE, "the worker's clock is that of the brokers")
    direction = "behind" if worst > 0 else "ahead of"
    return Finding(
        "clock.kafka",
        Verdict.FAULT,
        f"the worker's clock was {abs(worst) / 1000:.0f} s {direction} the brokers' at its last commit",
        "synchronise the clocks (NTP): Kafka refuses records that are too far in the future",
    )


async def _apart_ms(client: Any, topic: str, partition: int, end: int) -> list[int]:
    """The marker's time less that of the records before it; nothing where the partition does not end with a marker."""
    leader = client.cluster.leader_for_partition(TopicPartition(topic, partition))
    request = FetchRequest(
        100, 1, _FETCH_BYTES, _READ_UNCOMMITTED, [(topic, [(partition, end - 2, _FETCH_BYTES)])]
    )
    answer = await client.send(leader, request)
    [(_, [found])] = answer.topics
    batches = MemoryRecords(found[-1])
    written_ms: int | None = None
    apart: list[int] = []
    while (batch := batches.next_batch()) is not None:
        if not batch.is_control_batch:
            written_ms = batch.max_timestamp
        elif written_ms is not None:
            apart.append(next(iter(batch)).timestamp - written_ms)
    return apart
