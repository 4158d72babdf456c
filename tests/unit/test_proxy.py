"""The proxy that benchmarks and fault tests count and throttle with, and the port of a dead node."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from tests.testbed.proxy import BlackHole, Proxy

SECONDS = 20
SIZE = 400_000


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    """Before a server that sends SIZE bytes to whoever connects, and ends."""

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(bytes(SIZE))
        await writer.drain()
        writer.close()

    async with (
        asyncio.timeout(SECONDS),
        await asyncio.start_server(serve, "127.0.0.1", 0) as server,
        Proxy(server.sockets[0].getsockname()[1]) as made,
    ):
        yield made


async def fetch(proxy: Proxy) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    size = len(await reader.read(-1))
    writer.close()
    return size


async def test_what_is_served_is_counted_and_unchanged_without_a_limit(proxy: Proxy) -> None:
    assert sum(await asyncio.gather(fetch(proxy), fetch(proxy))) == 2 * SIZE
    assert proxy.served_bytes == 2 * SIZE


async def test_all_connections_share_the_bandwidth(proxy: Proxy) -> None:
    proxy.served_bytes_per_second = 4 * SIZE
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert sum(await asyncio.gather(fetch(proxy), fetch(proxy))) == 2 * SIZE
    assert loop.time() - began >= 0.5


def test_a_connection_to_a_black_hole_is_not_opened() -> None:
    with BlackHole() as hole, socket.socket() as one:
        one.settimeout(0.3)
        with pytest.raises(TimeoutError):
            one.connect(("127.0.0.1", hole.port))
