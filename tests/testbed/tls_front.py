"""TLS in front of a plain port on loopback, as load balancers have it, with a certificate for any names."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence

from tests.testbed.carrying import CarryingServer, carry
from tests.testbed.certs import Authority


class TlsFront(CarryingServer):
    """Carries to `target_port` what comes over TLS."""

    def __init__(self, target_port: int, authority: Authority, names: Sequence[str]) -> None:
        pair = authority.server(names[0], names=names)
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(pair.public, pair.key)
        super().__init__(tls)
        self._target_port = target_port

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await carry((reader, writer), await asyncio.open_connection("127.0.0.1", self._target_port))
