"""Matchers: one condition on an alert, for filters, routes and `tap --where`."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import orjson

from streamer.model import Alert, Priority
from streamer.transform.matcher_syntax import TOP_LEVEL, expression, quote, read

# A greater priority is a more urgent one; Falco's numbers run the other way.
_ORDER: Final[dict[str, Callable[[int, int], bool]]] = {
    ">=": operator.le,
    "<=": operator.ge,
    ">": operator.lt,
    "<": operator.gt,
}

_MOST_LEVELS: Final = 32
"""Of lists in lists. Alerts may hold 1,024, more than may be walked by recursion; Falco prints one."""

Texts: TypeAlias = Sequence[str | None]
"""What a value is compared as; None stands for what is nested too deep."""


@dataclass(frozen=True, slots=True)
class Matcher:
    """One condition on an alert.

    A matcher compares a value that the alert has: where the field is absent, null or an empty list, nothing matches,
    negative operators included, unless it ends with `or absent`. Of a list, any element may match, and none may for
    != and !~. Objects are compared as JSON. What is nested too deep to be compared is there, and nothing matches it,
    negative operators included. Regular expressions are RE2's, which take linear time whatever attackers write, and
    match whole values.
    """

    name: str
    operator: str
    value: str
    quoted: bool = False
    """Whether the name was given in quotes: a key of `output_fields`, whatever it is."""
    or_absent: bool = False

    @staticmethod
    def parse(text: str) -> Matcher:
        """Read a matcher, such as `k8s.ns.name =~ "dev-.*"`; raises `MatcherError`."""
        return Matcher(*read(text))

    def __str__(self) -> str:
        name = quote(self.name) if self.quoted else self.name
        return f"{name} {self.operator} {quote(self.value)}{' or absent' if self.or_absent else ''}"

    @property
    def is_field(self) -> bool:
        """Whether it looks into `output_fields`."""
        return self.quoted or self.name not in TOP_LEVEL

    def compile(self) -> Callable[[Alert], bool]:
        """The condition as a function."""
        if self.operator in _ORDER:
            compare, bound = _ORDER[self.operator], Priority.parse(self.value)
            assert bound is not None
            return lambda alert: compare(alert.priority, bound)
        holds, or_absent = self._holds(), self.or_absent
        values = _reader(self.name, is_field=self.is_field)
        if self.operator[0] == "!":
            return lambda alert: (
                None not in found and not holds(found) if (found := values(alert)) else or_absent
            )
        return lambda alert: holds(found) if (found := values(alert)) else or_absent

    def _holds(self) -> Callable[[Texts], bool]:
        """Whether one of several values is equal, or matches the expression."""
        value = self.value
        if "~" not in self.operator:
            return lambda found: value in found
        # Priorities are compared in lower case; an expression is not text to be lowered (`\S` is not `\s`).
        ignore_case = self.name == "priority" and not self.is_field
        fullmatch = expression(f"(?i:{value})" if ignore_case else value).fullmatch
        return lambda found: any(text is not None and fullmatch(text) for text in found)


def _reader(name: str, *, is_field: bool) -> Callable[[Alert], Texts]:
    if is_field:
        return lambda alert: texts(alert.fields.get(name))
    if name == "priority":
        return lambda alert: (alert.priority.label,)
    if name == "hostname":  # Falco before 0.28 does not print it
        return lambda alert: (alert.hostname,) if alert.hostname else ()
    return lambda alert: texts(getattr(alert, name))


def texts(value: Any) -> Texts:
    """A value as texts to compare, those of a list one by one; none where it is absent."""
    if type(value) is str:
        return (value,)
    if not isinstance(value, list | tuple):
        return () if value is None else (_text(value),)
    found: list[str | None] = []
    level: Sequence[Any] = value
    for _ in range(_MOST_LEVELS):
        deeper: list[Any] = []
        for item in level:
            if isinstance(item, list | tuple):
                deeper += item
            elif item is not None:
                found.append(_text(item))
        if not deeper:
            return found
        level = deeper
    found.append(None)
    return found


def _text(value: Any) -> str | None:
    if type(value) is bool:
        return str(value).lower()
    if type(value) is not dict:
        return str(value)
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # it writes 254 levels, and reads 1,024
        return None
