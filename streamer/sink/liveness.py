"""Connections to Kafka that have gone silent: found soon, and not one after the other.

A half-open connection answers nothing and says nothing: its broker's machine lost power, or a NAT, a firewall or a load
balancer forgot it. aiokafka waits for each request's own limit, and once one connection is given up tries the next one,
which as a rule died with it. So the kernel is set to give up sooner, and a silent connection closes those like it.

This reaches into aiokafka's internals, as `sink/client.py` does.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import aiokafka.conn
import structlog
from aiokafka.conn import AIOKafkaProtocol, CloseReason

SILENT_SECONDS: Final = 5.0
"""What we sent and the other machine's kernel does not confirm within so long will never arrive. Some four
retransmissions fit into it; a broker that is only busy, throttles us or stands still confirms all the same."""
IDLE_SECONDS: Final = 3.0
"""After so long without a word, also where an answer is due, the other machine is asked whether it is there."""
_ASK_AGAIN_SECONDS: Final = 1.0
_HEARD_SECONDS: Final = SILENT_SECONDS / 2
"""Who was heard of so lately is well; a connection that died with a silent one may have been heard of just before."""

log = structlog.get_logger()


class _Impatient(AIOKafkaProtocol):  # type: ignore[misc]  # aiokafka has no types
    """A connection's lowest layer: sets up its socket, and knows whether it ended of silence."""

    silent = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Set up the socket before anything is sent."""
        _be_impatient(transport.get_extra_info("socket"))
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        """ETIMEDOUT is what the kernel says when it gives up."""
        self.silent = isinstance(error, TimeoutError)
        super().connection_lost(error)


aiokafka.conn.AIOKafkaProtocol = _Impatient


def _be_impatient(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    options = {  # Linux has them all; elsewhere the limits of requests remain
        "TCP_USER_TIMEOUT": int(SILENT_SECONDS * 1000),
        "TCP_KEEPIDLE": int(IDLE_SECONDS),
        "TCP_KEEPINTVL": int(_ASK_AGAIN_SECONDS),
    }
    for name, value in options.items():
        if (option := getattr(socket, name, None)) is not None:
            connection.setsockopt(socket.IPPROTO_TCP, option, value)


def close_when_silent(conn: Any) -> None:
    """Let a request that waited in vain close its connection.

    aiokafka does that for most requests, but goes on asking for metadata where it never had an answer.
    """
    send = conn.send

    def sent(request: Any, expect_response: bool = True) -> Awaitable[Any]:
        answer: Awaitable[Any] = send(request, expect_response)
        return _answer_or_close(conn, answer) if expect_response else answer

    conn.send = sent


async def _answer_or_close(conn: Any, answer: Awaitable[Any]) -> Any:
    try:
        return await answer
    except TimeoutError:
        conn.close(reason=CloseReason.CONNECTION_TIMEOUT)
        raise


def doubt_together(client: Any) -> None:
    """Where one of a client's connections has gone silent, close the others that were not heard of meanwhile, too."""
    original: Callable[[Any, Any], None] = client._on_connection_closed  # noqa: SLF001

    def closed(conn: Any, reason: Any) -> None:
        original(conn, reason)
        unconfirmed = conn._protocol is not None and conn._protocol.silent  # noqa: SLF001
        if not unconfirmed and reason is not CloseReason.CONNECTION_TIMEOUT:
            return
        cause = f"nothing was confirmed for {SILENT_SECONDS:.0f} s" if unconfirmed else "no answer in time"
        log.warning("kafka_connection_silent", broker=f"{conn.host}:{conn.port}", cause=cause)
        heard_since = time.monotonic() - _HEARD_SECONDS  # aiokafka's own clock for this
        for other in list(client._conns.values()):  # noqa: SLF001
            if other is not conn and other._last_action < heard_since:  # noqa: SLF001
                other.close(reason=CloseReason.CONNECTION_BROKEN)

    client._on_connection_closed = closed  # noqa: SLF001
