"""The filter of a page, as it stands in the page's URL.

`priority`, `cluster`, `rule`, `namespace`, `node`, `image`, `source` and `tag` may each be given several times: any of
the values is meant. With `not.` before the name none of them may be. `q` is free text: each of its words, or of its
phrases in double quotes, must stand somewhere in the record, in any case. `where` is a matcher as in `filters` and
`tap --where`. `range` is a length of time up to now, or `from` and `to` are two moments in seconds since the epoch.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import orjson

from streamer.model import Alert, Priority
from streamer.transform.matcher import Matcher
from streamer.transform.matcher_syntax import MatcherError
from streamer.transform.stamp import StampReader
from streamer.view.records import Entry, Series

FACETS: Final = ("priority", "cluster", "rule", "namespace", "node", "image", "source", "tag")
RANGES: Final = {"15m": (900, 15), "6h": (21_600, 300), "24h": (86_400, 1200)}
"""By name: how long, and the width of a bar, in seconds."""
_WIDTHS: Final = (15, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 21_600, 86_400)
_MOST_BARS: Final = 90
_TERM: Final = re.compile(r'"([^"]*)"?|(\S+)')
_MOST_VALUES: Final = 100
_PRIORITIES: Final = tuple(priority.label for priority in Priority)
_MOST_CHARACTERS: Final = 2_000

Pairs: TypeAlias = Iterable[tuple[str, str]]


class QueryError(ValueError):
    """A query that cannot be understood; the text says why."""


@dataclass(frozen=True, slots=True)
class Span:
    """The stretch of time that is shown: of `seconds` up to now, or from a moment on; in bars of one width."""

    seconds: int
    bar_seconds: int
    from_s: int | None = None

    @property
    def live(self) -> bool:
        """Whether it moves with time."""
        return self.from_s is None

    def start(self, now_s: int) -> int:
        """Where its first bar begins."""
        if self.from_s is not None:
            return self.from_s
        return (now_s // self.bar_seconds + 1) * self.bar_seconds - self.seconds


@dataclass(frozen=True)
class Query:
    """Which alerts are meant, and of which time."""

    span: Span
    wanted: tuple[tuple[str, frozenset[str]], ...] = ()
    unwanted: tuple[tuple[str, frozenset[str]], ...] = ()
    terms: tuple[str, ...] = ()
    matchers: tuple[Matcher, ...] = ()
    _needles: tuple[bytes, ...] = field(default=(), compare=False, repr=False)
    _conditions: tuple[Callable[[Alert], bool], ...] = field(default=(), compare=False, repr=False)
    _stamps: StampReader = field(default_factory=StampReader, compare=False, repr=False)

    @staticmethod
    def parse(pairs: Pairs) -> Query:
        """Read what stands behind a URL's `?`; names that are not known are left out. Raises `QueryError`."""
        given: dict[str, list[str]] = {}
        for name, value in pairs:
            if len(value) > _MOST_CHARACTERS:
                raise QueryError(f"`{name}` has more than {_MOST_CHARACTERS} characters")
            given.setdefault(name, []).append(value)
        for name, values in given.items():
            if len(values) > _MOST_VALUES:
                raise QueryError(f"`{name}` has more than {_MOST_VALUES} values")
        for value in (*given.get("priority", ()), *given.get("not.priority", ())):
            if value not in _PRIORITIES:
                raise QueryError(f"`{value}` is not a priority; they are {', '.join(_PRIORITIES)}")
        terms = tuple(
            phrase or word
            for text in given.get("q", ())
            for phrase, word in _TERM.findall(text)
            if phrase or word
        )
        matchers = tuple(_matcher(text) for text in given.get("where", ()))
        return Query(
            _span(given),
            tuple((name, frozenset(given[name])) for name in FACETS if name in given),
            tuple((name, frozenset(given[f"not.{name}"])) for name in FACETS if f"not.{name}" in given),
            terms,
            matchers,
            tuple(orjson.dumps(term)[1:-1].lower() for term in terms),
            tuple(matcher.compile() for matcher in matchers),
        )

    @property
    def of_series(self) -> bool:
        """Whether its counts can be had of series alone; else only of the records that are kept."""
        return not self.terms and not self.matchers

    def takes_series(self, series: Series) -> bool:
        """Whether alerts of a series are meant, as far as a series can tell."""
        return all(_any(series, name, values) for name, values in self.wanted) and not any(
            _any(series, name, values) for name, values in self.unwanted
        )

    def takes(self, entry: Entry) -> bool:
        """Whether a record is meant, whatever its time."""
        if not self.takes_series(entry.series):
            return False
        if self._needles:
            # Headers have the cluster and the node, which are not in the value.
            text = b"\n".join((entry.value, *(value for _, value in entry.headers))).lower()
            if not all(needle in text for needle in self._needles):
                return False
        if not self._conditions:
            return True
        alert = entry.alert(self._stamps)
        return alert is not None and all(condition(alert) for condition in self._conditions)


def facet(series: Series, name: str) -> tuple[str, ...]:
    """The values of a series that a part of the filter is about."""
    if name == "priority":
        return (series.priority.label,)
    if name == "tag":
        return series.tags
    value: str = getattr(series, name)
    return (value,)


def _any(series: Series, name: str, values: frozenset[str]) -> bool:
    return any(value in values for value in facet(series, name))


def _matcher(text: str) -> Matcher:
    try:
        return Matcher.parse(text)
    except MatcherError as error:
        raise QueryError(f"where: {error}") from error


def _span(given: dict[str, list[str]]) -> Span:
    if "from" in given and "to" in given:
        try:
            first, last = int(given["from"][-1]), int(given["to"][-1])
        except ValueError as error:
            raise QueryError("`from` and `to` are seconds since the epoch") from error
        if not 0 <= first < last <= 2**40:
            raise QueryError("`from` is before `to`")
        return between(first, last)
    name = given.get("range", ["15m"])[-1]
    if name not in RANGES:
        raise QueryError(f"`{name}` is not a range; they are {', '.join(RANGES)}")
    return Span(*RANGES[name])


def between(first_s: int, last_s: int, *, least_s: int = 0) -> Span:
    """From one moment to another, in bars that begin where a bar of their width would."""
    widths = (each for each in _WIDTHS if each >= least_s and last_s - first_s <= each * _MOST_BARS)
    width = next(widths, _WIDTHS[-1])
    start = first_s // width * width
    bars = min(-(-(last_s - start) // width), 2 * _MOST_BARS)
    return Span(bars * width, width, start)
