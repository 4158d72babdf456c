"""The volatile fields that were learned, for /status and the page. Their names are alert content."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

MOST_SOURCES: Final = 16
MOST_FIELDS: Final = 32
"""Of one source."""
MOST_CHARACTERS: Final = 64
"""Of one name; the longest field of Falco's plugins has 59."""
FIX_FIELDS: Final = (
    "add those that mean nothing to dedupe.volatile_fields, after <default>, and give the source an entry in "
    "dedupe.group_fields and limits.by"
)


@dataclass(frozen=True, slots=True)
class VolatileSource:
    """A source that nobody has configured, and its fields that differ in nearly every alert."""

    source: str
    fields: tuple[str, ...]
    more_fields: int = 0
    """How many are left out."""


@dataclass(frozen=True, slots=True)
class VolatileFields:
    """The first sources by name, with the first fields of each; long names are cut, which an ellipsis shows."""

    sources: tuple[VolatileSource, ...] = ()
    more_sources: int = 0
    """How many are left out."""


def volatile_fields(shards: Iterable[Mapping[str, Iterable[str]]]) -> VolatileFields:
    """Those of all shards together; each has fields by source."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for shard in shards:
        for source, fields in shard.items():
            found[source].update(fields)
    shown = sorted(found)[:MOST_SOURCES]
    return VolatileFields(
        tuple(_source(source, sorted(found[source])) for source in shown), len(found) - len(shown)
    )


def visible(text: str) -> str:
    """Text of an alert, with escapes for what is not printed: control characters, and turns of direction."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def _source(source: str, fields: list[str]) -> VolatileSource:
    shown = tuple(map(_cut, fields[:MOST_FIELDS]))
    return VolatileSource(_cut(source), shown, len(fields) - len(shown))


def _cut(name: str) -> str:
    return name if len(name) <= MOST_CHARACTERS else f"{name[: MOST_CHARACTERS - 1]}…"
