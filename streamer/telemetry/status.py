"""How a worker stands at one moment: what /status, /readyz and the gauges of /metrics show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from functools import reduce
from typing import Any, Final

from streamer.model import Coverage, Ledger, Target
from streamer.telemetry.volatile import VolatileFields, volatile_fields


class StreamState(StrEnum):
    """What the follower of a target is at."""

    OPENING = "opening"  # asking for the log, finding the place in it
    FOLLOWING = "following"  # a stream is open, and brings what is written
    PENDING = "pending"  # the container has not started yet
    WAITING = "waiting"  # before the next try: the last one failed
    ENDED = "ended"  # the container has ended and its log was read; it may start again


class CheckState(StrEnum):
    """What was last observed of a condition."""

    OK = "ok"
    FAILING = "failing"
    UNKNOWN = "unknown"  # neither a success nor a failure was observed yet


_MARKS: Final = {CheckState.OK: "[+]", CheckState.FAILING: "[-]", CheckState.UNKNOWN: "[?]"}


@dataclass(frozen=True, slots=True)
class Check:
    """One condition of work. Only an observed success makes it ok."""

    name: str
    state: CheckState = CheckState.UNKNOWN
    why: str = ""
    """Why it fails, or what it waits for; "" if it is ok."""
    needed: bool = True
    """Whether the worker is not ready without it; else it is only reported."""

    @classmethod
    def observed(
        cls, name: str, *, succeeded: bool, trouble: str = "", unknown: str = "", needed: bool = True
    ) -> Check:
        """By the failure that stands (`trouble`, "" for none), else by a success; `unknown` is what it waits for."""
        if trouble:
            return cls(name, CheckState.FAILING, trouble, needed)
        if succeeded:
            return cls(name, CheckState.OK, needed=needed)
        return cls(name, CheckState.UNKNOWN, unknown, needed)

    def __str__(self) -> str:
        """As /readyz and /livez print it: the marks of the Kubernetes API server, and `[?]` for unknown."""
        why = f": {self.why}" if self.why else ""
        return f"{_MARKS[self.state]} {self.name}{why}"


@dataclass(frozen=True, slots=True)
class ShardStatus:
    """One shard that this worker owns."""

    index: int
    loaded: bool
    sequence: int
    ledger: Ledger
    """As of the last commit."""
    uncommitted_bytes: int
    oldest_line_seconds: float
    """How long ago the oldest line was written that is read and not committed; 0 if there is none."""
    unacknowledged_seconds: float
    """How long Kafka has been trying to take what was handed to it; 0 if nothing is under way."""
    open_windows: int
    evidence_bytes: int
    storms: int
    condition: str = ""
    """What it is doing: opening, working, fenced, unreadable or ended."""
    fenced: int = 0
    """How often it was taken from us while we wrote."""
    coverage: Mapping[Coverage, int] = field(default_factory=dict)
    """How many targets are in each state of coverage."""
    volatile_fields: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """By source that nobody has configured: fields that differ in nearly every alert."""

    def as_dict(self) -> dict[str, Any]:
        """As JSON shows it: the keys of an object are plain strings."""
        coverage = {state.value: count for state, count in self.coverage.items()}
        found = asdict(self) | {"ledger": self.ledger.as_dict(), "coverage": coverage}
        del found["volatile_fields"]  # those of all shards stand together, within bounds
        return found


@dataclass(frozen=True, slots=True)
class TargetStatus:
    """One target that is followed."""

    target: Target
    state: StreamState
    running: bool
    """Whether its container runs, as the API server says."""
    unread_seconds: float
    """For how long no stream of it has been open; 0 while one is, or while there is nothing to open."""
    behind_seconds: float
    """How long ago the line was written that waits to be taken; 0 if none waits."""
    quiet_seconds: float
    """For how long nothing has come."""
    opened: bool = True
    """Whether a stream of it has been open since it is followed here."""
    cause: str = ""
    """What failed last, since a stream was open; "" if nothing did."""


@dataclass(frozen=True, slots=True)
class FilterStatus:
    """One filter, with what it has dropped since it took effect in this process."""

    name: str
    action: str
    reason: str
    dropped: int
    alerts: int
    """All alerts that were committed meanwhile."""
    max_share: float | None
    """The largest share of them that it is meant to drop; None: no bound."""
    expires: str
    """RFC 3339; "" if it does not expire."""
    expired: bool

    @property
    def share(self) -> float:
        """Which part of all alerts it has dropped."""
        return self.dropped / self.alerts if self.alerts else 0.0

    def as_dict(self) -> dict[str, Any]:
        """As JSON shows it."""
        return asdict(self) | {"share": round(self.share, 4)}


@dataclass(frozen=True, slots=True)
class Status:
    """The whole worker."""

    cluster: str
    checks: Sequence[Check] = ()
    shards: Sequence[ShardStatus] = ()
    targets: Sequence[TargetStatus] = ()
    filters: Sequence[FilterStatus] = ()
    blind_seconds: float = 0.0
    """For how long the worker as a whole could see nothing: it was not ready yet, or no pod matches."""
    refused_pods: int = 0
    """Pods that match the selectors, but not the owner or service account that is set."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What else is worth showing, by name."""

    @property
    def ledger(self) -> Ledger:
        """The sum of the shards' committed ledgers."""
        return reduce(Ledger.__add__, (shard.ledger for shard in self.shards), Ledger())

    @property
    def ready(self) -> bool:
        """Whether every needed condition is ok: one that is unknown is not."""
        return all(check.state is CheckState.OK for check in self.checks if check.needed)

    @property
    def lag_seconds(self) -> float:
        """How far the worker is behind, or blind, where it is worst; about 0 when all is well."""
        unread = (target.unread_seconds for target in self.targets if target.running)
        return max((self.blind_seconds, self.backlog_seconds, *unread))

    @property
    def backlog_seconds(self) -> float:
        """How long ago the oldest line was written that waits to be taken or committed; 0 if none waits."""
        uncommitted = (shard.oldest_line_seconds for shard in self.shards)
        return max((0.0, *uncommitted, *(target.behind_seconds for target in self.targets)))

    @property
    def volatile_fields(self) -> VolatileFields:
        """The fields that differ in nearly every alert of sources that nobody has configured, within bounds."""
        return volatile_fields(shard.volatile_fields for shard in self.shards)

    def as_dict(self) -> dict[str, Any]:
        """As JSON shows it."""
        return {
            "cluster": self.cluster,
            **self.facts,
            "lag_seconds": round(self.lag_seconds, 3),
            "refused_pods": self.refused_pods,
            "checks": [asdict(check) for check in self.checks],
            "ledger": self.ledger.as_dict(),
            "filters": [one.as_dict() for one in self.filters],
            "volatile_fields": asdict(self.volatile_fields),
            "shards": [shard.as_dict() for shard in self.shards],
            "targets": [asdict(target) for target in self.targets],
        }
