"""When silent streams are checked: not more of them at a time than the API server should notice."""

from __future__ import annotations

from math import ceil, floor
from typing import Final

PROBES_PER_SECOND: Final = 12
"""Of all silent streams of a worker. With the checks of streams that were just opened it stays below 20."""


class ProbeTurns:
    """Gives out the times of checks. A turn is not given back where lines come first: that is on the safe side."""

    def __init__(self, together_seconds: float, most_per_second: float = PROBES_PER_SECOND) -> None:
        self._together_seconds = together_seconds
        self._most = max(1, floor(most_per_second * together_seconds))
        self._taken: dict[int, int] = {}

    def take(self, now: float, seconds: float) -> float:
        """How long to wait instead of `seconds`: until the first time from then on at which few others are checked."""
        turn = ceil((now + seconds) / self._together_seconds)
        while (count := self._taken.get(turn, 0)) >= self._most:
            turn += 1
        self._taken[turn] = count + 1
        if len(self._taken) > 10_000:
            past = floor(now / self._together_seconds)
            self._taken = {turn: count for turn, count in self._taken.items() if turn >= past}
        return turn * self._together_seconds - now
