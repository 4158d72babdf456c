"""Token buckets: how much of a kind passes, and what was kept back.

A target's buckets run on the target's own clock: nothing depends on when they are asked, so a replay decides as the
live run did.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from struct import Struct
from typing import Final

import orjson

from streamer.transform.stamp import LAST_NS

_SECOND_NS: Final = 1_000_000_000
_PACKED: Final = Struct("<dQQQQQQQQQ?")
STORM_AFTER_NS: Final = 10 * _SECOND_NS
"""A limit that is still exceeded after this long is a storm."""
CALM_AFTER_NS: Final = 60 * _SECOND_NS
"""A storm is over when its limit has diverted nothing for this long."""


@dataclass(frozen=True, slots=True)
class Rate:
    """How much a bucket lets through: `per_minute` in the long run, `burst` at once."""

    per_minute: float
    burst: int


@dataclass(slots=True)
class Bucket:
    """One bucket's state. `held` is what was kept back since the last health record; its times are those of lines."""

    tokens: float
    at_ns: int
    held: int = 0
    held_from_ns: int = 0
    held_to_ns: int = 0

    def admit(self, rate: Rate, clock_ns: int) -> bool:
        """Take one token if there is one."""
        tokens = self.tokens
        if clock_ns > self.at_ns:
            tokens += (clock_ns - self.at_ns) / _SECOND_NS * rate.per_minute / 60
            self.at_ns = clock_ns
        if tokens > rate.burst:
            tokens = float(rate.burst)
        admitted = tokens >= 1
        self.tokens = tokens - 1 if admitted else tokens
        return admitted

    def hold(self, line_ns: int) -> None:
        """Count one that was kept back, written at `line_ns`."""
        if not self.held:
            self.held_from_ns = line_ns
        self.held_to_ns = line_ns
        self.held += 1


@dataclass(slots=True)
class StormBucket(Bucket):
    """A bucket whose excess goes elsewhere whole, and which reports when that goes on for long."""

    limit: str = "workload"
    """Which limit this is: of a workload, of a target, of a topic, or overall."""
    name: str = ""
    """The rule, or the topic."""
    workload: dict[str, str] = field(default_factory=dict)
    """Whose alerts it diverts: the rule and fields such as the namespace. Of a target, those that it diverts most."""
    votes: int = 0
    """How far these are ahead of all others."""
    since_ns: int = 0
    """When it began to divert, by the bucket's clock."""
    last_ns: int = 0
    """When it diverted last, by the bucket's clock."""
    due_ns: int = field(default=0, compare=False)
    """When it is calm again if nothing more comes, by our clock. What is stored of it may be older than a step back of
    our clock, and is bounded again after a restart (`Limiter.calm`)."""
    full_ns: int = 0
    """When it is full again, by the bucket's clock."""
    storm: bool = False

    def admit(self, rate: Rate, clock_ns: int) -> bool:
        """Take one token if there is one."""
        # As `Bucket.admit`, without a call: each alert that is not counted comes here.
        tokens, burst = self.tokens, rate.burst
        if clock_ns > self.at_ns:
            tokens += (clock_ns - self.at_ns) / _SECOND_NS * rate.per_minute / 60
            self.at_ns = clock_ns
        if tokens > burst:
            tokens = float(burst)
        if admitted := tokens >= 1:
            tokens -= 1
        self.tokens = tokens
        seconds = (burst - tokens) / rate.per_minute * 60
        # A rate may be as good as none: the state has 64 bits for a time.
        self.full_ns = min(self.at_ns + int(min(seconds * _SECOND_NS, LAST_NS)) + 1, LAST_NS)
        return admitted

    def is_idle(self, clock_ns: int) -> bool:
        """Whether it may be forgotten: a new bucket would be the same."""
        return not self.held and clock_ns >= self.full_ns

    def divert(self, clock_ns: int, line_ns: int, now_ns: int) -> bool:
        """Count one that went elsewhere; True if this is where a storm begins."""
        if not self.held:
            self.since_ns = clock_ns
        self.hold(line_ns)
        self.last_ns = clock_ns
        self.due_ns = now_ns + CALM_AFTER_NS
        if self.storm or clock_ns - self.since_ns < STORM_AFTER_NS:
            return False
        self.storm = True
        return True

    def blame(self, workload: Mapping[str, str]) -> None:
        """Note whose alert was diverted, and keep who is in the majority (Boyer and Moore's vote)."""
        if self.workload == workload:
            self.votes += 1
        elif self.votes:
            self.votes -= 1
        else:
            self.workload, self.votes = dict(workload), 1

    def is_calm(self, clock_ns: int) -> bool:
        """Whether it has diverted something, but nothing for a while."""
        return self.held > 0 and clock_ns - self.last_ns >= CALM_AFTER_NS

    def pack(self) -> bytes:
        """The bucket in few bytes: nearly each alert that is published changes one."""
        numbers = _PACKED.pack(
            self.tokens,
            self.at_ns,
            self.held,
            self.held_from_ns,
            self.held_to_ns,
            self.votes,
            self.since_ns,
            self.last_ns,
            self.due_ns,
            self.full_ns,
            self.storm,
        )
        return numbers + orjson.dumps((self.limit, self.name, self.workload))

    @staticmethod
    def unpack(packed: bytes) -> StormBucket:
        """The bucket again; raises `ValueError`, `TypeError` or `struct.error` where it cannot be one."""
        tokens, at_ns, held, from_ns, to_ns, votes, since_ns, last_ns, due_ns, full_ns, storm = (
            _PACKED.unpack_from(packed)
        )
        limit, name, workload = orjson.loads(packed[_PACKED.size :])
        numbers = (at_ns, held, from_ns, to_ns, votes, since_ns, last_ns, due_ns, full_ns)
        texts = (limit, name, *workload, *workload.values())
        if {*map(type, texts)} != {str} or max(numbers) > LAST_NS or not isfinite(tokens):
            raise ValueError("a bucket of no texts, or out of all time")
        found = StormBucket(tokens, at_ns, held, from_ns, to_ns, limit, name, workload)
        found.votes, found.since_ns, found.last_ns = votes, since_ns, last_ns
        found.due_ns, found.full_ns, found.storm = due_ns, full_ns, storm
        return found

    def settle(self) -> None:
        """Start again, with nothing diverted."""
        self.storm, self.held, self.workload, self.votes = False, 0, {}, 0
