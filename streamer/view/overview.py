"""What the page shows at first glance, for one query: bars over time, and the values that occur most."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from heapq import nsmallest
from typing import Any, Final, TypeAlias

from streamer.model import Priority
from streamer.view.counts import COARSE_SECONDS, Cell, Cube
from streamer.view.query import FACETS, Query, Span, between, facet
from streamer.view.records import KINDS, Kind

TOP: Final = 8
_MOST: Final[Mapping[str, int]] = {"cluster": 50, "source": 20, "tag": 40, "priority": 8}
"""Of facets that are offered as a menu, more than the top is shown."""
_SPARK_BARS: Final = 24
_CHARTED: Final = frozenset({"rule", "namespace", "node", "image"})
_Facet: TypeAlias = tuple[str, str]
"""The name of a facet, and a value."""


def _readable(span: Span, cube: Cube) -> Span:
    """The span in bars that are no narrower than the slots in it: else most of them would be empty."""
    if span.from_s is None or span.bar_seconds >= COARSE_SECONDS or span.from_s >= cube.fine_from_s:
        return span
    return between(span.from_s, span.from_s + span.seconds, least_s=COARSE_SECONDS)


class _Bar:
    """The counts in one bar, as they are shown; `cells` is what they are made of."""

    __slots__ = ("cells", "kinds", "priorities", "values")

    def __init__(self) -> None:
        self.cells: Counter[int] = Counter()
        self.kinds = [0] * KINDS
        self.priorities = [0] * len(Priority)
        """Of published alerts."""
        self.values: Counter[_Facet] = Counter()
        """Of the facets that have a line of their own."""


class Overview:
    """The counts of one query in the bars of its span: made of all cells once, and growing with each that changes.

    Sums are kept as they are shown, so that a page that looks on costs by what comes and not by what there is.
    """

    def __init__(self, query: Query, cube: Cube, now_s: int) -> None:
        self.query = query
        self._cube = cube
        self._generation = cube.generation
        self._takes: list[bool] = []
        self._facets: dict[int, tuple[_Facet, ...]] = {}
        self.span = _readable(query.span, cube)
        self.start_s = self.span.start(now_s)
        bars = max(1, self.span.seconds // self.span.bar_seconds)
        self._bars: deque[_Bar] = deque(_Bar() for _ in range(bars))
        self._sums: tuple[Counter[_Facet], Counter[_Facet]] = (Counter(), Counter())
        """By facet and value: of published alerts, and of suppressed ones."""

    @property
    def outdated(self) -> bool:
        """Whether series have other numbers now: it has to be made again."""
        return self._generation != self._cube.generation

    def fill(self) -> None:
        """Count all cells of the cube."""
        width = self.span.bar_seconds
        found = [Counter[int]() for _ in self._bars]
        for slot, held in self._cube.cells(self.start_s, self.start_s + len(found) * width):
            sums = found[(slot - self.start_s) // width]
            for what, count in held.items():
                if self._takes_series(what // KINDS):
                    sums[what] += count
        for bar, cells in zip(self._bars, found, strict=True):
            for what, count in cells.items():
                self._count(bar, what, count)

    def add(self, cells: Iterable[Cell]) -> None:
        """Count what has come."""
        for slot, what, count in cells:
            at = (slot - self.start_s) // self.span.bar_seconds
            if 0 <= at < len(self._bars) and self._takes_series(what // KINDS):
                self._count(self._bars[at], what, count)

    def advance(self, now_s: int) -> None:
        """Move with time, if its span does."""
        start_s = self.span.start(now_s)
        while self.start_s < start_s:
            self.start_s += self.span.bar_seconds
            for what, count in self._bars.popleft().cells.items():
                sums = self._sums[what % KINDS != Kind.PUBLISHED]
                for each in self._facets_of(what // KINDS):
                    sums[each] -= count
                    if not sums[each]:
                        del sums[each]
            self._bars.append(_Bar())

    def as_dict(self) -> dict[str, Any]:
        """As the page gets it."""
        by_kind = {kind: [bar.kinds[kind] for bar in self._bars] for kind in Kind}
        by_priority = {each: [bar.priorities[each] for bar in self._bars] for each in Priority}
        return {
            "from": self.start_s,
            "bar_seconds": self.span.bar_seconds,
            "live": self.span.live,
            "totals": {kind.name.lower(): sum(numbers) for kind, numbers in by_kind.items()},
            "published": {each.label: numbers for each, numbers in by_priority.items() if any(numbers)},
            "overflow": by_kind[Kind.OVERFLOW],
            "repeated": by_kind[Kind.REPEATED],
            "top": self._top(),
        }

    def _count(self, bar: _Bar, what: int, count: int) -> None:
        number, kind = divmod(what, KINDS)
        bar.cells[what] += count
        bar.kinds[kind] += count
        if kind == Kind.PUBLISHED:
            bar.priorities[self._cube.series[number].priority] += count
        sums = self._sums[kind != Kind.PUBLISHED]
        for each in self._facets_of(number):
            sums[each] += count
            if each[0] in _CHARTED:
                bar.values[each] += count

    def _takes_series(self, number: int) -> bool:
        known = self._takes
        while number >= len(known):
            known.append(self.query.takes_series(self._cube.series[len(known)]))
        return known[number]

    def _facets_of(self, number: int) -> tuple[_Facet, ...]:
        """The facets of a series and their values; a value that is missing is none."""
        known = self._facets.get(number)
        if known is None:
            series = self._cube.series[number]
            known = tuple((name, value) for name in FACETS for value in facet(series, name) if value)
            self._facets[number] = known
        return known

    def _top(self) -> dict[str, list[dict[str, Any]]]:
        """By facet, the values with the most alerts, whatever became of these."""
        published, others = self._sums
        ranked: dict[str, list[tuple[int, str]]] = {name: [] for name in FACETS}
        for each in published.keys() | others.keys():
            ranked[each[0]].append((-published[each] - others[each], each[1]))
        return {
            name: [self._row((name, value)) for _, value in nsmallest(_MOST.get(name, TOP), found)]
            for name, found in ranked.items()
        }

    def _row(self, each: _Facet) -> dict[str, Any]:
        published, others = self._sums
        row = {"value": each[1], "published": published[each], "suppressed": others[each]}
        if each[0] in _CHARTED:
            points = min(_SPARK_BARS, len(self._bars))
            spark = [0] * points
            for at, bar in enumerate(self._bars):
                spark[at * points // len(self._bars)] += bar.values[each]
            row["spark"] = spark
        return row
