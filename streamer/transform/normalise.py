"""Take out of a value what differs each time although it means the same."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

_LOWEST_CLIENT_PORT: Final = 1024
"""Below it, a client's port is chosen, not given: evidence, which stays."""
# `/tmp/tmp.Ab12Cd34Ef` is how mktemp names a file, `/tmp/tmpab12cd34` how Python does.
_TEMPORARY_NAME: Final = re.compile(r"\btmp(?:\.[A-Za-z0-9]{6,10}|[a-z0-9_]{8})\b")
_PROCESS_ID: Final = re.compile(r"/proc/\d+(?:/task/\d+)?")


def without_client_port(value: str) -> str:
    """`10.0.0.7:51234->10.0.0.1:443` without 51234: Falco writes the client first."""
    client, arrow, server = value.partition("->")
    host, colon, port = client.rpartition(":")
    if not (arrow and colon and " " not in value and port.isascii() and port.isdigit()):
        return value
    return f"{host}->{server}" if int(port[:6]) >= _LOWEST_CLIENT_PORT else value


def without_temporary_name(value: str) -> str:
    """The random part of a temporary file's name as a star."""
    return _TEMPORARY_NAME.sub("tmp*", value)


def without_process_id(value: str) -> str:
    """`/proc/4711/environ` as `/proc/*/environ`."""
    return _PROCESS_ID.sub("/proc/*", value)


NORMALISERS: Final[Mapping[str, tuple[str, Callable[[str], str]]]] = MappingProxyType(
    {
        "client_port": ("->", without_client_port),
        "temporary_name": ("tmp", without_temporary_name),
        "process_id": ("/proc/", without_process_id),
    }
)
"""By name: the text without which there is nothing to do, and what is done. The text is looked for first, in all
values at once, so that the regular expressions meet the few alerts that need them."""


Chosen = tuple[tuple[str, Callable[[str], str]], ...]


class Normaliser:
    """Applies the chosen normalisers to all strings among some values."""

    __slots__ = ("_chosen", "_signs")

    def __init__(self, names: tuple[str, ...]) -> None:
        self._chosen: Chosen = tuple([NORMALISERS[name] for name in names])
        self._signs = [(sign.encode(), (sign, change)) for sign, change in self._chosen]

    def signs_in(self, encoded: bytes) -> Chosen:
        """The normalisers that may change any of these values; `encoded` is their JSON."""
        found: Chosen = ()
        for sign, chosen in self._signs:
            if encoded.find(sign) >= 0:  # `in` looks for a number first, and makes an exception of it
                found = (*found, chosen)
        return found

    @property
    def first(self) -> tuple[str, Callable[[str], str]] | None:
        """The normaliser that is applied before all others, with its sign."""
        return self._chosen[0] if self._chosen else None

    def values(self, values: tuple[Any, ...], chosen: Chosen | None = None) -> tuple[Any, ...]:
        """The values, normalised; by fewer normalisers if it is known that the others have nothing to do."""
        changed = list(values)
        for sign, change in self._chosen if chosen is None else chosen:
            for index, value in enumerate(changed):
                if type(value) is str and sign in value:
                    changed[index] = change(value)
        return tuple(changed)
