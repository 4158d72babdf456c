"""Filters: which alerts are dropped because somebody said so, with a reason and perhaps an end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from streamer.model import Alert
from streamer.transform.matcher import Matcher
from streamer.transform.parse import is_internal


class FilterAction(StrEnum):
    """What a filter does with the alerts that it matches."""

    DROP = "drop"
    KEEP = "keep"  # whatever later filters say


@dataclass(frozen=True, slots=True)
class Filter:
    """Drops or keeps the alerts that all its matchers match; the first filter that does decides."""

    name: str
    action: FilterAction
    matchers: tuple[Matcher, ...]
    expires_ns: int | None = None
    """From this time on, by the alerts' own lines, it matches nothing."""


class Filters:
    """All filters, in their order.

    Falco's reports on itself are dropped only by a filter that names their rule: who drops `priority = debug`
    does not mean the report that events were lost.
    """

    __slots__ = ("_filters",)

    def __init__(self, filters: Sequence[Filter] = ()) -> None:
        self._filters = [
            (
                item.name if item.action is FilterAction.DROP else None,
                [matcher.compile() for matcher in item.matchers],
                item.expires_ns,
                {
                    matcher.value
                    for matcher in item.matchers
                    if matcher.name == "rule" and matcher.operator == "=" and not matcher.is_field
                },
            )
            for item in filters
        ]

    def __bool__(self) -> bool:
        return bool(self._filters)

    def drops(self, alert: Alert, line_ns: int) -> str | None:
        """The name of the filter that drops an alert; None if it is kept."""
        internal = is_internal(alert.rule)
        for drops, matchers, expires_ns, rules in self._filters:
            if expires_ns is not None and line_ns >= expires_ns:
                continue
            if internal and alert.rule not in rules:
                continue
            if all(matches(alert) for matches in matchers):
                return drops
        return None
