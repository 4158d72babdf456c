"""A shard's producer: its alerts and the changes of its state in one transaction."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable, MutableMapping
from typing import Final, NoReturn

import aiokafka.errors as kafka_errors

from streamer.flow.failure import one_line
from streamer.flow.publishing import BatchRefused, Fenced, PublishFailed, RecordsRefused
from streamer.model import Publication, Reason, Record
from streamer.sink.admin import read_limits
from streamer.sink.changelog import load_changelog
from streamer.sink.connection import Connection
from streamer.sink.delivery import Delivery
from streamer.sink.diagnosis import topics_refused, why_not_opened
from streamer.sink.error_codes import UNSUPPORTED_COMPRESSION_TYPE, UNSUPPORTED_FOR_MESSAGE_FORMAT
from streamer.sink.errors import SinkError
from streamer.sink.guarded import GuardedProducer
from streamer.sink.packing import MAX_BATCH_BYTES, Batch, Packer, TopicLimits
from streamer.sink.permissions import transactional_id

OPERATION_SECONDS: Final = 12.0
"""For a start, and for a whole transaction: less than the 15 s after which the broker ends it."""

_COMPRESSION_REFUSED: Final = frozenset({UNSUPPORTED_FOR_MESSAGE_FORMAT, UNSUPPORTED_COMPRESSION_TYPE})
_UNAUTHORIZED: Final = kafka_errors.TopicAuthorizationFailedError
_ONE_BATCH_BYTES: Final = 900_000
"""Without transactions the changes of state are one batch, which a broker takes whole or not at all: as large as
any broker's default allows. More of them are several, in an order in which the last ones may be missing."""


