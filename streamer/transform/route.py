"""Choose an alert's topic: by its priority, unless a route says otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from streamer.model import Alert, Priority
from streamer.transform.matcher import Matcher


@dataclass(frozen=True, slots=True)
class Route:
    """An exception: alerts that all matchers match go to `topic`."""

    topic: str
    matchers: tuple[Matcher, ...] = ()


class Router:
    """Maps alerts to topics. All topics are known beforehand: nothing in an alert's text can name one."""

    __slots__ = ("_by_priority", "_routes")

    def __init__(self, by_priority: Mapping[Priority, str], routes: Sequence[Route] = ()) -> None:
        self._by_priority = [by_priority.get(priority, "") for priority in sorted(Priority)]
        self._routes = [(route.topic, [matcher.compile() for matcher in route.matchers]) for route in routes]

    def topic(self, alert: Alert) -> str:
        """The topic of an alert; the first route that matches wins."""
        for topic, matchers in self._routes:
            if all(matches(alert) for matches in matchers):
                return topic
        return self._by_priority[alert.priority]
