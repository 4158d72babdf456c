"""Token buckets on a target's own clock."""

from __future__ import annotations

from dataclasses import dataclass

_SECOND_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Rate:
    """How much a bucket lets through: `per_minute` in the long run, `burst` at once."""

    per_minute: float
    burst: int


@dataclass(slots=True)
class Bucket:
    """One bucket's state. `held` is what was kept back since the last notice; times are the target's clock.

    Nothing depends on when it is asked: tokens are a function of the elapsed time alone, so a replay decides as
    the live run did.
    """

    tokens: float
    at_ns: int
    held: int = 0
    held_from_ns: int = 0
    held_to_ns: int = 0

    def admit(self, rate: Rate, elapsed_ns: int) -> bool:
        """Take one token if there is one."""
        refill = max(0, elapsed_ns - self.at_ns) / _SECOND_NS * rate.per_minute / 60
        self.tokens = min(float(rate.burst), self.tokens + refill)
        self.at_ns = max(self.at_ns, elapsed_ns)
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True

    def hold(self, line_ns: int) -> None:
        """Count one that was kept back, written at `line_ns`."""
        if not self.held:
            self.held_from_ns = line_ns
        self.held_to_ns = line_ns
        self.held += 1
