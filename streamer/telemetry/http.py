"""The HTTP server for probes, and for the ledger."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import orjson
import structlog
from aiohttp import web

from streamer.model import Ledger

log = structlog.get_logger()


class ListenError(Exception):
    """The HTTP server cannot listen; the text names the setting."""


class HttpServer:
    """`/livez`: the loop turns. `/readyz`: what must be done before work is possible is done; `?verbose` says what.

    `/ledger`: the committed ledger as JSON. `checks` gives each condition of readiness by name; once all were met
    the worker stays ready: that Kafka or the API is away is no reason to send it no probes, or to restart it.
    """

    def __init__(
        self,
        host: str | None,
        port: int,
        checks: Callable[[], Mapping[str, bool]],
        ledger: Callable[[], Ledger],
    ) -> None:
        self._host = host
        self._port = port
        self._checks = checks
        self._ledger = ledger
        self._was_ready = False

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[int]:
        """Serve while the context lasts; gives the port. Raises `ListenError`."""
        app = web.Application()
        app.router.add_get("/livez", self._livez)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/ledger", self._show_ledger)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            try:
                await web.TCPSite(runner, self._host, self._port).start()
            except OSError as error:
                raise ListenError(
                    f"cannot listen at http.port {self._port}: {error.strerror or error}"
                ) from error
            port = int(runner.addresses[0][1])
            log.info("http_serving", port=port)
            yield port
        finally:
            await runner.cleanup()

    async def _livez(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, request: web.Request) -> web.Response:
        checks = self._checks()
        self._was_ready = self._was_ready or all(checks.values())
        text = "ok\n" if self._was_ready else "not ready\n"
        if "verbose" in request.query or not self._was_ready:
            text = "".join(f"[{'+' if done else '-'}] {name}\n" for name, done in checks.items()) + text
        return web.Response(text=text, status=200 if self._was_ready else 503)

    async def _show_ledger(self, _: web.Request) -> web.Response:
        return web.json_response(body=orjson.dumps(self._ledger().as_dict()))
