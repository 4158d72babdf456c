"""The HTTP server of the viewer: the page's files, and what they ask for, as JSON and server-sent events. Read-only."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Final

import orjson
import structlog
from aiohttp import web

from streamer.transform.stamp import StampReader
from streamer.view import live, shape
from streamer.view.access import HEADERS, Access, AccessError
from streamer.view.hub import Hub
from streamer.view.query import Query, QueryError

_TYPES: Final = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
    ".txt": "text/plain",
}
_MOST_URL: Final = 16_384
_RELOAD_SECONDS: Final = 60.0

log = structlog.get_logger()
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ViewListenError(Exception):
    """The server cannot listen; the text says why."""


@dataclass(frozen=True, slots=True)
class Tls:
    """A certificate and its key, PEM; both are read again when they change."""

    certificate: Path
    key: Path

    def context(self) -> ssl.SSLContext:
        """What the server needs of them. Raises `AccessError`."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.load(context)
        return context

    def load(self, context: ssl.SSLContext) -> None:
        """Read them into a context: connections that are made from now on use them. Raises `AccessError`."""
        try:
            context.load_cert_chain(self.certificate, self.key)
        except (OSError, ssl.SSLError) as error:
            raise AccessError(f"the certificate {self.certificate} with {self.key}: {error}") from error

    def changed(self) -> tuple[float, float]:
        """When the files were changed last."""
        return self.certificate.stat().st_mtime, self.key.stat().st_mtime


