"""Workers are a consumer group on the state topic: the worker that is assigned a partition owns the shard.

The group says who should own what; safety is not its business. A shard's `transactional.id` fences the owner before,
and its state is loaded after that, so an owner that has not heard the news yet can do no harm.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from typing import Any, Final

import aiokafka.errors as kafka_errors
import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition

from streamer.flow.backoff import Backoff
from streamer.flow.failure import one_line
from streamer.sink.assignor import sticky_assignor
from streamer.sink.client import drop_consumer, guard, learn_topics
from streamer.sink.connection import Connection
from streamer.sink.diagnosis import diagnose
from streamer.sink.errors import KafkaUnavailable, SinkError
from streamer.sink.group import refused
from streamer.sink.permissions import consumer_group

SESSION_SECONDS: Final = 10.0
"""A member that is silent for so long is dead to the group, and its shards go to others."""
HEARTBEAT_SECONDS: Final = 0.5
"""How soon members hear that the shards are to be divided again: half of what a hand-over after SIGTERM takes."""

_START_SECONDS: Final = 12.0
_JOIN_SECONDS: Final = 5.0
"""How much longer than a session the group may take to answer who joins: it waits for those who are not heard."""
_LEAVE_SECONDS: Final = 1.0
_POLL_SECONDS: Final = 1.0
_NEVER_MS: Final = 2**31 - 1
_UNKNOWN_MEMBER: Final = 25
_FENCED_INSTANCE_ID: Final = 82  # aiokafka has no name for it
_OUSTED: Final = 2
"""A member that is thrown out so often, a moment after it was welcome, shares its name with somebody."""

log = structlog.get_logger()


class GroupMembership(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """This worker's membership. It consumes nothing: all partitions are paused, only heartbeats flow.

    Revocations mean nothing here, since what is revoked mostly comes back with the next assignment, a moment later:
    an assignment alone says what is lost.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        cluster: str,
        state_topic: str,
        instance_id: str | None = None,
        session_seconds: float = SESSION_SECONDS,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
    ) -> None:
        self._connection = connection
        self._group_id = consumer_group(cluster)
        self._topic = state_topic
        self._instance_id = instance_id
        self._session_seconds = session_seconds
        self._heartbeat_seconds = heartbeat_seconds
        self._consumer: Any = None
        self._assignor = sticky_assignor(lambda: self.generation)
        self._news = asyncio.Event()
        self._confirmation = asyncio.Event()
        self._confirmed_at = float("-inf")
        self._ousted = 0
        self.assigned: frozenset[int] | None = None
        self.trouble = ""

    @property
    def generation(self) -> int:
        """How often the group has divided its shards, by its own count; -1 while we are not a member."""
        coordinator = getattr(self._consumer, "_coordinator", None)
        return -1 if coordinator is None else int(coordinator.generation)

    async def run(self) -> None:
        """Be a member until cancelled, then leave. A broker that is away changes nothing: we keep what we have."""
        backoff = Backoff(0.5, self._session_seconds)
        while True:
            joined_before = self._confirmed_at
            try:
                await self._stay()
            except (kafka_errors.KafkaError, TimeoutError, SinkError, AssertionError) as error:
                if self._confirmed_at > joined_before and not self._name_taken:
                    backoff.reset()
                cause = await self._explain(error)
                self.trouble = cause.cause
                log.warning("group_failed", group=self._group_id, cause=cause.cause, fix=cause.fix)
            await asyncio.sleep(backoff.next_seconds())

    async def assignments(self) -> AsyncIterator[frozenset[int]]:
        """The shards that are ours, each time the group has divided them. Never ends."""
        while True:
            await self._news.wait()
            self._news.clear()
            assert self.assigned is not None
            yield self.assigned

    async def confirmed(self) -> None:
        """Return once a heartbeat that was sent from now on was answered with our generation still being valid."""
        asked_at = asyncio.get_running_loop().time()
        while self._confirmed_at < asked_at:
            await self._confirmation.wait()

    def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """Keep everything: the group only asks us to join again."""

    def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """Take note. aiokafka sends no heartbeat while this runs, so all work is done elsewhere."""
        self._consumer.pause(*assigned)
        if not assigned:
            # There may be more workers than shards. Or the leader had odd metadata: then our own, if they differ, have
            # us join again. aiokafka would ask after five minutes.
            self._consumer._client.force_metadata_update()  # noqa: SLF001
        self.assigned = frozenset(partition.partition for partition in assigned)
        self._confirm(asyncio.get_running_loop().time())
        self._news.set()
        log.info("shards_assigned", shards=sorted(self.assigned), generation=self.generation)

    async def _stay(self) -> None:
        """Join, and stay until something breaks; what that is, is raised."""
        # Nothing is sent of aiokafka's `max_poll_interval_ms`: it is its own idea of when a consumer is stuck.
        join_seconds = self._session_seconds + _JOIN_SECONDS
        self._consumer = consumer = AIOKafkaConsumer(
            **self._connection.arguments("group") | {"request_timeout_ms": int(join_seconds * 1000)},
            group_id=self._group_id,
            group_instance_id=self._instance_id,
            partition_assignment_strategy=(self._assignor,),
            session_timeout_ms=int(self._session_seconds * 1000),
            rebalance_timeout_ms=int(self._session_seconds * 1000),
            heartbeat_interval_ms=int(self._heartbeat_seconds * 1000),
            max_poll_interval_ms=_NEVER_MS,
            enable_auto_commit=False,
            auto_offset_reset="latest",
            exclude_internal_topics=False,
        )
        guard(consumer._client, self._connection.credentials)  # noqa: SLF001 - its clients are all treated alike
        self._ousted = 0
        try:
            async with asyncio.timeout(_START_SECONDS):
                await consumer.start()
                if await learn_topics(consumer._client, [self._topic]):  # noqa: SLF001
                    raise KafkaUnavailable(f"topic {self._topic} does not exist", "was it deleted?")
            self._listen(consumer._coordinator)  # noqa: SLF001
            consumer.subscribe([self._topic], listener=self)
            while True:
                async with asyncio.timeout(2 * join_seconds):  # it waits while the group is being divided
                    await consumer.getmany(timeout_ms=int(_POLL_SECONDS * 1000))
                if self._name_taken:
                    raise KafkaUnavailable("our name is taken")
        finally:
            await self._leave(consumer)

    def _listen(self, coordinator: Any) -> None:
        """Hear the answers to heartbeats, which aiokafka keeps to itself."""
        beat, send = coordinator._do_heartbeat, coordinator._send_req  # noqa: SLF001

        async def heartbeat() -> bool:
            sent_at = asyncio.get_running_loop().time()
            alive: bool = await beat()
            if alive and not coordinator._rejoin_needed_fut.done():  # noqa: SLF001
                self._confirm(sent_at)
            return alive

        async def listened(request: Any) -> Any:
            answer = await send(request)
            since_seconds = asyncio.get_running_loop().time() - self._confirmed_at
            match getattr(answer, "error_code", 0):
                case code if code == _FENCED_INSTANCE_ID:
                    self._ousted = _OUSTED
                case code if code == _UNKNOWN_MEMBER and since_seconds < self._session_seconds / 2:
                    self._ousted += 1
            return answer

        coordinator._do_heartbeat = heartbeat  # noqa: SLF001
        coordinator._send_req = listened  # noqa: SLF001

    @property
    def _name_taken(self) -> bool:
        return self._instance_id is not None and self._ousted >= _OUSTED

    def _confirm(self, sent_at: float) -> None:
        self._confirmed_at = sent_at
        self.trouble = ""
        self._confirmation.set()
        self._confirmation.clear()

    async def _leave(self, consumer: Any) -> None:
        """Tell the group that we go, so that it need not wait until we are missed, and drop the consumer."""
        coordinator = consumer._coordinator  # noqa: SLF001
        try:
            if coordinator is not None and not self._name_taken:
                # A fixed name asks aiokafka to stay a member; but who ends in order is better replaced at once.
                coordinator._group_instance_id = None  # noqa: SLF001
                async with asyncio.timeout(_LEAVE_SECONDS):
                    await coordinator._maybe_leave_group()  # noqa: SLF001
        except (kafka_errors.KafkaError, TimeoutError) as error:
            log.info("group_not_left", group=self._group_id, cause=one_line(error))
        finally:
            await drop_consumer(consumer)
            self._consumer = None

    async def _explain(self, error: BaseException) -> KafkaUnavailable:
        if self._name_taken:
            return KafkaUnavailable(
                f"another worker is in the group under our name {self._instance_id}",
                "give each worker a kafka.group_instance_id of its own, such as its pod's name, or none",
            )
        refusal, self._assignor.refusal = self._assignor.refusal, None
        if refusal is not None:  # aiokafka passes on a copy of the error, without its cause
            return refusal  # type: ignore[no-any-return]
        match error:
            case kafka_errors.GroupAuthorizationFailedError():
                return refused(self._group_id)
            case kafka_errors.InvalidSessionTimeoutError():
                return KafkaUnavailable(
                    f"the brokers allow no session of {self._session_seconds:.0f} s",
                    "see group.min.session.timeout.ms and group.max.session.timeout.ms",
                )
            case kafka_errors.InconsistentGroupProtocolError():
                return KafkaUnavailable(
                    f"consumers of another kind are in the group {self._group_id}",
                    "find them with `kafka-consumer-groups.sh --describe --members`, and stop them",
                )
            case _:
                return await diagnose(self._connection, error)
