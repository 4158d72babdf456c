"""What a reload changes: which keys, from what to what, and which of them work needs a restart for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple, TypeVar

from pydantic import BaseModel, SecretStr

from streamer.config.secret import HIDDEN
from streamer.config.section import Section
from streamer.config.settings import Settings

RELOADABLE: Final = frozenset(
    {
        "records",
        "routes",
        "min_priority",
        "filters",
        "dead_letters",
        "dedupe",
        "limits",
        "health",
        "log",
        "shutdown",
        "kafka.commit",
    }
)
"""The sections that take effect between two transactions; of `kafka`, that one below it."""
_LONGEST: Final = 200

_Section = TypeVar("_Section", bound=Section)


class Difference(NamedTuple):
    """One key that differs; the values as text, a secret's as `(secret)`."""

    key: str
    before: str
    after: str

    @property
    def reloadable(self) -> bool:
        """Whether it takes effect without a restart."""
        parts = self.key.replace("[", ".").split(".")
        return not RELOADABLE.isdisjoint(".".join(parts[:length]) for length in (1, 2))

    def __str__(self) -> str:
        return f"{self.key}: {self.before} -> {self.after}"


def differences(before: Settings, after: Settings) -> list[Difference]:
    """The keys that differ, in the order of the settings."""
    return list(_compare("", before, after))


def merged(running: Settings, wanted: Settings) -> Settings:
    """What of the wanted settings takes effect now; the rest stays as it is until a restart.

    Raises pydantic's ValidationError where the two do not go together.
    """
    return _merged("", running, wanted)


def _merged(path: str, running: _Section, wanted: _Section) -> _Section:
    values = {}
    for name in type(running).model_fields:
        key, ours, theirs = f"{path}{name}", getattr(running, name), getattr(wanted, name)
        if key in RELOADABLE:
            values[name] = theirs
        elif any(one.startswith(f"{key}.") for one in RELOADABLE):
            values[name] = _merged(f"{key}.", ours, theirs)
        else:
            values[name] = ours
    return type(running).model_validate(values)


def _compare(key: str, before: Any, after: Any) -> Iterator[Difference]:
    if before == after:
        return
    if isinstance(before, BaseModel) and type(before) is type(after):
        for name in type(before).model_fields:
            yield from _compare(f"{key}.{name}".lstrip("."), getattr(before, name), getattr(after, name))
    elif isinstance(before, dict) and isinstance(after, dict):
        for name in {**before, **after}:
            yield from _compare(f"{key}.{name}", before.get(name), after.get(name))
    elif isinstance(before, tuple) and isinstance(after, tuple) and len(before) == len(after):
        for index, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from _compare(f"{key}[{index}]", one, other)
    else:
        yield Difference(key, _shown(before), _shown(after))


def _shown(value: Any) -> str:
    if isinstance(value, SecretStr):
        return HIDDEN
    if isinstance(value, BaseModel):  # its secrets print as such
        value = value.model_dump(mode="python")
    text = "null" if value is None else str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
