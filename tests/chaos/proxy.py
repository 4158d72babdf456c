"""A TCP proxy on loopback whose connections can be slowed down, cut, or left half open."""

from __future__ import annotations

import asyncio
import ctypes
import socket
import struct
from contextlib import suppress
from typing import Self

from tests.testbed.process import free_port

_CHUNK = 64 * 1024
# A close with this is a reset: what the other side has not read yet is thrown away.
_RESET = struct.pack("ii", 1, 0)
# A socket with this filter (keep 0 bytes of a packet) confirms nothing: what comes is dropped before TCP sees it.
_SO_ATTACH_FILTER = 26
_DROP_ALL = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))
_FILTER = struct.pack("HL", 1, ctypes.addressof(_DROP_ALL))


class _Link:
    """One connection, both ways."""

    def __init__(self, proxy: Proxy, near: asyncio.StreamWriter, far: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._ends = (near, far)
        self._carries = asyncio.Event()
        self._carries.set()

    def hang(self) -> None:
        """Carry nothing any more; neither side is told."""
        self._carries.clear()

    def vanish(self) -> None:
        """The same, and the machines at both ends hear nothing of each other any more."""
        self.hang()
        for end in self._ends:
            with suppress(OSError):
                end.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, _FILTER)

    def reset(self) -> None:
        for end in self._ends:
            with suppress(OSError):
                end.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            end.transport.abort()

    async def pump(self, source: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
        while chunk := await source.read(_CHUNK):
            await self._carries.wait()
            if self._proxy.latency_seconds:
                await asyncio.sleep(self._proxy.latency_seconds)
                await self._carries.wait()
            to.write(chunk)
            await to.drain()


class Proxy:
    """Forwards a port of its own to another, which may be dead at times; as an async context manager."""

    def __init__(self, target_port: int) -> None:
        self.port = free_port()
        self.latency_seconds = 0.0
        """Added to each piece of data, in both directions."""
        self.connections = 0
        """How many were ever made."""
        self._target_port = target_port
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    def reset(self) -> None:
        """Cut all connections."""
        for link in list(self._links):
            link.reset()

    def hang(self) -> None:
        """Leave all present connections half open for ever; new ones work.

        What is sent on them is confirmed, as by a machine whose process stands still, and never answered.
        """
        for link in self._links:
            link.hang()

    def vanish(self) -> None:
        """The same, but nothing is confirmed either, as where a machine lost power or a firewall its memory."""
        for link in self._links:
            link.vanish()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.reset()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, near: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.connections += 1
        try:
            far_reader, far = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            near.transport.abort()
            return
        link = _Link(self, near, far)
        self._links.add(link)
        pumps = [asyncio.ensure_future(link.pump(*way)) for way in ((reader, far), (far_reader, near))]
        try:
            done, _ = await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            if any(pump.exception() for pump in done):
                link.reset()
        except asyncio.CancelledError:
            link.reset()  # the proxy is closed; asyncio would report a task that ends as cancelled
        finally:
            self._links.discard(link)
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            for end in (near, far):
                end.close()
