"""How many alerts there were, by time and by the facts in `Series`, in bounded memory.

A *cell* is the number of alerts of one series and kind in one slot of time. Slots have 15 s in the last half hour and
a minute before it. Where there is too much, the oldest slots are forgotten and `since_s` moves; series beyond the bound
are counted with `OTHER` in place of their names, so that no alert is left out of a count.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from streamer.view.records import KINDS, Kind, Series

FINE_SECONDS: Final = 15
COARSE_SECONDS: Final = 60
FINE_FOR_SECONDS: Final = 1800
OTHER: Final = "(other)"
_NAMED: Final = ("cluster", "rule", "namespace", "node", "image", "source")

Cell = tuple[int, int, int]
"""The start of a slot in seconds, what is counted (`series number * KINDS + kind`), how many."""


class Cube:
    """The counts of all alerts from `since_s` on."""

    def __init__(
        self,
        now_s: int,
        *,
        keep_seconds: int = 86_400,
        most_values: int = 2_000,
        most_series: int = 20_000,
        most_cells: int = 500_000,
    ) -> None:
        self.series: list[Series] = []
        self.generation = 0
        """Changes when series get other numbers."""
        self._keep_seconds = keep_seconds
        self._most_values = most_values
        self._most_series = most_series
        self._most_cells = most_cells
        self._numbers: dict[Series, int] = {}
        self._known: dict[Series, int] = {}
        """Series as they come, by number: several are one where values were replaced by OTHER."""
        self._values: dict[str, set[str]] = {name: set() for name in _NAMED}
        self._slots: dict[int, dict[int, int]] = {}
        self._cells = 0
        self._full = False
        self.since_s = now_s - keep_seconds
        self.fine_from_s = 0
        self.advance(now_s)

    def number(self, series: Series) -> int:
        """The number of a series; it gets one where it is new."""
        known = self._known.get(series)
        if known is not None:
            return known
        bounded = self._bounded(series)
        number = self._numbers.get(bounded)
        if number is None:
            number = self._numbers[bounded] = len(self.series)
            self.series.append(bounded)
        if len(self._known) >= 2 * self._most_series:
            self._known.clear()
        self._known[series] = number
        return number

    def add(self, number: int, kind: Kind, spread: Iterable[tuple[int, int]], now_s: int) -> list[Cell]:
        """Count alerts of a series at some seconds; returns the cells that grew.

        What is older than `since_s` is counted there, and what is of the future now.
        """
        what, cells = number * KINDS + kind, []
        for second, count in spread:
            slot = self._slot(min(max(second, self.since_s), now_s))
            held = self._slots.get(slot)
            if held is None:
                held = self._slots[slot] = {}
            before = held.get(what)
            if before is None:
                self._cells += 1
                held[what] = count
            else:
                held[what] = before + count
            cells.append((slot, what, count))
        return cells

    def advance(self, now_s: int) -> None:
        """Let time pass: merge slots that are not the newest, forget those that are too old or too many."""
        fine_from_s = (now_s - FINE_FOR_SECONDS) // COARSE_SECONDS * COARSE_SECONDS
        if fine_from_s > self.fine_from_s:
            before, self.fine_from_s = self.fine_from_s, fine_from_s
            for slot in [slot for slot in self._slots if before <= slot < fine_from_s]:
                if slot % COARSE_SECONDS:
                    self._merge(slot, slot // COARSE_SECONDS * COARSE_SECONDS)
        oldest_s = (now_s - self._keep_seconds) // COARSE_SECONDS * COARSE_SECONDS
        if self._cells > self._most_cells:
            self._forget_oldest()
        if oldest_s > self.since_s:
            self.since_s = oldest_s
            for slot in [slot for slot in self._slots if slot < oldest_s]:
                self._cells -= len(self._slots.pop(slot))
        if self._full:
            self._renumber()

    def cells(self, from_s: int, to_s: int) -> Iterator[tuple[int, dict[int, int]]]:
        """The slots that begin in a stretch of time."""
        for slot, held in self._slots.items():
            if from_s <= slot < to_s:
                yield slot, held

    @property
    def cell_count(self) -> int:
        """How many numbers are kept."""
        return self._cells

    def _slot(self, second: int) -> int:
        width = FINE_SECONDS if second >= self.fine_from_s else COARSE_SECONDS
        return second // width * width

    def _merge(self, slot: int, into: int) -> None:
        moved = self._slots.pop(slot)
        held = self._slots.setdefault(into, {})
        self._cells -= len(moved) + len(held)
        for what, count in moved.items():
            held[what] = held.get(what, 0) + count
        self._cells += len(held)

    def _forget_oldest(self) -> None:
        for slot in sorted(self._slots):
            if self._cells <= self._most_cells * 9 // 10:
                break
            self._cells -= len(self._slots.pop(slot))
            self.since_s = max(self.since_s, slot + COARSE_SECONDS)

    def _bounded(self, series: Series) -> Series:
        changed: dict[str, Any] = {}
        for name, values in self._values.items():
            value = getattr(series, name)
            if value not in values:
                if len(values) >= self._most_values:
                    changed[name] = OTHER
                    self._full = True
                else:
                    values.add(value)
        if len(self.series) >= self._most_series and series not in self._numbers:
            self._full = True
            cluster = changed.get("cluster", series.cluster)
            return Series(cluster, series.priority, OTHER, OTHER, OTHER, OTHER, OTHER, ())
        return series._replace(**changed) if changed else series

    def _renumber(self) -> None:
        """Forget series of which nothing is kept any more; the bounds have been met."""
        self._full = False
        used = {what // KINDS for held in self._slots.values() for what in held}
        if len(used) > len(self.series) * 9 // 10:
            return
        kept = [series for number, series in enumerate(self.series) if number in used]
        numbers = {series: number for number, series in enumerate(kept)}
        moved = {number: numbers[series] for number, series in enumerate(self.series) if series in numbers}
        for slot, held in self._slots.items():
            self._slots[slot] = {
                moved[what // KINDS] * KINDS + what % KINDS: count for what, count in held.items()
            }
        self.series, self._numbers, self.generation = kept, numbers, self.generation + 1
        self._known.clear()
        for name, values in self._values.items():
            values.clear()
            values.update(getattr(series, name) for series in kept)
