"""The HTTP server: probes, metrics, the ledger, and how everything stands."""

from __future__ import annotations

import errno
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import orjson
import structlog
from aiohttp import web
from prometheus_client.exposition import choose_encoder

from streamer.telemetry.metrics import REGISTRY
from streamer.telemetry.page import POLICY, page
from streamer.telemetry.status import Status

log = structlog.get_logger()


class ListenError(Exception):
    """The HTTP server cannot listen; the text names the setting."""


class HttpServer:
    """`/livez`: the event loop turns. `/readyz`: every needed condition was ok; `?verbose` lists all conditions.

    A condition that nobody has checked yet is unknown (`[?]`); a needed one keeps the worker from being ready.
    Liveness depends on none of them. Once all needed ones were ok the worker stays ready: an outage of Kafka or the API
    needs no restart. `/metrics` is for Prometheus; `/ledger` is the committed ledger and `/status`
    everything, as JSON, and `/` shows that to people.
    """

    def __init__(self, host: str | None, port: int, status: Callable[[], Status]) -> None:
        self._host = host
        self._port = port
        self._status = status
        self._was_ready = False

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[int]:
        """Serve while the context lasts; gives the port. Raises `ListenError`."""
        app = web.Application()
        app.router.add_get("/", self._page)
        app.router.add_get("/livez", self._livez)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/ledger", self._show_ledger)
        app.router.add_get("/status", self._show_status)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            try:
                await web.TCPSite(runner, self._host, self._port).start()
            except OSError as error:
                raise ListenError(self._trouble(error)) from error
            port = int(runner.addresses[0][1])
            log.info("http_serving", port=port)
            yield port
        finally:
            await runner.cleanup()

    def _trouble(self, error: OSError) -> str:
        if isinstance(error, socket.gaierror):
            return f"http.host {self._host} is not an address of this machine: {error.strerror}"
        match error.errno:
            case errno.EADDRINUSE:
                return f"cannot listen at http.port {self._port}: another process does; set it to a free one"
            case errno.EACCES:
                return f"cannot listen at http.port {self._port}: below 1024 it needs a right; set it higher"
            case errno.EADDRNOTAVAIL:
                return f"http.host {self._host} is not an address of this machine"
        return f"cannot listen at http.port {self._port}: {error.strerror or error}"

    async def _page(self, _: web.Request) -> web.Response:
        headers = {"Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff"}
        return web.Response(text=page(self._status()), content_type="text/html", headers=headers)

    async def _livez(self, request: web.Request) -> web.Response:
        lines = ["[+] event loop", *map(str, self._status().checks)] if "verbose" in request.query else []
        return web.Response(text=_text(*lines, "ok"))

    async def _readyz(self, request: web.Request) -> web.Response:
        status = self._status()
        self._was_ready = self._was_ready or status.ready
        lines = map(str, status.checks) if "verbose" in request.query or not self._was_ready else ()
        text = _text(*lines, "ok" if self._was_ready else "not ready")
        return web.Response(text=text, status=200 if self._was_ready else 503)

    async def _metrics(self, request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(REGISTRY), headers={"Content-Type": content_type})

    async def _show_ledger(self, _: web.Request) -> web.Response:
        return _json(self._status().ledger.as_dict())

    async def _show_status(self, _: web.Request) -> web.Response:
        return _json(self._status().as_dict())


def _text(*lines: str) -> str:
    return "".join(f"{line}\n" for line in lines)


def _json(value: object) -> web.Response:
    return web.json_response(body=orjson.dumps(value))
