"""TLS in front of a plain port on loopback, as load balancers have it, with a certificate for any names."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from typing import Self

from tests.testbed.certs import Authority
from tests.testbed.forward_proxy import carry, end


class TlsFront:
    """An async context manager."""

    def __init__(self, target_port: int, authority: Authority, names: Sequence[str]) -> None:
        pair = authority.server(names[0], names=names)
        self._target_port = target_port
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(pair.public, pair.key)
        self._tasks: set[asyncio.Task[None] | None] = set()
        self._server: asyncio.Server | None = None

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._tls)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        tasks = [task for task in self._tasks if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._tasks.add(task)
        try:
            await carry((reader, writer), await asyncio.open_connection("127.0.0.1", self._target_port))
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            end(writer)
