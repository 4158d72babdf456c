"""A queue of what ends one after the other."""

from __future__ import annotations

from array import array
from collections.abc import Callable


class Queue:
    """Groups with their deadlines, in 16 bytes an entry beside the group itself."""

    __slots__ = ("_at", "_deadlines_ns", "_groups")

    def __init__(self) -> None:
        self._groups = list[bytes]()
        self._deadlines_ns = array("Q")
        self._at = 0

    def __len__(self) -> int:
        return len(self._groups) - self._at

    @property
    def front(self) -> tuple[bytes, int]:
        """What ends first."""
        return self._groups[self._at], self._deadlines_ns[self._at]

    def append(self, group: bytes, deadline_ns: int) -> None:
        """Add a group that ends after all others."""
        self._groups.append(group)
        self._deadlines_ns.append(deadline_ns)

    def pop(self) -> None:
        """Take away what ends first."""
        self._at += 1
        if self._at > 64 and self._at > len(self):
            del self._groups[: self._at], self._deadlines_ns[: self._at]
            self._at = 0

    def keep(self, wanted: Callable[[bytes, int], bool]) -> None:
        """Leave out all entries that are not wanted any more."""
        entries = zip(self._groups[self._at :], self._deadlines_ns[self._at :], strict=True)
        kept = [entry for entry in entries if wanted(*entry)]
        self._groups = [group for group, _ in kept]
        self._deadlines_ns = array("Q", [deadline_ns for _, deadline_ns in kept])
        self._at = 0
