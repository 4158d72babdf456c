"""`${VAR}` and `${VAR:-default}` in values, after parsing: a variable's text can never become structure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

from streamer.config.document import Node
from streamer.config.errors import Place, Problem

_REFERENCE: Final = re.compile(r"\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}|\$\{[^}]*\}?")


def interpolate(node: Node, environ: Mapping[str, str], problems: list[Problem]) -> None:
    """Fill in the variables, in place; where that fails, the node is broken and the fault reported."""
    if isinstance(node.value, str):
        if not node.literal and "${" in node.value:
            _fill(node, node.value, environ, problems)
        return
    children: Iterable[Node] = node.value.values() if isinstance(node.value, dict) else node.value or ()
    for child in children:
        interpolate(child, environ, problems)


def _fill(node: Node, raw: str, environ: Mapping[str, str], problems: list[Problem]) -> None:
    found: list[Problem] = []

    def value_of(match: re.Match[str]) -> str:
        if match[0] == "$${":
            return "${"
        name, default = match[1], match[2]
        if name is None:
            label = "expected `${NAME}` or `${NAME:-default}`; `$${` stands for a plain `${`"
            found.append(Problem("malformed variable", _place(node, match[0]), label))
            return ""
        value = environ.get(name)
        if value is None and default is None:
            label = f"set it, or give a default: `${{{name}:-…}}`"
            found.append(Problem(f"undefined variable `{name}`", _place(node, match[0]), label))
            return ""
        if default is not None and not value:
            return str(default)
        return value or ""

    text = _REFERENCE.sub(value_of, raw)
    # As in YAML itself, nothing where no quotes stand is null.
    node.value = None if node.plain and not text else text
    node.broken = bool(found)
    problems += found


def _place(node: Node, reference: str) -> Place:
    place = node.place
    if place.line is None:
        return place
    # An escape in a quoted text moves columns; then the value's own place has to do.
    column = place.source.lines[place.line].find(reference, place.column)
    return place if column < 0 else replace(place, column=column, width=len(reference))
