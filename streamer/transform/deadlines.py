"""What ends when: a timer wheel that costs one pointer an entry, and is cleaned when its entries are looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from heapq import heappop, heappush
from typing import Final, Generic, TypeVar

from streamer.transform.stamp import NEVER

_SLOT_NS: Final = 1_000_000_000

Name = TypeVar("Name", bytes, tuple[str, bytes])


class Deadlines(Generic[Name]):
    """Names in the order of their deadlines, ties in that of the names.

    Slots of a second hold names alone. Only those of the slots that have begun are sorted. An entry is true as long as
    `deadline_of` its name is the time that it was added with: what ended early, or ends at another time now, is passed
    over.
    """

    __slots__ = ("_count", "_from_slot", "_near", "_order", "_slots", "next_ns")

    def __init__(self) -> None:
        self.next_ns = NEVER
        """No deadline is before this time."""
        self._slots: dict[int, list[Name]] = {}
        self._order: list[int] = []
        # A heap of the slots that hold anything.
        self._near: list[tuple[int, Name]] = []
        # A heap of what has a deadline before that of any slot.
        self._from_slot = 0
        # The first slot that has not begun.
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, name: Name, at_ns: int) -> None:
        """Expect a name at a time."""
        self._count += 1
        self.next_ns = min(self.next_ns, at_ns)
        slot = at_ns // _SLOT_NS
        if slot < self._from_slot:
            heappush(self._near, (at_ns, name))
        elif (names := self._slots.get(slot)) is not None:
            names.append(name)
        else:
            self._slots[slot] = [name]
            heappush(self._order, slot)

    def pop(self, until_ns: int, deadline_of: Callable[[Name], int]) -> Name | None:
        """Take out the first name whose deadline has come; None if there is none."""
        while True:
            while self._near:
                at_ns, name = self._near[0]
                if at_ns > until_ns:
                    self.next_ns = at_ns
                    return None
                heappop(self._near)
                self._count -= 1
                if deadline_of(name) == at_ns:
                    return name
            if not self._order:
                self.next_ns = NEVER
                return None
            self.next_ns = self._order[0] * _SLOT_NS
            if self.next_ns > until_ns:
                return None
            self._begin(heappop(self._order), deadline_of)

    def _begin(self, slot: int, deadline_of: Callable[[Name], int]) -> None:
        names = self._slots.pop(slot)
        timed = [(deadline_of(name), name) for name in set(names)]
        self._near = sorted(entry for entry in timed if entry[0] // _SLOT_NS == slot)
        self._count -= len(names) - len(self._near)
        self._from_slot = slot + 1

    def renew(self, names: Iterable[Name], deadline_of: Callable[[Name], int]) -> None:
        """Expect these names and no others."""
        self._slots, self._order, self._near = {}, [], []
        self._count = self._from_slot = 0
        self.next_ns = NEVER
        for name in names:
            if 0 <= (at_ns := deadline_of(name)) < NEVER:
                self.add(name, at_ns)
