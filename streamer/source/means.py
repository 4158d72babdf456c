"""What the actors of all targets share, and whom they work for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from streamer.model import LogBatch, Position, Target
from streamer.source.api import KubernetesApi
from streamer.source.follower import Follower
from streamer.source.patience import Patience
from streamer.source.pods import PodView
from streamer.source.probes import ProbeTurns
from streamer.source.recovery import Recovery
from streamer.source.rights import Rights


class Owner(Protocol):
    """Who keeps a target's position and takes its batches: a shard."""

    async def attach(self, target: Target) -> Position | None:
        """The target's position, as soon as the state is loaded; None if it was never followed."""
        ...

    async def put(self, batch: LogBatch) -> None:
        """Take a batch; waits while there is no room."""
        ...


@dataclass(frozen=True, slots=True)
class Means:
    """What all actors share."""

    api: KubernetesApi
    rights: Rights
    """Whether single pods may be requested."""
    log_rights: Rights
    recovery: Recovery
    max_line_bytes: int
    from_now: bool
    patience: Patience
    turns: ProbeTurns

    def follower(self, view: PodView, position: Position | None, owner: Owner) -> Follower:
        """One that reads a target from its position on, for its owner."""
        return Follower(
            self.api,
            view,
            position,
            owner.put,
            max_line_bytes=self.max_line_bytes,
            from_now=self.from_now,
            patience=self.patience,
            recovery=self.recovery,
            turns=self.turns,
            rights=self.log_rights,
        )
