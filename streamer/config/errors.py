"""All faults of a configuration, reported together, each with its place."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from streamer.config.secret import HIDDEN

_WIDEST: Final = 120
_SECRET_LINE: Final = re.compile(
    r"(?i)[\w.-]*(?:pass|pwd|secret|token|credential)[\w.-]*(?<!_file)(?<!_endpoint)[\"']?\s*[:=]\s*"
)
_KEY_LINE: Final = re.compile(r"\s*(?:-\s+)?[\"']?[\w.-]+[\"']?\s*:")


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """Where values come from: a file's text, or an override, which has a name and no lines."""

    name: str
    lines: tuple[str, ...] = ()
    hidden: dict[int, list[tuple[int, int, str]]] = field(default_factory=dict)
    """By line: what must not be shown (first column, end column, what stands there instead)."""

    def hide(self, line: int, column: int, end_column: int, mark: str = HIDDEN) -> None:
        """Never show this part of a line."""
        self.hidden.setdefault(line, []).append((column, end_column, mark))


@dataclass(frozen=True, slots=True)
class Place:
    """A part of a source. Lines and columns count from 0; without a line it is the source as a whole."""

    source: Source
    line: int | None = None
    column: int = 0
    width: int = 1


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault: what, where, and the label next to the caret that says why or what to do."""

    message: str
    place: Place | None = None
    label: str = ""

    def __str__(self) -> str:
        lines = [f"error: {_printable(self.message)}"]
        label = _printable(self.label)
        if self.place is None or self.place.line is None:
            if self.place is not None:
                lines.append(f"  --> {_printable(self.place.source.name)}")
            return "\n".join([*lines, f"   = {label}"] if label else lines)
        return "\n".join([*lines, *excerpt(self.place, self.label)])


def excerpt(place: Place, label: str) -> list[str]:
    """The lines that show a place: its name, its text, and carets with the label below."""
    assert place.line is not None
    number = str(place.line + 1)
    gap = " " * len(number)
    text, column, width = _shown(place)
    carets = " " * _cells(text[:column]) + "^" * max(1, _cells(text[column : column + width]))
    return [
        f"{gap}--> {_printable(place.source.name)}:{number}:{place.column + 1}",
        f"{gap} |",
        f"{number} | {text}".rstrip(),
        f"{gap} | {carets} {_printable(label)}".rstrip(),
    ]


class ConfigError(Exception):
    """A configuration that cannot be used; `problems` holds everything that is wrong with it."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=_order))
        super().__init__("\n\n".join(map(str, self.problems)))


def _order(problem: Problem) -> tuple[bool, int, int]:
    place = problem.place
    if place is None or place.line is None:
        return (True, 0, 0)
    return (False, place.line, place.column)


def hide_by_name(source: Source) -> None:
    """Hide what looks like a secret, where the text has no structure by which to know better."""
    secret = False
    for number, line in enumerate(source.lines):
        if match := _SECRET_LINE.search(line):
            secret = True
            source.hide(number, match.end(), len(line))
        elif _KEY_LINE.match(line):
            secret = False
        elif secret:  # a value that goes on over lines
            source.hide(number, 0, len(line))


def _shown(place: Place) -> tuple[str, int, int]:
    """The line as it may be shown, and the caret's column and width in it."""
    assert place.line is not None
    lines = place.source.lines
    text = lines[place.line] if place.line < len(lines) else ""
    column, width = place.column, place.width
    for start, end, mark in sorted(place.source.hidden.get(place.line, ()), reverse=True):
        hides = text[start:end]
        if not hides:
            continue
        text = text[:start] + mark + text[end:]
        if column >= end:
            column += len(mark) - len(hides)
        elif column >= start:
            column, width = start, len(mark)
    if column > _WIDEST // 2:
        cut = column - _WIDEST // 2
        text, column = f"… {text[cut:]}", column - cut + 2
    if len(text) > _WIDEST:
        text = f"{text[:_WIDEST]} …"
    return "".join(c if c.isprintable() else " " for c in text), column, min(width, _WIDEST - column)


def _cells(text: str) -> int:
    """How many columns a terminal takes for it."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text
    )


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
