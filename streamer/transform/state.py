"""A shard's state in memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from streamer.model import Ledger, Position, Reason, Target
from streamer.transform.limit import Bucket, StormBucket
from streamer.transform.share import TargetShares
from streamer.transform.volatile import Kinds
from streamer.transform.window import Windows

FORMAT: Final = 1
"""The version of the stored form of every value. A new one is read by one minor release before the next writes it, so
that one can always go back by one; tests/unit/transform/golden has a state of each."""


class StateUnreadableError(Exception):
    """The stored state cannot be used: damaged, from a newer release, or not ours."""


class StateNotOursError(StateUnreadableError):
    """The stored state is another cluster's, or was moved elsewhere: nothing here may use it, or change it."""


@dataclass(slots=True)
class Tracked:
    """What a shard knows of one target, and which of it the stored state does not have yet."""

    target: Target
    position: Position
    windows: Windows = field(default_factory=Windows)
    limits: dict[bytes, StormBucket] = field(default_factory=dict)
    """The buckets of its alerts, the one not used for longest first."""
    shares: TargetShares | None = None
    """What its alerts may take altogether; None as long as they have taken nothing."""
    kinds: Kinds = field(default_factory=Kinds)
    """What was learned of alerts whose source nobody has configured."""
    dead_letters: dict[Reason, Bucket] = field(default_factory=dict)
    key: bytes = b""
    """That of its fingerprints, if it is not its shard's: it came from another shard (`reshard`)."""
    dirty_limits: dict[bytes, None] = field(default_factory=dict)
    dirty_shares: bool = False
    dirty_dead_letters: dict[Reason, None] = field(default_factory=dict)


@dataclass(slots=True)
class ShardState:
    """All that a shard must know to go on where it was.

    `sequence` counts commits and `owner` names the process and start that made the last one: after a commit of
    unknown outcome they tell whether it happened, and whether somebody else was here. `key` is that of the
    fingerprints: random, made once, so that nobody can choose alerts with equal ones.
    """

    cluster: str
    tracked: dict[str, Tracked] = field(default_factory=dict)
    """By `Target.id`."""
    ledger: Ledger = field(default_factory=Ledger)
    sequence: int = 0
    owner: str = ""
    key: bytes = b""
    shards: int = 0
    """Of how many shards this is one; 0 as long as nothing says so."""

    def take(self, target: Target) -> Tracked:
        """What is known of a target; a new one starts at the beginning."""
        if (known := self.tracked.get(target.id)) is None:
            known = self.tracked[target.id] = Tracked(target, Position())
        return known
