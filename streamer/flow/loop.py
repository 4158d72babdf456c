"""The event loop: uvloop, with a TLS that gives memory back.

uvloop's own TLS reads up to 256 KiB at once into a buffer that each connection has to itself, and hands that on through
one of OpenSSL's, which grows and never shrinks: once it has caught up with a long log, an idle stream kept half a MiB.
asyncio's TLS is the same machine in Python; how much it reads at once can be set, and it takes as much CPU.

This reaches into `asyncio.sslproto`; tests/unit/flow/test_loop.py holds it to what is relied on.
"""

from __future__ import annotations

from asyncio import sslproto
from collections.abc import Callable
from contextlib import suppress
from ssl import SSLContext, SSLError
from typing import Any, Final

import uvloop

READ_BYTES: Final = 16 * 1024
"""A TLS record's most: what OpenSSL keeps of a connection is about as much as was ever read at once."""

_buffer: Final = memoryview(bytearray(READ_BYTES))
"""Shared by all connections: the loop asks for it, fills it and hands it over in one go."""


class Loop(uvloop.Loop):
    """Its connections to servers have the lean TLS."""

    async def create_connection(
        self,
        protocol_factory: Callable[[], Any],
        host: Any = None,
        port: Any = None,
        *,
        ssl: Any = None,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        **others: Any,
    ) -> tuple[Any, Any]:
        """As every loop's; with a context for `ssl`, it is our TLS."""
        if not isinstance(ssl, SSLContext):
            return await super().create_connection(
                protocol_factory, host, port, ssl=ssl, server_hostname=server_hostname, **others
            )
        if server_hostname is None and not host:
            raise ValueError("TLS without a host needs server_hostname")
        protocol, secured = protocol_factory(), self.create_future()
        tls = _LeanTls(
            self,
            protocol,
            ssl,
            secured,
            server_hostname=host if server_hostname is None else server_hostname,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
        )
        secure = tls._app_transport  # noqa: SLF001
        transport: Any
        transport, _ = await super().create_connection(lambda: tls, host, port, **others)
        try:
            await secured
        except BaseException:
            transport.abort()
            raise
        return secure, protocol

    async def start_tls(
        self,
        transport: Any,
        protocol: Any,
        sslcontext: SSLContext,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> Any:
        """As every loop's, with our TLS: through an HTTP proxy's tunnel, also inside of TLS to that proxy."""
        if server_side:
            return await super().start_tls(
                transport, protocol, sslcontext, server_side=True, ssl_handshake_timeout=ssl_handshake_timeout
            )
        secured = self.create_future()
        tls = _LeanTls(
            self,
            protocol,
            sslcontext,
            secured,
            server_hostname=server_hostname,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
            call_connection_made=False,
        )
        transport.pause_reading()
        transport.set_protocol(tls)
        tls.connection_made(transport)
        transport.resume_reading()
        try:
            await secured
        except BaseException:
            transport.abort()
            raise
        return tls._app_transport  # noqa: SLF001


# To mypy, asyncio's class has no attributes but the public ones.
_Tls: Final[Any] = sslproto.SSLProtocol


class _LeanTls(_Tls):  # type: ignore[misc]
    """One connection's TLS: reads little at once, and keeps nothing that is not needed."""

    max_size = READ_BYTES

    # The base class has more attributes than objects of one class can share the names of: each has a dict of 1.9 KiB.
    __slots__ = (
        *("_app_protocol", "_app_protocol_buffer_updated", "_app_protocol_get_buffer"),
        *("_app_protocol_is_buffer", "_app_reading_paused", "_app_state", "_app_transport"),
        *("_app_transport_created", "_app_writing_paused", "_conn_lost", "_eof_received", "_extra"),
        *("_handshake_start_time", "_handshake_timeout_handle", "_incoming", "_incoming_high_water"),
        *("_incoming_low_water", "_loop", "_outgoing", "_outgoing_high_water", "_outgoing_low_water"),
        *("_server_hostname", "_server_side", "_shutdown_timeout_handle", "_ssl_buffer"),
        *("_ssl_buffer_view", "_ssl_handshake_timeout", "_ssl_reading_paused", "_ssl_shutdown_timeout"),
        *("_ssl_writing_paused", "_sslcontext", "_sslobj", "_state", "_transport", "_waiter"),
        *("_write_backlog", "_write_buffer_size"),
    )

    def __init__(self, *arguments: Any, **named: Any) -> None:
        # Attributes of the base class, which the slots hide.
        self._handshake_start_time = self._handshake_timeout_handle = self._shutdown_timeout_handle = None
        super().__init__(*arguments, **named)
        self._ssl_buffer = self._ssl_buffer_view = _buffer
        # A reader that has paused holds one record here, and not 256 KiB; the kernel and TCP hold the rest.
        self._set_read_buffer_limits(READ_BYTES)
        self._write_backlog: list[Any] = []  # mostly empty, and an empty deque takes 760 bytes

    def buffer_updated(self, nbytes: int) -> None:
        """Take what was read."""
        super().buffer_updated(nbytes)
        if nbytes < READ_BYTES and self._state is sslproto.SSLProtocolState.WRAPPED:
            # A session ticket makes OpenSSL allocate 16 KiB to write from, and it frees them with the next write: on a
            # log stream there is none. Writing nothing sends nothing. A full buffer is followed by another read.
            with suppress(SSLError):
                self._sslobj.write(b"")

    def _abort(self, _: BaseException | None = None) -> None:
        """End at once. That of Python 3.11 lacks the argument that it is called with inside of another TLS."""
        self._set_state(sslproto.SSLProtocolState.UNWRAPPED)
        if self._transport is not None:
            self._transport.abort()

    def _on_handshake_complete(self, handshake_exc: BaseException | None) -> None:
        super()._on_handshake_complete(handshake_exc)
        self._extra.pop("peercert", None)  # read from it into 2 KiB of Python's objects, for nobody
