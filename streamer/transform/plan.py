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
"""By record id; what the core has failed at by `line_key`, `window_key` and `record_key`."""

_LINE: Final = "line/"
_WINDOW: Final = "window/"
EVERY_WINDOW: Final = "window/*"
"""Stands for all windows: the core has failed at so many that the others are not tried."""
MOST_FAILURES: Final = 2
"""So often the core may fail at one part: the second time, what is published in its place has no text."""


def line_key(target: str, number: int) -> str:
    """The name of a target's line among what was refused; `number` counts the target's lines."""
    return f"{_LINE}{target}/{number}"


def window_key(target: str, group: bytes = b"") -> str:
    """The name of a target's window among what was refused; without a group, of all its windows."""
    return f"{_WINDOW}{target}/{group.hex()}"


def record_key(health: str, target: str, name: str) -> str:
    """The name of a health record among what was refused; `name` tells it from others of its target."""
    return f"{health}/{target}/{name}"


def has_failed_lines(refused: Refused) -> bool:
    """Whether the core has failed at lines, apart from what Kafka refused."""
    return any(name.startswith(_LINE) for name in refused)


class CoreFailedError(Exception):
    """The core has failed at a part of a publication, and the cause says how. The state is half changed.

    The publication can be made without that part, which is named by `key`.
    """

    def __init__(self, key: str, target: str, what: str) -> None:
        super().__init__(f"{what} of {target}")
        self.key = key
        self.target = target
        self.what = what


class LineFailedError(CoreFailedError):
    """The core has failed at a line."""

    def __init__(self, target: str, number: int) -> None:
        super().__init__(line_key(target, number), target, f"line {number}")


class WindowFailedError(CoreFailedError):
    """The core has failed at a window, or with no group at the windows of a target: no fault of any line's."""

    def __init__(self, target: str, group: bytes = b"") -> None:
        what = f"window {group.hex()}" if group else "windows"
        super().__init__(window_key(target, group), target, what)


class RecordFailedError(CoreFailedError):
    """The core has failed at a health record."""

    def __init__(self, health: str, target: str, name: str) -> None:
        super().__init__(record_key(health, target, name), target, f"health record {health}")


class ForgetFailedError(CoreFailedError):
    """The core has failed at forgetting a target that is gone."""

    def __init__(self, target: str) -> None:
        super().__init__(forget_key(target), target, "forgetting")


def forget_key(target: str) -> str:
    """The name, among what was refused, of forgetting a target."""
    return f"forget/{target}"


def failed_part(error: BaseException) -> CoreFailedError | None:
    """The part at which the core has failed: the innermost one that is named; None if none is."""
    found: CoreFailedError | None = None
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, CoreFailedError):
            found = cause
        cause = cause.__cause__
    return found
