"""How long to wait before the next try."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(slots=True)
class Backoff:
    """Exponential back-off with full jitter; progress resets it. All in seconds."""

    first_seconds: float = 0.1
    most_seconds: float = 15.0
    draw: Callable[[], float] = random.random
    _ceiling_seconds: float = field(default=0.0, init=False)

    def next_seconds(self) -> float:
        """The next wait: between nothing and a ceiling that doubles each time.

        The draw keeps a tenth of the ceiling as a floor, so that no try follows the last one at once.
        """
        self._ceiling_seconds = min(self.most_seconds, max(self.first_seconds, self._ceiling_seconds * 2))
        return self._ceiling_seconds * (0.1 + 0.9 * self.draw())

    def reset(self) -> None:
        """There was progress: start small again."""
        self._ceiling_seconds = 0.0
