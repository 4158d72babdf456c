"""How lines are to be treated: what of the configuration the core needs, and what Kafka refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from streamer.model import Reason
from streamer.transform.filter import Filters
from streamer.transform.limit import Rate
from streamer.transform.route import Router
from streamer.transform.treatment import DedupePlan, LimitPlan


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that decides about lines, but for the lines and the state."""

    cluster: str
    router: Router
    dead_letter_topic: str
    health_topic: str
    overflow_topic: str
    summaries_topic: str
    dead_letters: Rate
    filters: Filters = field(default_factory=Filters)
    dedupe: DedupePlan = field(default_factory=DedupePlan)
    limits: LimitPlan = field(default_factory=LimitPlan)
    annotate: bool = False
    fields: Mapping[str, str] = field(default_factory=dict)
    """Static fields of every record."""
    shards: int = 0
    """Into how many shards the targets are divided; 0 where nothing is divided."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Kafka refused a record for itself, each time that it was tried, for these reasons in turn.

    Its line becomes a dead letter: all but the first refusal are that one's then.
    """

    reasons: tuple[Reason, ...]

    @property
    def times(self) -> int:
        """How often it was refused."""
        return len(self.reasons)


Refused = Mapping[str, Refusal]
"""By record id."""
