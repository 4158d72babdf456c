"""Moving the whole state to another topic, in one transaction, with all its owners locked out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import aiokafka.errors as kafka_errors

from streamer.flow.failure import one_line
from streamer.flow.publishing import PublishFailed
from streamer.model import Change
from streamer.sink.connection import Connection
from streamer.sink.delivery import Delivery
from streamer.sink.diagnosis import why_not_opened
from streamer.sink.errors import KafkaUnavailable, SinkError
from streamer.sink.group_lock import lock_workers_out
from streamer.sink.guarded import GuardedProducer
from streamer.sink.packing import MAX_BATCH_BYTES, Batch, Packer, TopicLimits
from streamer.sink.permissions import transactional_id
from streamer.sink.state_topic import Stored, count_shards, read_state

_START_SECONDS: Final = 12.0
_TRANSACTION_SECONDS: Final = 60.0
"""A state of hundreds of megabytes takes longer than a worker's transaction may."""
_MARGIN_SECONDS: Final = 5.0

Written = Mapping[str, Mapping[int, Sequence[Change]]]
"""Changes by topic and partition."""


async def move_state(
    connection: Connection,
    cluster: str,
    source: str,
    destination: str,
    limits: Mapping[str, TopicLimits],
    move: Callable[[Stored, Stored], Written],
) -> None:
    """Write what `move` makes of two topics' states, all of it or nothing.

    The group of workers is held. Then every shard's `transactional.id` is taken, so that an owner that is frozen can
    commit nothing any more, and only then the states are read. The transaction is that of the first shard's owner: a
    worker that should come nevertheless ends it. Raises WorkersRunning, KafkaUnavailable, PublishFailed (then it is
    done or not), and what `move` raises.
    """
    async with lock_workers_out(connection, cluster) as lock:
        shards = [await count_shards(connection, topic) for topic in (source, destination)]
        for shard in range(1, max(shards)):
            await (await _owner(connection, cluster, shard)).drop()
        first = await _owner(connection, cluster, 0)
        try:
            stored, there = await read_state(connection, source), await read_state(connection, destination)
            # In a thread: a large state takes seconds, in which the group wants to hear from us.
            written = await asyncio.to_thread(move, stored, there)
            lanes = await asyncio.to_thread(_pack, connection, written, limits)
            await first.learn([source, destination])
            await lock.check()
            await _write(first, lanes)
        finally:
            await first.drop()


async def _owner(connection: Connection, cluster: str, shard: int) -> GuardedProducer:
    """Become the owner of a shard: the one before is fenced, and its transaction ended."""
    name = transactional_id(cluster, shard)
    milliseconds = int(_TRANSACTION_SECONDS * 1000)
    producer = GuardedProducer(connection, f"reshard-{shard}", name, timeout_ms=milliseconds)
    try:
        async with asyncio.timeout(_START_SECONDS):
            await producer.start()
    except BaseException as error:
        await producer.drop()
        if isinstance(error, kafka_errors.InvalidTransactionTimeout):
            raise KafkaUnavailable(
                f"the brokers allow no transaction of {_TRANSACTION_SECONDS:.0f} s",
                "raise transaction.max.timeout.ms",
            ) from error
        if isinstance(error, Exception) and not isinstance(error, SinkError):
            raise await why_not_opened(connection, name, error) from error
        raise
    return producer


def _pack(connection: Connection, written: Written, limits: Mapping[str, TopicLimits]) -> list[list[Batch]]:
    packer = Packer(compression=connection.compression, transactional=True)
    now_ms = time.time_ns() // 1_000_000
    lanes = []
    for topic, shards in written.items():
        known = limits.get(topic)
        limit = MAX_BATCH_BYTES if known is None else min(MAX_BATCH_BYTES, known.max_message_bytes)
        lanes += [
            packer.pack_changes(changes, topic, shard, limit=limit, now_ms=now_ms)
            for shard, changes in shards.items()
        ]
    return lanes


async def _write(producer: GuardedProducer, lanes: list[list[Batch]]) -> None:
    delivery = Delivery(producer)
    try:
        async with asyncio.timeout(_TRANSACTION_SECONDS - _MARGIN_SECONDS):
            await producer.begin()
            if not await delivery.run(lanes):
                cause = one_line(delivery.failures[0][1]) if delivery.failures else "no acknowledgement"
                raise PublishFailed(
                    f"nothing was moved: {delivery.unacknowledged()} was not written: {cause}"
                )
            await producer.commit()
    except (kafka_errors.KafkaError, TimeoutError) as error:
        what = "no answer in time" if isinstance(error, TimeoutError) else one_line(error)
        raise PublishFailed(
            f"it is not known whether the state was moved: {what}; `falco-streamer state show` shows it"
        ) from error
