"""Everything that the viewer keeps, in bounded memory, and what it answers. Pure: the time is an argument."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from streamer.view.counts import Cell, Cube
from streamer.view.health import HealthBook
from streamer.view.overview import Overview
from streamer.view.query import Query
from streamer.view.records import KINDS, Entry, RecordReader
from streamer.view.ring import Ring
from streamer.view.verdict import Verdict, judge

if TYPE_CHECKING:
    from streamer.sink import Message

_CHANGES: Final = 4_000
"""Changes that are kept for those who follow; who is further behind asks for everything."""


class Change(NamedTuple):
    """An alert or summary that came, and the cells that grew by it."""

    entry: Entry
    cells: list[Cell]
    kept: bool
    """Whether the ring has it."""


class Store:
    """The counts, the last records, and what health records say."""

    def __init__(
        self,
        now_ms: int,
        *,
        keep_seconds: int = 86_400,
        most_records: int = 20_000,
        most_bytes: int = 64 << 20,
    ) -> None:
        self.cube = Cube(now_ms // 1000, keep_seconds=keep_seconds)
        self.ring = Ring(most_records=most_records, most_bytes=most_bytes)
        self.health = HealthBook()
        self.records = 0
        """Alerts, summaries and health records that were read."""
        self.version = 0
        """How many alerts and summaries came; the number of the next change."""
        self._changes: deque[Change] = deque(maxlen=_CHANGES)
        self._reader = RecordReader()

    def note(self, messages: Iterable[Message], now_ms: int, *, live: bool) -> None:
        """Take records; `live` says that they are read as they are written, so that their age is their delay."""
        now_s = now_ms // 1000
        for seen in messages:
            headers = dict(seen.headers)
            kind = headers.get("kind", b"").decode(errors="replace")
            cluster = headers.get("cluster", b"").decode(errors="replace")
            if kind == "health":
                self.records += 1
                self.health.note(cluster, seen.value or b"", seen.timestamp_ms)
                continue
            entry = self._reader.entry(seen, kind, headers)
            if entry is None:
                continue
            self.records += 1
            cells = self.cube.add(self.cube.number(entry.series), entry.kind, entry.spread, now_s)
            kept = self.ring.add(entry)
            self._changes.append(Change(entry, cells, kept))
            self.version += 1
            delay = now_ms - entry.time_ms if live and not entry.head_id else None
            self.health.heard(cluster, entry.key, entry.time_ms, delay)

    def advance(self, now_ms: int) -> None:
        """Let time pass: forget what is too old."""
        self.cube.advance(now_ms // 1000)
        self.health.forget(now_ms)

    def since(self, version: int) -> Iterator[Change] | None:
        """The changes from a version on; None where too many have come since."""
        missing = self.version - version
        if missing > len(self._changes):
            return None
        start = len(self._changes) - missing
        return (self._changes[at] for at in range(start, len(self._changes)))

    def overview(self, query: Query, now_ms: int) -> Overview:
        """The counts of a query: of all alerts, or of the records that are kept where it looks into records."""
        made = Overview(query, self.cube, now_ms // 1000)
        if query.of_series:
            made.fill()
        else:
            for entry in self.ring.newest_first():
                if query.takes(entry):
                    made.add(self._cells_of(entry))
        return made

    def add_to(self, overview: Overview, change: Change) -> None:
        """Let an overview know of a change."""
        if overview.query.of_series:
            overview.add(change.cells)
        elif change.kept and overview.query.takes(change.entry):
            overview.add(self._cells_of(change.entry))

    def rows(
        self, query: Query, now_ms: int, limit: int, before: tuple[int, int] | None = None
    ) -> list[Entry]:
        """The rows of the list, the newest first: alerts, and summaries whose head is not kept.

        A row is meant where its alert is, or one of the summaries on it.
        """
        start_s = query.span.start(now_ms // 1000)
        end_ms = None if query.span.live else (start_s + query.span.seconds) * 1000
        found: list[Entry] = []
        for entry in self.ring.newest_first(before):
            if end_ms is not None and entry.time_ms >= end_ms:
                continue
            if entry.time_ms < start_s * 1000:
                break
            if self.ring.row_of(entry) is entry and self.takes_row(query, entry):
                found.append(entry)
                if len(found) >= limit:
                    break
        return found

    def takes_row(self, query: Query, entry: Entry) -> bool:
        """Whether a row is meant: by its alert, or by one of the summaries on it."""
        if query.takes(entry):
            return True
        return not query.of_series and any(query.takes(each) for each in self.ring.repeats(entry))

    def verdicts(self, now_ms: int) -> list[Verdict]:
        """How each cluster stands, by name."""
        return [judge(health, now_ms) for _, health in sorted(self.health.clusters.items())]

    def sizes(self) -> dict[str, Any]:
        """What is kept, and how far back it goes."""
        return {
            "records": self.records,
            "kept": len(self.ring),
            "kept_bytes": self.ring.bytes,
            "kept_since_ms": self.ring.oldest_ms if self.ring.full else None,
            "counted_since_ms": self.cube.since_s * 1000,
            "cells": self.cube.cell_count,
        }

    def _cells_of(self, entry: Entry) -> list[Cell]:
        what = self.cube.number(entry.series) * KINDS + entry.kind
        return [(second, what, count) for second, count in entry.spread]
