"""The stream of server-sent events that a page listens to.

`status`: how feed and clusters stand. `overview`: bars and top values. `rows`: new rows, and repeats of rows.
`page`: the whole first page of the list, at the start and where too much came to be sent one by one. Each is sent when
it has changed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

import orjson

from streamer.view import shape
from streamer.view.hub import Hub, Viewer
from streamer.view.query import Query
from streamer.view.records import Kind

PAGE_ROWS: Final = 100
_PACE_SECONDS: Final = 0.25
"""The least time between two events: what comes within it is sent together."""
_KEEP_ALIVE_SECONDS: Final = 15.0
_STALLED_SECONDS: Final = 30.0
"""A reader that takes nothing for so long is gone."""

Write = Callable[[bytes], Awaitable[None]]


async def follow(hub: Hub, key: str, query: Query, write: Write) -> None:
    """Write events for one viewer, until it is gone or cancelled."""
    with hub.viewer(key, query) as viewer, suppress(ConnectionError, TimeoutError):
        await _Stream(hub, key, query, viewer, write).run()


class _Stream:
    """One viewer's stream: what it was sent last, and how far it has followed."""

    def __init__(self, hub: Hub, key: str, query: Query, viewer: Viewer, write: Write) -> None:
        self._hub = hub
        self._key = key
        self._query = query
        self._viewer = viewer
        self._write = write
        self._status = b""
        self._overview = b""
        self._version = -1

    async def run(self) -> None:
        quiet_since = asyncio.get_running_loop().time()
        while True:
            self._viewer.changed.clear()
            text = b"".join(self._events())
            now = asyncio.get_running_loop().time()
            if not text and now - quiet_since >= _KEEP_ALIVE_SECONDS:
                text = b": still here\n\n"
            if text:
                quiet_since = now
                async with asyncio.timeout(_STALLED_SECONDS):
                    await self._write(text)
            await asyncio.sleep(_PACE_SECONDS)
            await self._viewer.changed.wait()

    def _events(self) -> list[bytes]:
        events = []
        status = self._hub.status()
        if status != self._status:
            self._status = status
            events.append(_event(b"status", status))
        overview = self._hub.overview(self._key)
        if overview is not self._overview:
            self._overview = overview
            events.append(_event(b"overview", overview))
        if self._version != self._hub.store.version:
            events.append(self._list())
            self._version = self._hub.store.version
        elif self._version < 0:
            events.append(self._page())
        return [each for each in events if each]

    def _list(self) -> bytes:
        """What is new in the list; all of it where that is more than a page."""
        store = self._hub.store
        changes = None if self._version < 0 else store.since(self._version)
        if changes is None:
            return self._page()
        start_ms = self._query.span.start(self._hub.clock_ms() // 1000) * 1000
        rows: dict[str, Any] = {}
        repeats: dict[str, Any] = {}
        for change in changes:
            entry = change.entry
            if not change.kept or not self._query.span.live:
                continue
            row = store.ring.row_of(entry)
            if not store.takes_row(self._query, row):
                continue
            if entry.kind is Kind.REPEATED and row is not entry:
                repeats[row.id] = {"id": row.id, **shape.repeats(store.ring, row)}
                if store.takes_row(self._query, entry) and not self._query.of_series:
                    rows[row.id] = shape.row(store.ring, row)
            elif row.time_ms >= start_ms:
                rows[row.id] = shape.row(store.ring, row)
        if len(rows) > PAGE_ROWS:
            return self._page()
        for identity in rows:
            repeats.pop(identity, None)
        if not rows and not repeats:
            return b""
        return _event(b"rows", orjson.dumps({"rows": list(rows.values()), "repeats": list(repeats.values())}))

    def _page(self) -> bytes:
        return _event(b"page", page(self._hub, self._query))


def page(hub: Hub, query: Query, before: tuple[int, int] | None = None) -> bytes:
    """A page of the list, as JSON."""
    store = hub.store
    rows = store.rows(query, hub.clock_ms(), PAGE_ROWS, before)
    content = {"rows": [shape.row(store.ring, row) for row in rows], "more": len(rows) == PAGE_ROWS}
    return orjson.dumps(content)


def _event(name: bytes, data: bytes) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name, data)
