"""Several faults found by one check, each with its own place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

WRONG: Final = "wrong value for"
MISSING: Final = "missing key"
USELESS: Final = "useless key"


class Fault(NamedTuple):
    """One fault: the keys that lead to it from where the check stands (`..` leads up), and what is wrong there."""

    at: tuple[str | int, ...]
    reason: str
    headline: str = WRONG
    part: tuple[int, int] | None = None
    """The faulty part of a text: where it starts and ends, in characters. None: all of it."""


class FaultsError(ValueError):
    """Raised by validators, since pydantic's own error has room for one fault only."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(_plain(fault) for fault in self.faults))


def _plain(fault: Fault) -> str:
    where = ".".join(str(key) for key in fault.at if key != "..")
    return f"{where}: {fault.reason}" if where else fault.reason
