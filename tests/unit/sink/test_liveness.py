"""Connections that go silent: how sockets are set up, who is closed, and what is said of topics meanwhile."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from typing import Any

import aiokafka.errors as kafka_errors
import pytest
from aiokafka.client import AIOKafkaClient, ConnectionGroup
from aiokafka.protocol.metadata import MetadataRequest

from streamer.sink import Connection
from streamer.sink.client import drop, guard, learn_topics
from streamer.sink.liveness import IDLE_SECONDS, SILENT_SECONDS
from streamer.sink.mock_broker import MockBroker

REQUEST_MS = 200
LATE_MS = 5 * REQUEST_MS


@pytest.fixture
async def client(where: Connection) -> AsyncIterator[Any]:
    made = AIOKafkaClient(**where.arguments("test") | {"request_timeout_ms": REQUEST_MS})
    guard(made, where.credentials)
    await made.bootstrap()
    yield made
    await drop(made)


def only_node(client: Any) -> int:
    (broker,) = client.cluster.brokers()
    return int(broker.nodeId)


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="only Linux has it")
async def test_the_kernel_is_told_when_to_give_up(client: Any) -> None:
    conn = await client._get_conn(only_node(client))
    connected = conn._writer.get_extra_info("socket")
    assert connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == SILENT_SECONDS * 1000
    assert connected.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == IDLE_SECONDS


async def test_a_silent_connection_takes_those_with_it_that_were_not_heard_of(
    client: Any, broker: MockBroker
) -> None:
    node = only_node(client)
    silent = await client._get_conn(node)
    well, quiet = [await client._get_conn(node, group=group) for group in (ConnectionGroup.COORDINATION, 7)]
    quiet._last_action = time.monotonic() - SILENT_SECONDS
    broker.set_delay(LATE_MS)
    with pytest.raises(kafka_errors.RequestTimedOutError):
        await client.send(node, MetadataRequest([]))
    assert (silent.connected(), quiet.connected(), well.connected()) == (False, False, True)


async def test_a_connection_that_breaks_takes_none_with_it(client: Any) -> None:
    node = only_node(client)
    broken = await client._get_conn(node)
    quiet = await client._get_conn(node, group=ConnectionGroup.COORDINATION)
    quiet._last_action = time.monotonic() - SILENT_SECONDS
    reading = broken._read_task
    broken._reader.feed_eof()
    async with asyncio.timeout(5):
        await asyncio.wait([reading])
        await broken._closed_fut
    assert not broken.connected()
    assert quiet.connected()


async def test_of_a_topic_nothing_is_said_until_a_broker_answers(client: Any, broker: MockBroker) -> None:
    """Otherwise it would be told that the topic does not exist, and how to make it."""
    await client._get_conn(only_node(client))
    broker.set_delay(LATE_MS)
    asked = asyncio.create_task(learn_topics(client, ["alerts", "nowhere"], patience_seconds=0.0))
    await client.force_metadata_update()  # the one that is under way
    await asyncio.sleep(0)
    assert not asked.done()
    broker.set_delay(0)
    async with asyncio.timeout(10):
        assert await asked == ["nowhere"]
