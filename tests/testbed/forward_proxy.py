"""Proxies that clients ask for a connection, as companies have them: HTTP with CONNECT, and SOCKS5.

Both look names up in a table of their own, so a name that is nowhere else shows that it was the proxy who knew it.
"""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import ssl
from collections.abc import Mapping
from urllib.parse import urlsplit

from tests.testbed.carrying import CarryingServer, carry


class _ForwardProxy(CarryingServer):
    """`names` gives the port on loopback of each host that it knows."""

    scheme: str

    def __init__(
        self,
        names: Mapping[str, int] | None = None,
        *,
        login: tuple[str, str] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(tls)
        self.asked: list[str] = []
        """The `host:port` of each connection that was opened."""
        self.forbids = False
        self._names = dict(names or {})
        self._login = login

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def url_with(self, login: str) -> str:
        return f"{self.scheme}://{login}@127.0.0.1:{self.port}"

    def _port_of(self, host: str, port: int) -> int | None:
        """Where a server is on loopback; None for one that is not known."""
        if host in self._names:
            return self._names[host]
        return port if host == "127.0.0.1" else None

    async def _open(self, host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        known = self._port_of(host, port)
        if known is None:
            return None
        self.asked.append(f"{host}:{port}")
        return await asyncio.open_connection("127.0.0.1", known)


class HttpProxy(_ForwardProxy):
    """CONNECT for tunnels, and requests with the whole address for plain HTTP. With `tls` it is an HTTPS proxy."""

    @property
    def scheme(self) -> str:  # type: ignore[override]
        return "https" if self._tls else "http"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        method, target, version = first.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if self._login is not None:
            wanted = base64.b64encode(":".join(self._login).encode()).decode()
            if headers.get("proxy-authorization") != f"Basic {wanted}":
                await _answer(writer, "407 Proxy Authentication Required", "proxy-authenticate: Basic\r\n")
                return
        if self.forbids:
            await _answer(writer, "403 Forbidden")
            return
        url = urlsplit(target if method != "CONNECT" else f"//{target}")
        assert url.hostname is not None
        far = await self._open(url.hostname, url.port or 80)
        if far is None:
            await _answer(writer, "502 Bad Gateway")
            return
        if method == "CONNECT":
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            path = f"{url.path or '/'}{f'?{url.query}' if url.query else ''}"
            kept = [line for line in lines if line and not line.lower().startswith(("proxy-", "connection:"))]
            far[1].write(
                "\r\n".join([f"{method} {path} {version}", *kept, "connection: close", "", ""]).encode()
            )
        await carry((reader, writer), far)


async def _answer(writer: asyncio.StreamWriter, status: str, headers: str = "") -> None:
    writer.write(f"HTTP/1.1 {status}\r\n{headers}content-length: 0\r\n\r\n".encode())
    await writer.drain()


class SocksProxy(_ForwardProxy):
    """SOCKS5: RFC 1928, with user and password by RFC 1929."""

    scheme = "socks5"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        version, count = await reader.readexactly(2)
        methods = await reader.readexactly(count)
        assert version == 5
        wanted = 0 if self._login is None else 2
        if wanted not in methods:
            writer.write(b"\x05\xff")
            await writer.drain()
            return
        writer.write(bytes((5, wanted)))
        if self._login is not None:
            assert await reader.readexactly(1) == b"\x01"
            given = tuple(
                [(await reader.readexactly((await reader.readexactly(1))[0])).decode() for _ in range(2)]
            )
            writer.write(bytes((1, given != self._login)))
            if given != self._login:
                await writer.drain()
                return
        version, command, _, kind = await reader.readexactly(4)
        assert (version, command) == (5, 1)
        if kind == 3:
            host = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
        else:
            host = str(ipaddress.ip_address(await reader.readexactly(4 if kind == 1 else 16)))
        port = int.from_bytes(await reader.readexactly(2))
        far = None if self.forbids else await self._open(host, port)
        reply = 2 if self.forbids else 4 if far is None else 0
        writer.write(bytes((5, reply, 0, 1)) + bytes(6))
        await writer.drain()
        if far is not None:
            await carry((reader, writer), far)