class ViewServer:
    """Serves a hub at an address. The page's files hold no data and are for everybody; all else is for who may look."""

    def __init__(self, hub: Hub, access: Access, *, host: str, port: int, tls: Tls | None = None) -> None:
        self._hub = hub
        self._access = access
        self._host = host
        self._port = port
        self._tls = tls
        self._stamps = StampReader()
        self._files = _page_files()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """Serve while the context lasts; gives the URL. Raises `ViewListenError` and `AccessError`."""
        context = None if self._tls is None else self._tls.context()
        app = web.Application(middlewares=[self._guard])
        app.router.add_get("/", self._file)
        app.router.add_get("/static/{name:.+}", self._file)
        app.router.add_get("/livez", _livez)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/api/live", self._live)
        app.router.add_get("/api/status", self._status)
        app.router.add_get("/api/overview", self._overview)
        app.router.add_get("/api/rows", self._rows)
        app.router.add_get("/api/alert", self._alert)
        app.router.add_get("/api/value", self._value)
        app.router.add_get("/api/coverage", self._coverage)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0, max_line_size=_MOST_URL)
        await runner.setup()
        reloading = asyncio.create_task(self._reload(context)) if context is not None else None
        try:
            try:
                await web.TCPSite(runner, self._host, self._port, ssl_context=context).start()
            except OSError as error:
                raise ViewListenError(
                    f"cannot listen at {self._host} port {self._port}: {error.strerror or error}"
                ) from error
            port = runner.addresses[0][1]
            host = f"[{self._host}]" if ":" in self._host else self._host
            yield f"{'http' if context is None else 'https'}://{host}:{port}/"
        finally:
            if reloading is not None:
                reloading.cancel()
            await runner.cleanup()

    async def _reload(self, context: ssl.SSLContext) -> None:
        assert self._tls is not None
        before = self._tls.changed()
        while True:
            await asyncio.sleep(_RELOAD_SECONDS)
            with suppress(OSError):
                if (now := self._tls.changed()) != before:
                    try:
                        self._tls.load(context)
                        before = now
                    except AccessError as error:  # half written: the next look sees it whole
                        log.warning("certificate_not_read", cause=str(error))

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Every answer has the headers; no data without the right to see it; every error is JSON."""
        if request.path.startswith("/api/"):
            refusal = self._access.refusal(request.host, request.headers.get("Authorization", ""))
            if refusal is not None:
                status, why = refusal
                answer = _error(status, why)
                if status == 401:
                    answer.headers["WWW-Authenticate"] = 'Bearer realm="falco-streamer view"'
                return answer
        try:
            answer_or_stream = await handler(request)
        except QueryError as error:
            return _error(400, str(error))
        except web.HTTPException as error:
            return _error(error.status, error.reason)
        if not answer_or_stream.prepared:
            answer_or_stream.headers.update(HEADERS)
        return answer_or_stream

    async def _file(self, request: web.Request) -> web.Response:
        found = self._files.get(request.match_info.get("name", "index.html"))
        if found is None:
            raise web.HTTPNotFound
        body, content_type, tag = found
        headers = {"ETag": tag, "Cache-Control": "no-cache"}
        if request.headers.get("If-None-Match") == tag:
            return web.Response(status=304, headers=headers)
        return web.Response(body=body, content_type=content_type, charset="utf-8", headers=headers)

    async def _readyz(self, _: web.Request) -> web.Response:
        ready = self._hub.loaded
        return web.Response(text="ok\n" if ready else "loading\n", status=200 if ready else 503)

    async def _live(self, request: web.Request) -> web.StreamResponse:
        query = Query.parse(request.query.items())
        if self._hub.full:
            return _error(503, "too many viewers")
        answer = web.StreamResponse(
            headers={
                **HEADERS,
                "Content-Type": "text/event-stream",
                "Cache-Control": "no-store",
                "X-Accel-Buffering": "no",
            }
        )
        await answer.prepare(request)
        await live.follow(self._hub, request.query_string, query, answer.write)
        return answer

    async def _status(self, _: web.Request) -> web.Response:
        return _json(self._hub.status())

    async def _overview(self, request: web.Request) -> web.Response:
        return _json(self._hub.written(Query.parse(request.query.items())))

    async def _rows(self, request: web.Request) -> web.Response:
        query = Query.parse(request.query.items())
        return _json(live.page(self._hub, query, _place(request.query.get("before", ""))))

    async def _alert(self, request: web.Request) -> web.Response:
        ring = self._hub.store.ring
        entry = ring.find(request.query.get("id", ""))
        if entry is None:
            return _error(404, "this record is not kept any more, or never came")
        return _json(orjson.dumps(shape.details(ring, ring.row_of(entry), self._stamps)))

    async def _value(self, request: web.Request) -> web.Response:
        """The record's value, byte for byte, as a file: no browser shows it."""
        entry = self._hub.store.ring.find(request.query.get("id", ""))
        if entry is None:
            return _error(404, "this record is not kept any more, or never came")
        disposition = {
            "Content-Disposition": 'attachment; filename="alert.json"',
            "Cache-Control": "no-store",
        }
        return web.Response(body=entry.value, content_type="application/octet-stream", headers=disposition)

    async def _coverage(self, _: web.Request) -> web.Response:
        return _json(self._hub.coverage())


async def _livez(_: web.Request) -> web.Response:
    return web.Response(text="ok\n")


def _place(text: str) -> tuple[int, int] | None:
    if not text:
        return None
    time_ms, _, sequence = text.partition(".")
    if not (time_ms.isdecimal() and sequence.isdecimal() and len(text) < 40):
        raise QueryError("`before` is a row's place")
    return int(time_ms), int(sequence)


def _json(body: bytes) -> web.Response:
    return web.Response(body=body, content_type="application/json", headers={"Cache-Control": "no-store"})


def _error(status: int, why: str) -> web.Response:
    answer = web.json_response({"error": why}, status=status, headers={"Cache-Control": "no-store"})
    answer.headers.update(HEADERS)
    return answer


def _page_files() -> dict[str, tuple[bytes, str, str]]:
    """The page's files by name: content, type, and a tag that changes with the content."""
    found = {}
    for file in files("streamer.view").joinpath("static").iterdir():
        suffix = Path(file.name).suffix
        if suffix in _TYPES:
            body = file.read_bytes()
            found[file.name] = (body, _TYPES[suffix], f'"{hashlib.sha256(body).hexdigest()[:32]}"')
    return found
