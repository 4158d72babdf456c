"""Choose an alert's topic: by its priority, unless a route says otherwise."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import translate

from streamer.model import Alert, Priority


@dataclass(frozen=True, slots=True)
class Route:
    """An exception: alerts that match every condition given go to `topic`. An empty condition matches all.

    `rules` are globs, `namespaces` are those of the workload the alert is about (`k8s.ns.name`).
    """

    topic: str
    rules: tuple[str, ...] = ()
    tags: frozenset[str] = frozenset()
    sources: frozenset[str] = frozenset()
    namespaces: frozenset[str] = frozenset()


class Router:
    """Maps alerts to topics. All topics are known beforehand: nothing in an alert's text can name one."""

    __slots__ = ("_by_priority", "_routes")

    def __init__(self, by_priority: Mapping[Priority, str], routes: Sequence[Route] = ()) -> None:
        self._by_priority = dict(by_priority)
        self._routes = [(route, _any_glob(route.rules)) for route in routes]

    def topic(self, alert: Alert) -> str:
        """The topic of an alert; the first route that matches wins."""
        for route, rules in self._routes:
            if (
                (rules is None or rules.match(alert.rule))
                and (not route.tags or not route.tags.isdisjoint(alert.tags))
                and (not route.sources or alert.source in route.sources)
                and (not route.namespaces or _namespace(alert) in route.namespaces)
            ):
                return route.topic
        return self._by_priority[alert.priority]


def _any_glob(globs: Sequence[str]) -> re.Pattern[str] | None:
    return re.compile("|".join(map(translate, globs))) if globs else None


def _namespace(alert: Alert) -> str:
    # Audit alerts carry their namespace elsewhere; either field may be null, or a list.
    for name in ("k8s.ns.name", "ka.target.namespace"):
        if isinstance(namespace := alert.fields.get(name), str):
            return namespace
    return ""
