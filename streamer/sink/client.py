"""What is done to every aiokafka client, so that it is fit for use here, and how one is dropped.

This reaches into aiokafka's internals, on purpose in one place; pyproject.toml holds aiokafka to the release whose
source was read for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextvars import ContextVar
from functools import partial
from typing import Any, Final
from weakref import WeakSet

import aiokafka.client
import aiokafka.errors as kafka_errors
import structlog
from aiokafka import TopicPartition
from aiokafka.client import ConnectionGroup
from aiokafka.conn import create_conn
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.offset import OffsetRequest

from streamer.sink.credentials import Credentials
from streamer.sink.error_codes import learn_codes
from streamer.sink.errors import KafkaUnavailable
from streamer.sink.liveness import close_when_silent, doubt_together
from streamer.telemetry import facts

# aiokafka's clients let the broker make every topic that they ask about. A topic that somebody deletes would be back
# at once, with one partition and without compaction, where the loss should be seen.
aiokafka.client.MetadataRequest = partial(MetadataRequest, allow_auto_topic_creation=False)

learn_codes()

log = structlog.get_logger()

_opened: ContextVar[WeakSet[Any] | None] = ContextVar("_opened", default=None)


async def _create_conn(*arguments: Any, **named: Any) -> Any:
    conn = await create_conn(*arguments, **named)
    close_when_silent(conn)
    if (opened := _opened.get()) is not None:
        opened.add(conn)
    return conn


aiokafka.client.create_conn = _create_conn

REFRESH_SECONDS: Final = 0.25
"""The least time between two refreshes of one client's metadata. Without it a partition that has no leader makes
aiokafka's sender ask in a busy loop: a whole core, and thousands of log lines a second."""

PATIENCE_SECONDS: Final = 2.0
"""How long a topic that cannot be found is looked for."""

_DROP_SECONDS: Final = 1.0
_LATEST: Final = -1
_READ_UNCOMMITTED: Final = 0


def guard(client: Any, credentials: Credentials) -> None:
    """Make a new client fit for use here: refreshes are spaced, credentials renewed, silent connections given up."""
    space_metadata_refreshes(client)
    _renew_credentials(client, credentials)
    doubt_together(client)
    bootstrap = client.bootstrap

    async def closing() -> None:
        """Aiokafka loses the connection that it asks first, if it is cancelled while it waits for the answer."""
        opened = WeakSet[Any]()
        token = _opened.set(opened)
        try:
            await bootstrap()
        except BaseException:
            for conn in opened:
                _close_now(conn)
            raise
        finally:
            _opened.reset(token)

    client.bootstrap = closing


def _renew_credentials(client: Any, credentials: Credentials) -> None:
    """Let each new connection of a client have the credentials of its time, not of the client's beginning."""
    get_conn = client._get_conn  # noqa: SLF001 - aiokafka has no other place for it

    async def renewed(node_id: Any, *, group: Any = ConnectionGroup.DEFAULT, no_hint: bool = False) -> Any:
        conn = client._conns.get((node_id, group))  # noqa: SLF001
        if conn is None or not conn.connected():
            try:
                for name, value in credentials.read().items():
                    setattr(client, f"_{name}", value)
            except KafkaUnavailable as error:
                # A file that is being replaced, perhaps: the old ones may still do.
                facts.kafka_credentials_not_renewed()
                log.warning("kafka_credentials_not_renewed", cause=error.cause, fix=error.fix)
        return await get_conn(node_id, group=group, no_hint=no_hint)

    client._get_conn = renewed  # noqa: SLF001


def space_metadata_refreshes(client: Any, seconds: float = REFRESH_SECONDS) -> None:
    """Let a client refresh its metadata at most once in `seconds`; who asks earlier waits for the next turn."""
    refresh = client.force_metadata_update
    loop = asyncio.get_running_loop()
    next_at = 0.0
    waiting: asyncio.Future[bool] | None = None

    def turn() -> None:
        nonlocal next_at, waiting
        waiter, waiting = waiting, None
        next_at = loop.time() + seconds
        if waiter is not None:
            refresh().add_done_callback(lambda done: _pass_on(done, waiter))

    def spaced() -> asyncio.Future[bool]:
        nonlocal next_at, waiting
        if waiting is None:
            if (wait := next_at - loop.time()) <= 0:
                next_at = loop.time() + seconds
                now: asyncio.Future[bool] = refresh()
                return now
            waiting = loop.create_future()
            loop.call_later(wait, turn)
        return asyncio.shield(waiting)

    client.force_metadata_update = spaced


