"""Error messages for what pydantic finds wrong in a configuration."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import Any, Final

from streamer.config.document import Node

_LONGEST: Final = 60
_NUMBER_OR_FLAG: Final = re.compile(r"[-+]?[0-9][0-9_.eE+-]*|true|false", re.IGNORECASE)

_WORDS: Final[dict[str, str]] = {
    "bool_type": "expected `true` or `false`",
    "dict_type": "expected a mapping",
    "float_parsing": "expected a number",
    "float_type": "expected a number",
    "finite_number": "expected a finite number",
    "int_from_float": "expected a whole number",
    "int_parsing": "expected a whole number",
    "int_parsing_size": "expected a smaller whole number",
    "int_type": "expected a whole number",
    "mapping_type": "expected a mapping",
    "model_type": "expected a mapping",
    "path_type": "expected the path of a file",
    "string_type": "expected text",
    "tuple_type": "expected a list",
    "missing": "it is required",
}
_BOUNDS: Final[dict[str, Callable[[Mapping[str, Any]], str]]] = {
    "greater_than": lambda given: f"expected more than {given['gt']:.10g}",
    "greater_than_equal": lambda given: f"expected at least {given['ge']:.10g}",
    "less_than_equal": lambda given: f"expected at most {given['le']:.10g}",
    "too_short": lambda _: "expected text that is not empty",
    "string_too_short": lambda _: "expected text that is not empty",
    "literal_error": lambda given: f"expected one of {_ticked(_choices(given))}",
}


def expectation(kind: str, context: Mapping[str, Any], message: str) -> str:
    """What was expected, from an error's type and context. Falls back to pydantic's own message."""
    if bound := _BOUNDS.get(kind):
        return bound(context)
    return _WORDS.get(kind, message)


def finding(expected: str, kind: str, context: Mapping[str, Any], node: Node | None) -> str:
    """The expectation and, unless it is a secret, the value that was found."""
    if node is None or not expected.startswith("expected") or ", got" in expected:
        return expected
    if node.secret and isinstance(node.value, str):
        return expected
    if kind == "value_error" and isinstance(node.value, dict):
        return expected
    words = f"{expected}, got {_got(node)}"
    if kind == "literal_error" and isinstance(node.value, str):
        words += suggestion(node.value, _choices(context), "; ")
    return words


def suggestion(name: str, names: Iterable[str], before: str = "") -> str:
    """`did you mean …?` if one of the names is similar, else an empty string."""
    by_folded = {each.casefold().replace("-", "_"): each for each in names}
    near = get_close_matches(name.casefold().replace("-", "_"), by_folded, n=1, cutoff=0.6)
    return f"{before}did you mean `{by_folded[near[0]]}`?" if near else ""


def unknown(name: str, names: list[str]) -> str:
    """The label for an unknown key: the most similar known key, else all known keys."""
    return suggestion(name, names) or (f"known keys: {', '.join(names)}" if names else "")


def _got(node: Node) -> str:
    if node.value is None:
        return "nothing"
    if isinstance(node.value, list):
        return "a list" if node.value else "an empty list"
    if not isinstance(node.value, str):
        return "a mapping"
    text = node.value if len(node.value) <= _LONGEST else f"{node.value[:_LONGEST]}…"
    return text if node.plain and _NUMBER_OR_FLAG.fullmatch(text) else json.dumps(text, ensure_ascii=False)


def _choices(context: Mapping[str, Any]) -> list[str]:
    return re.findall(r"'([^']*)'", context["expected"])


def _ticked(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
