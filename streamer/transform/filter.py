"""Filters: which alerts are dropped because somebody said so, with a reason and perhaps an end."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import orjson
import re2

from streamer.model import Alert, Priority
from streamer.transform.parse import is_internal

_MATCHER: Final = re.compile(r"\s*([^\s=!~\"]+)\s*(=~|!~|!=|=)\s*(.*?)\s*", re.DOTALL)
_TOP: Final = ("rule", "priority", "source", "hostname", "tags")


class MatcherError(ValueError):
    """A matcher that cannot be read; the message says why."""


@dataclass(frozen=True, slots=True)
class Matcher:
    """One condition on an alert: `name operator value`, as Prometheus' Alertmanager writes them.

    `name` is rule, priority, source, hostname, tags or a key of `output_fields`. An absent or null value is the
    empty text; of a list, any element may match (and none may, for != and !~). Regular expressions are RE2's, which
    take linear time whatever attackers write, and match whole values.
    """

    name: str
    operator: str
    value: str

    @staticmethod
    def parse(text: str) -> Matcher:
        """Read a matcher, such as `k8s.ns.name =~ "dev-.*"`; raises `MatcherError`."""
        found = _MATCHER.fullmatch(text)
        if found is None:
            raise MatcherError(f"{text!r} is no matcher: expected `name = value` (or !=, =~, !~)")
        name, operator, value = found.groups()
        if value[:1] == '"':
            try:
                value = orjson.loads(value)
            except orjson.JSONDecodeError as error:
                raise MatcherError(f"the quoted value of {text!r} is broken: {error}") from error
        elif not value:
            raise MatcherError(f'{text!r} has no value; the empty one is written `""`')
        if "~" in operator:
            try:
                _expression(value)
            except re2.error as error:
                why = error.args[0].decode() if error.args else "no reason given"
                raise MatcherError(f"the regular expression of {text!r} is broken: {why}") from error
        elif name == "priority":
            if (priority := Priority.parse(value)) is None:
                known = ", ".join(each.label for each in Priority)
                raise MatcherError(f"{value!r} is no priority; they are {known}")
            value = priority.label  # `Info` is Informational to Falco's own configuration as well
        return Matcher(name, operator, value)

    def compile(self) -> Callable[[Alert], bool]:
        """The condition as a function."""
        values = _reader(self.name)
        if "~" in self.operator:
            # Priorities are compared in lower case; an expression is not text to be lowered (`\S` is not `\s`).
            pattern = _expression(f"(?i:{self.value})" if self.name == "priority" else self.value)

            def holds(alert: Alert) -> bool:
                return any(pattern.fullmatch(value) for value in values(alert))
        else:

            def holds(alert: Alert) -> bool:
                return self.value in values(alert)

        return (lambda alert: not holds(alert)) if self.operator[0] == "!" else holds


class FilterAction(StrEnum):
    """What a filter does with the alerts that it matches."""

    DROP = "drop"
    KEEP = "keep"  # whatever later filters say


@dataclass(frozen=True, slots=True)
class Filter:
    """Drops or keeps the alerts that all its matchers match; the first filter that does decides."""

    action: FilterAction
    matchers: tuple[Matcher, ...]
    reason: str
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
                item.action is FilterAction.DROP,
                [matcher.compile() for matcher in item.matchers],
                item.expires_ns,
                {
                    matcher.value
                    for matcher in item.matchers
                    if matcher.name == "rule" and matcher.operator == "="
                },
            )
            for item in filters
        ]

    def __bool__(self) -> bool:
        return bool(self._filters)

    def drops(self, alert: Alert, line_ns: int) -> bool:
        """Whether an alert is dropped."""
        internal = is_internal(alert.rule)
        for drops, matchers, expires_ns, rules in self._filters:
            if expires_ns is not None and line_ns >= expires_ns:
                continue
            if internal and alert.rule not in rules:
                continue
            if all(matches(alert) for matches in matchers):
                return drops
        return False


def _expression(pattern: str) -> Any:
    options = re2.Options()
    options.dot_nl = True
    options.log_errors = False
    return re2.compile(pattern, options)


def _reader(name: str) -> Callable[[Alert], Sequence[str]]:
    if name == "priority":
        return lambda alert: (alert.priority.label,)
    if name in _TOP:
        return lambda alert: _texts(getattr(alert, name))
    return lambda alert: _texts(alert.fields.get(name))


def _texts(value: Any) -> Sequence[str]:
    if type(value) is str:
        return (value,)
    if isinstance(value, list | tuple):
        return [text for item in value for text in _texts(item)] or ("",)
    if value is None:
        return ("",)
    return (str(value).lower() if type(value) is bool else str(value),)
