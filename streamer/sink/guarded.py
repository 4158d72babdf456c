"""aiokafka's producer behind what it needs to be safe.

Its transactions have holes, which are closed here and by how ShardProducer uses it: a producer is dropped after any
failure and never reused, every future is awaited, and a request of the transaction protocol that had to be repeated
marks the producer as tainted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Any, Final

import aiokafka.errors as kafka_errors
from aiokafka import AIOKafkaProducer
from aiokafka.protocol.transaction import AddPartitionsToTxnRequest, EndTxnRequest

from streamer.sink.client import drop, guard, learn_topics
from streamer.sink.connection import Connection
from streamer.sink.diagnosis import not_there
from streamer.sink.errors import KafkaUnavailable
from streamer.sink.packing import Batch

TRANSACTION_TIMEOUT_MS: Final = 15_000
"""A dead worker's open transaction hides the records that follow it from everybody for so long, at most."""

_SENDER_TASKS: Final = ("_send_produce_req", "_do_add_partitions_to_txn", "_do_txn_commit")


class GuardedProducer:
    """One start of one producer; transactional with an id, else idempotent."""

    def __init__(
        self,
        connection: Connection,
        role: str,
        transactional_id: str | None,
        *,
        timeout_ms: int = TRANSACTION_TIMEOUT_MS,
    ) -> None:
        arguments = connection.arguments(role)
        if transactional_id is None:
            arguments["enable_idempotence"] = True
        else:
            arguments |= {
                "transactional_id": transactional_id,
                "transaction_timeout_ms": timeout_ms,
            }
        self._kafka: Any = AIOKafkaProducer(**arguments)
        self._client: Any = self._kafka.client
        self._tasks = set[asyncio.Task[Any]]()
        self.tainted = False
        """A request that adds to or ends the transaction was lost and repeated. The first copy may still arrive,
        and would then act on the next transaction of the same producer."""
        guard(self._client, connection.credentials)
        self._client.send = self._watched(self._client.send)
        sender = self._kafka._sender  # noqa: SLF001 - see the module's docstring
        for name in _SENDER_TASKS:
            setattr(sender, name, self._tracked(getattr(sender, name)))

    async def start(self) -> None:
        """Connect and get a producer id, which fences the predecessor and ends its transaction."""
        await self._kafka.start()

    async def learn(self, topics: Iterable[str]) -> list[str]:
        """Learn topics' partitions; returns those that do not exist."""
        return await learn_topics(self._client, topics)

    def partitions(self, topics: Iterable[str]) -> dict[str, int]:
        """The partition counts of those of the topics that are known."""
        found = {topic: self._client.cluster.partitions_for_topic(topic) for topic in topics}
        return {topic: len(partitions) for topic, partitions in found.items() if partitions}

    def not_there(self, topics: Collection[str]) -> KafkaUnavailable:
        """Why topics cannot be found."""
        return not_there(self._client, topics, "WRITE")

    async def begin(self) -> None:
        """Begin a transaction; Kafka hears of it with the first batch."""
        await self._kafka.begin_transaction()

    async def send(self, batch: Batch) -> asyncio.Future[Any]:
        """Hand a batch over; the future is Kafka's acknowledgement."""
        future: asyncio.Future[Any] = await self._kafka.send_batch(
            batch.encoded, batch.topic, partition=batch.partition
        )
        future.add_done_callback(look_at)
        return future

    async def commit(self) -> None:
        """Commit. Says nothing of batches that failed: their futures do."""
        await self._kafka.commit_transaction()

    def fatal(self) -> BaseException | None:
        """What ended the producer, if it is at an end."""
        task = self._kafka._sender.sender_task  # noqa: SLF001
        return task.exception() if task is not None and task.done() and not task.cancelled() else None

    async def drop(self) -> None:
        """End it as it is, in about a second at most; what was not acknowledged may or may not arrive."""
        kafka = self._kafka
        kafka._closed = True  # noqa: SLF001 - or it would complain of having been forgotten
        task = kafka._sender.sender_task  # noqa: SLF001
        await drop(self._client, [*self._tasks, *([task] if task is not None else [])])
        # Failures that nobody will ask for any more; asyncio would report them as lost.
        transactions, batches = kafka._txn_manager, kafka._message_accumulator  # noqa: SLF001
        waiting = [batch for queue in batches._batches.values() for batch in queue]  # noqa: SLF001
        for future in (transactions._transaction_waiter, *(batch._drain_waiter for batch in waiting)):  # noqa: SLF001
            if future is not None:
                look_at(future)

    def _watched(self, send: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def watched(node_id: Any, request: Any, **group: Any) -> Any:
            try:
                return await send(node_id, request, **group)
            except kafka_errors.KafkaError:
                if isinstance(request, AddPartitionsToTxnRequest | EndTxnRequest):
                    self.tainted = True
                raise

        return watched

    def _tracked(self, work: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        """Know the tasks that aiokafka's sender starts: it loses sight of them when it ends."""

        async def tracked(*arguments: Any) -> Any:
            task = asyncio.current_task()
            assert task is not None
            self._tasks.add(task)
            task.add_done_callback(self._forget)
            return await work(*arguments)

        return tracked

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        look_at(task)


def look_at(future: asyncio.Future[Any]) -> None:
    """Take note of a failure that is dealt with elsewhere, so that asyncio does not report it as lost."""
    if future.done() and not future.cancelled():
        future.exception()
