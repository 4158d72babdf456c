"""A TCP proxy on loopback that counts what it forwards, and can limit bandwidth, add delay, cut, or hang connections.

A dead node is `BlackHole`: a port that answers nothing, not even the opening of a connection.
"""

from __future__ import annotations

import asyncio
import ctypes
import socket
import struct
from contextlib import suppress
from typing import Self

from tests.testbed.process import free_port

_CHUNK = 64 * 1024
_FULL = 4  # connections; a backlog of 0 holds one, and the kernel is generous by one or two
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
        near = self._ends[0]
        while chunk := await source.read(_CHUNK):
            await self._carries.wait()
            seconds = self._proxy.latency_seconds
            if to is near:
                seconds += self._proxy.reserve_seconds(len(chunk))
            if seconds > 0:
                await asyncio.sleep(seconds)
                await self._carries.wait()
            to.write(chunk)
            if to is near:
                self._proxy.served_bytes += len(chunk)
            await to.drain()


class Proxy:
    """Forwards a port of its own to another, which may be dead at times; as an async context manager."""

    def __init__(self, target_port: int) -> None:
        self.port = free_port()
        self.latency_seconds = 0.0
        """Added to each piece of data (64 KiB at most), in both directions."""
        self.served_bytes_per_second: float | None = None
        """Bandwidth from the target to all clients together, in turns of one piece each; None is not a limit."""
        self.served_bytes = 0
        """How much the target has sent through, TLS and headers included."""
        self.connections = 0
        """How many were ever made."""
        self._target_port = target_port
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._free_at = 0.0  # when all that was read so far has passed the limit, on the loop's clock

    @property
    def open_connections(self) -> int:
        """How many connections it forwards now."""
        return len(self._links)

    def reserve_seconds(self, size: int) -> float:
        """Take so many bytes of the bandwidth; returns how long they take, with all that comes before them."""
        if self.served_bytes_per_second is None:
            return 0.0
        now = asyncio.get_running_loop().time()
        self._free_at = max(now, self._free_at) + size / self.served_bytes_per_second
        return self._free_at - now

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


class BlackHole:
    """A port whose connections are never opened, as those to a machine without power; as a context manager."""

    def __init__(self) -> None:
        self.port = free_port()
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> Self:
        """Listen, accept nothing, and fill the kernel's queue: it then drops every further SYN."""
        listener = socket.create_server(("127.0.0.1", self.port), backlog=0)
        self._sockets.append(listener)
        for _ in range(_FULL):
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", self.port))
            self._sockets.append(one)
        return self

    def __exit__(self, *_: object) -> None:
        for one in self._sockets:
            one.close()
