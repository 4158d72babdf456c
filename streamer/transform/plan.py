"""How lines are to be treated: what of the configuration the core needs, and what Kafka refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

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
"""By record id; what the core has failed at by `line_key`."""

_LINE: Final = "line/"
MOST_FAILURES: Final = 2
"""So often the core may fail at one line: the second time, its dead letter has no text."""


def line_key(target: str, number: int) -> str:
    """The name of a target's line among what was refused; `number` counts the target's lines."""
    return f"{_LINE}{target}/{number}"


def has_failed_lines(refused: Refused) -> bool:
    """Whether the core has failed at lines, apart from what Kafka refused."""
    return any(name.startswith(_LINE) for name in refused)


class LineFailedError(Exception):
    """The core has failed at a line; the cause says how. The state that it was working on is half changed."""

    def __init__(self, target: str, number: int) -> None:
        super().__init__(f"line {number} of {target}")
        self.target = target
        self.number = number


class WindowFailedError(Exception):
    """The core has failed at a window that ended before a line: no fault of the line's."""