class ShardProducer:
    """Publishes for one shard. One task uses it.

    `topics` are learnt at the start already. `limits` are what the topics are known to take; those of a topic whose
    records were refused, by it or by what is known of it, are read again with the next `open()`.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        cluster: str,
        shard: int,
        state_topic: str,
        topics: Iterable[str] = (),
        limits: MutableMapping[str, TopicLimits] | None = None,
        operation_seconds: float = OPERATION_SECONDS,
    ) -> None:
        self._connection = connection
        self._shard = shard
        self._state_topic = state_topic
        self._topics = (state_topic, *topics)
        self._limits = limits if limits is not None else {}
        self._operation_seconds = operation_seconds
        self._transactional_id = transactional_id(cluster, shard) if connection.transactional else None
        self._packer = Packer(compression=connection.compression, transactional=connection.transactional)
        self._producer: GuardedProducer | None = None
        self._doubted = set[str]()
        self._suspects: dict[str, set[str]] = {}
        self.renew_needed = False
        """The last publication is committed, but its producer could not be kept: `open()` before the next."""

    @property
    def ready(self) -> bool:
        """Whether `publish()` may be called: after `open()`, until the first failure."""
        return self._producer is not None

    async def open(self) -> list[tuple[str, bytes]]:
        """Take the shard over and load its state: the live keys with their values.

        The predecessor is fenced and its open transaction ended before the first key is read. Raises
        KafkaUnavailable, StateBlocked. May be called again at any time; each call starts a new producer.
        """
        await self.discard()
        self.renew_needed = False
        producer = GuardedProducer(self._connection, f"shard-{self._shard}", self._transactional_id)
        self._producer = producer
        try:
            async with asyncio.timeout(self._operation_seconds):
                await producer.start()
                await producer.learn(self._topics)
            await self._refresh_limits()
            state = await load_changelog(self._connection, self._state_topic, self._shard)
        except BaseException as error:
            await self.discard()
            # Also what aiokafka only asserts: a broker just thawed names no brokers, and it did not reckon with that.
            if isinstance(error, Exception) and not isinstance(error, SinkError):
                raise await why_not_opened(self._connection, self._transactional_id, error) from error
            raise
        return list(state.items())

    async def publish(self, publication: Publication, *, isolate: frozenset[str] = frozenset()) -> None:
        """Publish all of it or, to a read_committed consumer's eye, nothing.

        Of the topics in `isolate`, the records that were refused together before now travel alone, so that a
        refusal names the one. After a failure the producer is gone, unless `ready` says otherwise: refused records
        that are found before anything is sent cost nothing.

        Raises RecordsRefused, BatchRefused, Fenced, PublishFailed.
        """
        producer = self._producer
        if producer is None:
            raise PublishFailed("the shard's producer is not open")
        delivery = Delivery(producer)
        begun = False
        try:
            async with asyncio.timeout(self._operation_seconds):
                lanes = await self._pack(producer, publication.records, isolate)
                changes = self._pack_changes(publication)
                begun = True
                if self._transactional_id is not None:
                    await producer.begin()
                    await self._deliver(delivery, [*lanes, changes])
                    await producer.commit()
                else:
                    await self._deliver(delivery, lanes)
            if self._transactional_id is None:
                async with asyncio.timeout(self._operation_seconds):
                    await self._deliver(delivery, [changes])
        except RecordsRefused as error:
            if begun:
                await self.discard()
            self._doubted.update(error.records)  # a limit may have been raised
            raise
        except BaseException as error:
            fatal = producer.fatal()
            await self.discard()
            if isinstance(error, SinkError) or not isinstance(error, Exception):
                raise
            self._raise_failed(fatal or error, delivery)
        self._suspects.clear()
        if producer.tainted:
            self.renew_needed = True
            await self.discard()

    async def discard(self) -> None:
        """Drop the producer as it is; an open transaction ends with the next `open()`, or by the broker's clock."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.drop()

    async def close(self) -> None:
        """End in good order. Between two publications nothing is under way, so this is quick."""
        await self.discard()

    async def _pack(
        self, producer: GuardedProducer, records: list[Record], isolate: frozenset[str]
    ) -> list[list[Batch]]:
        topics = {record.topic for record in records}
        partitions = producer.partitions(topics)
        if len(partitions) < len(topics) and await producer.learn(topics):
            raise PublishFailed(str(producer.not_there(topics - producer.partitions(topics).keys())))
        alone = set[str]()
        for topic in isolate:
            known = self._suspects.get(topic)
            alone.update(known or {record.id for record in records if record.topic == topic})
        return self._packer.pack(
            records,
            producer.partitions(topics),
            limits=self._limits,
            alone=alone,
            now_ms=time.time_ns() // 1_000_000,
        )

    def _pack_changes(self, publication: Publication) -> list[Batch]:
        limit = MAX_BATCH_BYTES if self._transactional_id is not None else _ONE_BATCH_BYTES
        if (known := self._limits.get(self._state_topic)) is not None:
            limit = min(limit, known.max_message_bytes)
        now_ms = time.time_ns() // 1_000_000
        return self._packer.pack_changes(
            publication.changes, self._state_topic, self._shard, limit=limit, now_ms=now_ms
        )

    async def _deliver(self, delivery: Delivery, lanes: list[list[Batch]]) -> None:
        """Send and await everything; without this, a commit would commit what is left of a failed transaction."""
        if await delivery.run(lanes):
            return
        if any(_is_fencing(error) for _, error in delivery.failures):
            raise Fenced(self._fenced())
        unauthorized = [error for _, error in delivery.failures if isinstance(error, _UNAUTHORIZED)]
        if unauthorized:
            raise PublishFailed(str(topics_refused(unauthorized, "WRITE"))) from unauthorized[0]
        refused = delivery.refusals()
        if not refused:
            if not delivery.failures:
                raise PublishFailed(f"{delivery.unacknowledged()} did not acknowledge")
            batch, error = delivery.failures[0]
            what = f"{batch.topic}/{batch.partition} was not written: {one_line(error)}"
            if getattr(error, "errno", None) in _COMPRESSION_REFUSED and self._connection.compression:
                what += f"; Kafka may not take {self._connection.compression}: set kafka.compression to none"
            raise PublishFailed(what) from error
        reason = refused[0][1]
        batches = [batch for batch, why in refused if why is reason]
        self._doubted.update(batch.topic for batch in batches)
        if any(batch.topic == self._state_topic for batch in batches):
            fix = {
                Reason.RECORD_TOO_LARGE: f"its max.message.bytes must be at least {MAX_BATCH_BYTES}",
                Reason.INVALID_TIMESTAMP: "the brokers' clocks and ours differ by more than it allows",
            }
            raise PublishFailed(
                f"the state topic {self._state_topic} refuses a change of state: {fix[reason]}"
            )
        several = [batch for batch in batches if len(batch.ids) > 1]
        for batch in several:
            self._suspects.setdefault(batch.topic, set()).update(batch.ids)
        if several:
            raise BatchRefused(frozenset(batch.topic for batch in several), reason)
        raise RecordsRefused(
            {
                t: frozenset(i for b in batches if b.topic == t for i in b.ids)
                for t in {b.topic for b in batches}
            },
            reason,
        )

    async def _refresh_limits(self) -> None:
        """A topic of which something was refused may have been changed since; without its limits we find out again."""
        if self._doubted:
            with contextlib.suppress(kafka_errors.KafkaError, TimeoutError, SinkError):
                async with asyncio.timeout(self._operation_seconds):
                    self._limits.update(await read_limits(self._connection, self._doubted))
            self._doubted.clear()

    def _raise_failed(self, error: BaseException, delivery: Delivery) -> NoReturn:
        if _is_fencing(error):
            raise Fenced(self._fenced()) from error
        if isinstance(error, _UNAUTHORIZED):
            raise PublishFailed(str(topics_refused([error], "WRITE"))) from error
        if isinstance(error, TimeoutError):
            waiting = delivery.unacknowledged()
            what = f"no acknowledgement of {waiting}" if waiting else "no answer to the commit"
            raise PublishFailed(f"{what} within {self._operation_seconds:.0f} s") from error
        raise PublishFailed(one_line(error)) from error

    def _fenced(self) -> str:
        return (
            f"shard {self._shard}: another producer has taken over {self._transactional_id}, "
            "or the broker ended the transaction for its age"
        )


def _is_fencing(error: BaseException | None) -> bool:
    return isinstance(error, kafka_errors.ProducerFenced | kafka_errors.InvalidProducerEpoch)
