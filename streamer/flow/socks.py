"""Connections through a SOCKS5 proxy (RFC 1928, RFC 1929) for aiohttp.

The tunnel is opened on a plain socket, which then becomes a connection like any other: with the loop's own TLS, the
same options of the socket, and the same bound on what is read ahead.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

_VERSION: Final = 5
_OPEN: Final = 0
_BY_PASSWORD: Final = 2
_CONNECT: Final = 1
_IPV4: Final = 1
_NAME: Final = 3
_IPV6: Final = 4
_REPLIES: Final = (
    "general failure",
    "its rules forbid this connection",
    "the network is unreachable",
    "the host is unreachable",
    "connection refused by the server",
    "the way to the server is too long",
    "it does not know the command",
    "it does not know the kind of address",
)
"""What a reply means, from 1 on (RFC 1928, section 6)."""

SocketFactory = Callable[[Any], socket.socket]


class SocksError(OSError):
    """The proxy does not open the tunnel; `strerror` says why."""

    def __init__(self, text: str) -> None:
        super().__init__(0, text)


@dataclass(frozen=True, slots=True)
class Socks:
    """A proxy."""

    host: str
    port: int
    user: str = ""
    password: str = ""

    async def tunnel(self, host: str, port: int, make: SocketFactory) -> socket.socket:
        """A socket that is connected to a server by way of the proxy, which looks its name up. Raises OSError."""
        opened = await self._connect(make)
        try:
            await self._ask(_Wire(opened), host, port)
        except BaseException:
            opened.close()
            raise
        return opened

    async def _connect(self, make: SocketFactory) -> socket.socket:
        loop = asyncio.get_running_loop()
        failed: OSError = SocksError("its name has no address")
        for info in await loop.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM):
            made = make(info)
            made.setblocking(False)
            try:
                await loop.sock_connect(made, info[4])
            except OSError as error:
                made.close()
                failed = error
            except BaseException:
                made.close()
                raise
            else:
                return made
        raise failed

    async def _ask(self, wire: _Wire, host: str, port: int) -> None:
        methods = bytes((_OPEN, _BY_PASSWORD)) if self.user else bytes((_OPEN,))
        await wire.send(bytes((_VERSION, len(methods))) + methods)
        version, method = await wire.read(2)
        if version != _VERSION:
            raise SocksError("it does not speak SOCKS5")
        if method == _BY_PASSWORD and self.user:
            user, password = self.user.encode(), self.password.encode()
            if max(len(user), len(password)) > 255:
                raise SocksError("its user or password is longer than 255 bytes")
            await wire.send(b"\x01" + bytes((len(user),)) + user + bytes((len(password),)) + password)
            if (await wire.read(2))[1]:
                raise SocksError("it does not accept user and password")
        elif method != _OPEN:
            raise SocksError("it wants another login" if self.user else "it wants a user and a password")
        request = bytes((_VERSION, _CONNECT, 0)) + _encoded(host) + port.to_bytes(2)
        await wire.send(request)
        version, reply, _, kind = await wire.read(4)
        if version != _VERSION:
            raise SocksError("it does not speak SOCKS5")
        if reply:
            raise SocksError(_REPLIES[reply - 1] if reply <= len(_REPLIES) else f"it answers {reply}")
        length = {_IPV4: 4, _IPV6: 16}.get(kind) or (await wire.read(1))[0]
        await wire.read(length + 2)  # the address that it connects from: for nobody


class _Wire:
    """Reads and writes exactly so many bytes: what follows the proxy's answer is the server's."""

    def __init__(self, opened: socket.socket) -> None:
        self._socket = opened
        self._loop = asyncio.get_running_loop()

    async def send(self, message: bytes) -> None:
        await self._loop.sock_sendall(self._socket, message)

    async def read(self, size: int) -> bytes:
        read = b""
        while len(read) < size:
            chunk = await self._loop.sock_recv(self._socket, size - len(read))
            if not chunk:
                raise SocksError("it closed the connection: is it a SOCKS5 proxy?")
            read += chunk
        return read


def _encoded(host: str) -> bytes:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        name = host.encode("idna")
        return bytes((_NAME, len(name))) + name
    return bytes((_IPV4 if address.version == 4 else _IPV6,)) + address.packed


class _NoResolver(AbstractResolver):
    """Leaves a name as it is."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The name for an address."""
        return [ResolveResult(hostname=host, host=host, port=port, family=family, proto=0, flags=0)]

    async def close(self) -> None:
        """Nothing is open."""


class SocksConnector(aiohttp.TCPConnector):
    """aiohttp's, with each connection through a proxy. tests/unit/flow/test_socks.py holds it to what it relies on."""

    def __init__(self, proxy: Socks, *, socket_factory: SocketFactory | None = None, **options: Any) -> None:
        super().__init__(resolver=_NoResolver(), **options)
        self._proxy = proxy
        self._make = socket_factory or _plain_socket

    async def _wrap_create_connection(self, *args: Any, addr_infos: Any, **kwargs: Any) -> Any:  # noqa: ARG002
        request, timeout = kwargs["req"], kwargs["timeout"]
        try:
            async with asyncio.timeout(timeout.sock_connect):
                tunnel = await self._proxy.tunnel(request.url.raw_host, request.port, self._make)
        except TimeoutError as error:
            within = "" if timeout.sock_connect is None else f" within {timeout.sock_connect:g} s"
            late = SocksError(f"no answer{within}")
            raise aiohttp.ClientProxyConnectionError(request.connection_key, late) from error
        except OSError as error:
            raise aiohttp.ClientProxyConnectionError(request.connection_key, error) from error
        try:
            return await self._wrap_existing_connection(*args, sock=tunnel, **kwargs)
        except BaseException:
            tunnel.close()
            raise


def _plain_socket(info: Any) -> socket.socket:
    family, kind, protocol, _, _ = info
    return socket.socket(family, kind, protocol)
