"""The last records, by time: as many as fit the bounds."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from operator import attrgetter
from typing import Final

from streamer.view.records import Entry, Kind

_BY_PLACE: Final = attrgetter("place")
_AT_ONCE: Final = 200
"""So many are forgotten at a time: it costs the same as to forget one."""


class Ring:
    """Alerts and summaries, the oldest first. A summary belongs to the alert that opened its window, its head."""

    def __init__(self, *, most_records: int = 20_000, most_bytes: int = 64 << 20) -> None:
        self._most_records = most_records
        self._most_bytes = most_bytes
        self._entries: list[Entry] = []
        self._by_id: dict[str, Entry] = {}
        self._repeats: dict[str, list[Entry]] = {}
        self.bytes = 0
        self.full = False
        """Whether a record was forgotten, or not taken, for its age."""

    def add(self, entry: Entry) -> bool:
        """Keep a record; False where it is older than all of a full ring."""
        entries = self._entries
        if entries and entry.place < entries[-1].place:
            if self.full and entry.place < entries[0].place:
                return False
            insort(entries, entry, key=_BY_PLACE)
        else:
            entries.append(entry)
        self.bytes += entry.size_bytes
        if entry.kind is Kind.REPEATED:
            insort(self._repeats.setdefault(entry.head_id, []), entry, key=_BY_PLACE)
        self._by_id[entry.id] = entry
        if len(entries) > self._most_records or self.bytes > self._most_bytes:
            self._forget()
        return True

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def oldest_ms(self) -> int | None:
        """The time of the oldest record; None where there is none."""
        return self._entries[0].time_ms if self._entries else None

    def newest_first(self, before: tuple[int, int] | None = None) -> Iterator[Entry]:
        """The records, the newest first; those that stand before a place."""
        at = len(self._entries) if before is None else bisect_left(self._entries, before, key=_BY_PLACE)
        while at:
            at -= 1
            yield self._entries[at]

    def find(self, identity: str) -> Entry | None:
        """The record of a `ce_id`."""
        return self._by_id.get(identity)

    def repeats(self, entry: Entry) -> list[Entry]:
        """The summaries on a row, by time: those of the alert's window, or of the window that this one is of."""
        return self._repeats.get(entry.head_id if entry.kind is Kind.REPEATED else entry.id, [])

    def row_of(self, entry: Entry) -> Entry:
        """Where a record is listed: a summary with its head, or else with the first summary of that window."""
        if entry.kind is not Kind.REPEATED:
            return entry
        head = self._by_id.get(entry.head_id)
        if head is not None:
            return head
        summaries = self._repeats.get(entry.head_id)
        return summaries[0] if summaries else entry

    def _forget(self) -> None:
        self.full = True
        entries, at = self._entries, 0
        fewest = self._most_records - min(_AT_ONCE, self._most_records // 10)
        while at < len(entries) - 1 and (len(entries) - at > fewest or self.bytes > self._most_bytes):
            entry = entries[at]
            at += 1
            self.bytes -= entry.size_bytes
            if self._by_id.get(entry.id) is entry:
                del self._by_id[entry.id]
            if entry.kind is Kind.REPEATED:
                summaries = self._repeats[entry.head_id]
                summaries.remove(entry)
                if not summaries:
                    del self._repeats[entry.head_id]
        del entries[:at]