def _pass_on(done: asyncio.Future[bool], waiter: asyncio.Future[bool]) -> None:
    if not waiter.done():
        waiter.set_result(not done.cancelled() and done.exception() is None and done.result())


async def learn_topics(
    client: Any, topics: Iterable[str], *, patience_seconds: float = PATIENCE_SECONDS
) -> list[str]:
    """Have a client know these topics' partitions; returns those that it cannot find.

    One request for all, where aiokafka's own way is one a topic; and again for a while, since a topic that was just
    made is not known to every broker at once. Where no broker answers, nothing is known of topics: callers
    have a limit of their own.
    """
    wanted = list(topics)
    answered = False
    deadline = asyncio.get_running_loop().time() + patience_seconds
    while True:
        unknown = [topic for topic in wanted if client.cluster.partitions_for_topic(topic) is None]
        if not unknown or (answered and asyncio.get_running_loop().time() > deadline):
            return unknown
        client._topics |= set(unknown)  # noqa: SLF001 - set_topics() would refresh only for new ones
        answered = await client.force_metadata_update()


async def high_watermark(client: Any, topic: str, partition: int) -> int:
    """The end of a partition, open transactions included; asks until its leader answers. Raises KafkaError.

    A read_committed consumer's own idea of the end stops before the first transaction whose end is not yet written,
    and a commit is confirmed before that.
    """
    while True:
        leader = client.cluster.leader_for_partition(TopicPartition(topic, partition))
        if leader not in {None, -1}:
            request = OffsetRequest(-1, _READ_UNCOMMITTED, [(topic, [(partition, _LATEST)])])
            answer = await client.send(leader, request)
            _, error, _, offset = answer.topics[0][1][0][:4]
            if not error:
                return int(offset)
            kind = kafka_errors.for_code(error)
            if not kind.retriable:
                raise kind()
        await client.force_metadata_update()


async def drop(client: Any, tasks: Iterable[asyncio.Task[Any]] = ()) -> None:
    """End a client and the tasks that work for it, whatever they wait for; never waits long itself.

    aiokafka's own `close()` and `stop()` wait for what is buffered to be sent, for ever if the broker is frozen.
    """
    working = {task for task in (*tasks, client._sync_task) if task is not None}  # noqa: SLF001
    for _ in range(3):  # aiokafka's loops take a first cancellation as "finish what you do"
        for task in working:
            task.cancel()
        if not working or not (await asyncio.wait(working, timeout=_DROP_SECONDS))[1]:
            break
    client._sync_task = None  # noqa: SLF001
    closing = set()
    for conn in list(client._conns.values()):  # noqa: SLF001
        reader = conn._read_task  # noqa: SLF001
        closing.add(_close_now(conn))
        if reader is not None:
            closing.add(reader)
    client._conns.clear()  # noqa: SLF001
    if closing:
        await asyncio.wait(closing, timeout=_DROP_SECONDS)
    for task in working:
        if task.done() and not task.cancelled():
            task.exception()  # looked at, so that asyncio does not report it as lost


def _close_now(conn: Any) -> asyncio.Future[None]:
    """Close a connection without sending what waits to be sent: a frozen broker would never take it."""
    if (writer := conn._writer) is not None:  # noqa: SLF001
        writer.transport.abort()
    closed: asyncio.Future[None] = conn.close()
    return closed


async def drop_consumer(consumer: Any) -> None:
    """End a consumer as it is; it leaves no group."""
    consumer._closed = True  # noqa: SLF001 - or it would complain of having been forgotten
    tasks = set[asyncio.Task[Any] | None]()
    if consumer._fetcher is not None:  # noqa: SLF001
        tasks |= {consumer._fetcher._fetch_task, *consumer._fetcher._pending_tasks}  # noqa: SLF001
    if (coordinator := consumer._coordinator) is not None:  # noqa: SLF001
        # The first stands for the others where there is no group.
        names = ("_reset_committed_task", "_coordination_task", "_heartbeat_task", "_commit_refresh_task")
        tasks |= {getattr(coordinator, name, None) for name in names}
    await drop(consumer._client, [task for task in tasks if task is not None])  # noqa: SLF001
