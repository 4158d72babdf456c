"""What the page shows at first glance, for one query: bars over time, and the values that occur most."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from streamer.model import Priority
from streamer.view.counts import COARSE_SECONDS, Cell, Cube
from streamer.view.query import FACETS, Query, Span, between, facet
from streamer.view.records import KINDS, Kind, Series

TOP: Final = 8
_MOST: Final[Mapping[str, int]] = {"cluster": 50, "source": 20, "tag": 40, "priority": 8}
"""Of facets that are offered as a menu, more than the top is shown."""
_SPARK_BARS: Final = 24
_CHARTED: Final = ("rule", "namespace", "node", "image")


def _readable(span: Span, cube: Cube) -> Span:
    """The span in bars that are no narrower than the slots in it: else most of them would be empty."""
    if span.from_s is None or span.bar_seconds >= COARSE_SECONDS or span.from_s >= cube.fine_from_s:
        return span
    return between(span.from_s, span.from_s + span.seconds, least_s=COARSE_SECONDS)


class Overview:
    """The counts of one query in the bars of its span: made of all cells once, and growing with each that changes."""

    def __init__(self, query: Query, cube: Cube, now_s: int) -> None:
        self.query = query
        self._cube = cube
        self._generation = cube.generation
        self._takes: list[bool] = []
        self.span = _readable(query.span, cube)
        self.start_s = self.span.start(now_s)
        bars = max(1, self.span.seconds // self.span.bar_seconds)
        self._bars: deque[Counter[int]] = deque(Counter() for _ in range(bars))
        self._totals: Counter[int] = Counter()

    @property
    def outdated(self) -> bool:
        """Whether series have other numbers now: it has to be made again."""
        return self._generation != self._cube.generation

    def fill(self) -> None:
        """Count all cells of the cube."""
        end_s = self.start_s + len(self._bars) * self.span.bar_seconds
        for slot, held in self._cube.cells(self.start_s, end_s):
            bar = self._bars[(slot - self.start_s) // self.span.bar_seconds]
            for what, count in held.items():
                if self._takes_series(what // KINDS):
                    bar[what] += count
                    self._totals[what] += count

    def add(self, cells: Iterable[Cell]) -> None:
        """Count what has come."""
        for slot, what, count in cells:
            at = (slot - self.start_s) // self.span.bar_seconds
            if 0 <= at < len(self._bars) and self._takes_series(what // KINDS):
                self._bars[at][what] += count
                self._totals[what] += count

    def advance(self, now_s: int) -> None:
        """Move with time, if its span does."""
        start_s = self.span.start(now_s)
        while self.start_s < start_s:
            self.start_s += self.span.bar_seconds
            for what, count in self._bars.popleft().items():
                self._totals[what] -= count
                if not self._totals[what]:
                    del self._totals[what]
            self._bars.append(Counter())

    def as_dict(self) -> dict[str, Any]:
        """As the page gets it."""
        series = self._cube.series
        totals = [0] * KINDS
        for what, count in self._totals.items():
            totals[what % KINDS] += count
        return {
            "from": self.start_s,
            "bar_seconds": self.span.bar_seconds,
            "live": self.span.live,
            "totals": {kind.name.lower(): totals[kind] for kind in Kind},
            "published": self._by_priority(),
            "overflow": self._by_kind(Kind.OVERFLOW),
            "repeated": self._by_kind(Kind.REPEATED),
            "top": {name: self._top(name, series) for name in FACETS},
        }

    def _takes_series(self, number: int) -> bool:
        known = self._takes
        while number >= len(known):
            known.append(self.query.takes_series(self._cube.series[len(known)]))
        return known[number]

    def _by_priority(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for at, bar in enumerate(self._bars):
            for what, count in bar.items():
                if what % KINDS == Kind.PUBLISHED:
                    label = self._cube.series[what // KINDS].priority.label
                    found.setdefault(label, [0] * len(self._bars))[at] += count
        return {each.label: found[each.label] for each in Priority if each.label in found}

    def _by_kind(self, kind: Kind) -> list[int]:
        return [sum(count for what, count in bar.items() if what % KINDS == kind) for bar in self._bars]

    def _top(self, name: str, series: list[Series]) -> list[dict[str, Any]]:
        """The values with the most alerts, whatever became of these; a value that is missing is none."""
        published: Counter[str] = Counter()
        others: Counter[str] = Counter()
        for what, count in self._totals.items():
            into = published if what % KINDS == Kind.PUBLISHED else others
            for value in facet(series[what // KINDS], name):
                into[value] += count
        ranked = sorted(
            {value for value in (*published, *others) if value},
            key=lambda value: (-published[value] - others[value], value),
        )
        top = ranked[: _MOST.get(name, TOP)]
        lines = self._sparks(name, set(top), lambda number: series[number]) if name in _CHARTED else {}
        return [
            {
                "value": value,
                "published": published[value],
                "suppressed": others[value],
                **({"spark": lines[value]} if name in _CHARTED else {}),
            }
            for value in top
        ]

    def _sparks(self, name: str, values: set[str], series: Callable[[int], Series]) -> dict[str, list[int]]:
        bars = len(self._bars)
        points = min(_SPARK_BARS, bars)
        found = {value: [0] * points for value in values}
        for at, bar in enumerate(self._bars):
            point = at * points // bars
            for what, count in bar.items():
                for value in facet(series(what // KINDS), name):
                    if value in found:
                        found[value][point] += count
        return found
