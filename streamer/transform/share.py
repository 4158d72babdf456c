"""A rate that several tenants share fairly: one that floods it leaves room for those who have taken less.

A tenant gets a token as long as more are left than it has taken lately. So one that floods takes half of the burst, two
take a third each, and a further one always finds the rest. This is the dynamic threshold by which switches share a
buffer among queues (Choudhury and Hahne, IEEE/ACM Transactions on Networking 6(2), 1998).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from streamer.transform.limit import Rate, StormBucket

_MINUTE_NS: Final = 60 * 1_000_000_000
MOST_TENANTS: Final = 256
"""Of how many tenants it is known what they took; beyond, the one that took least counts as new again."""
_LEAST_TAKEN: Final = 0.25
"""What a tenant has taken is forgotten below this."""


@dataclass(slots=True)
class Share:
    """One shared bucket's state: a function of who asked for tokens, and when by the clock of their target."""

    tokens: int
    at_ns: int
    taken: dict[bytes, float] = field(default_factory=dict)
    """By tenant: what it has taken and was not refilled since. All together, what is missing to the burst."""

    def admit(self, rate: Rate, tenant: bytes, clock_ns: int) -> bool:
        """Take one token for a tenant, if there is one for it."""
        self._refill(rate, clock_ns)
        taken = self.taken.get(tenant, 0.0)
        if self.tokens < 1 + taken:
            return False
        self.tokens -= 1
        if tenant not in self.taken and len(self.taken) >= MOST_TENANTS:
            del self.taken[min(self.taken, key=lambda known: (self.taken[known], known))]
        self.taken[tenant] = taken + 1
        return True

    def _refill(self, rate: Rate, clock_ns: int) -> None:
        """Add whole tokens only: what tenants took is worked out again with each."""
        missing = rate.burst - self.tokens
        if not rate.burst or not rate.per_minute:  # no part of a limit is kept for this
            return
        step_ns = _MINUTE_NS / rate.per_minute
        added = int(max(0, clock_ns - self.at_ns) / step_ns)
        if added >= missing:  # also where the settings have a smaller burst than before
            self.tokens, self.at_ns = rate.burst, max(clock_ns, self.at_ns)
            self.taken.clear()
        elif added:
            self.tokens += added
            self.at_ns += int(added * step_ns)
            left = (missing - added) / missing
            self.taken = {
                tenant: taken * left for tenant, taken in self.taken.items() if taken * left >= _LEAST_TAKEN
            }


@dataclass(slots=True)
class TargetShares:
    """What one target's alerts may take altogether: `open` is for all, `reserved` for groups never seen before."""

    open: Share
    reserved: Share
    storm: StormBucket = field(default_factory=lambda: StormBucket(0.0, 0, limit="target"))
    """What was diverted, and whose alerts these were; it gives no tokens itself."""
