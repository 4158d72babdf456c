"""Gap records, and whether the evidence that each one states fits the journal.

Nothing is inferred from elapsed time. An item of evidence holds, or the journal knows no reason for it, or it
contradicts the journal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from tests.chaos.load import Change, Event, TargetLog

BEHIND_SECONDS: Final = 20.0
"""Two of the kubelet's looks at the size of a log: behind for so long, a file may have been skipped."""
SKIPPED_SECONDS: Final = 8.0
"""A file that was skipped between two rotations lasted for so long, and the line before it came so late."""
_ROUNDING_SECONDS: Final = 0.002

_ROTATED, _SKIPPED, _GONE = "rotation_unseen", "instances_skipped", "pod_gone"

Item = Mapping[str, Any]


class Hole(NamedTuple):
    """A gap record: lines after `from_ns` and before `to_ns` may be missing; None is as far as there are any."""

    uid: str
    certain: bool
    reason: str
    detail: str
    from_ns: int | None
    to_ns: int | None
    evidence: Sequence[Item] = ()
    open_ended: bool = False
    """The record names no end: this one is where the next alert arrived. Who reads no alerts cannot say."""

    def covers(self, at_ns: int) -> bool:
        """Whether a line of this time lies in it."""
        low = self.from_ns if self.from_ns is not None else -1
        return low < at_ns and (self.to_ns is None or at_ns < self.to_ns)

    def __str__(self) -> str:
        return f"{self.reason} {self.from_ns}..{self.to_ns} ({self.detail})"


class UnfoundedError(Exception):
    """The journal knows no reason for what is stated."""


class ContradictedError(Exception):
    """The journal says otherwise, or the record contradicts itself."""


@dataclass
class Review:
    """What became of one gap record."""

    is_founded: bool = False
    """An item of its evidence holds."""
    unfounded: list[str] = field(default_factory=list)
    refuted: list[str] = field(default_factory=list)


def review_of(hole: Hole, target: TargetLog) -> Review:
    """Check a record's ends, its reason, and each item of its evidence."""
    review = Review()
    try:
        _check_ends(hole, target)
        _check_reason(hole)
    except ContradictedError as error:
        review.refuted.append(str(error))
    for item in hole.evidence:
        try:
            if (case := CASES.get(name := item.get("case", ""))) is None:
                raise ContradictedError(f"unknown case {name!r}")
            case.check(item, hole, target)
        except UnfoundedError as error:
            review.unfounded.append(f"{error} ({dict(item)})")
        except ContradictedError as error:
            review.refuted.append(f"{error} ({dict(item)})")
        else:
            review.is_founded = True
    return review


def _check_ends(hole: Hole, target: TargetLog) -> None:
    times = {line.at_ns for line in target.lines}
    ends = [hole.from_ns] if hole.open_ended else [hole.from_ns, hole.to_ns]
    if strange := [end for end in ends if end is not None and end not in times]:
        raise ContradictedError(f"no line was written at {strange}")


def _check_reason(hole: Hole) -> None:
    """Its reason and certainty are those of an item."""
    known = {
        (case.reason, case.certain) for item in hole.evidence if (case := CASES.get(item.get("case", "")))
    }
    if known and (hole.reason, hole.certain) not in known:
        raise ContradictedError("no item of its evidence is a case of its reason and certainty")


def _position_nowhere(item: Item, hole: Hole, target: TargetLog) -> None:
    """Lost from sight where the log was rotated, or the container restarted, while nobody may have read."""
    _restarts(item, hole, target)
    _unread(_between(hole, target, Change.ROTATED, Change.RESTARTED), target)


def _instances_skipped(item: Item, hole: Hole, target: TargetLog) -> None:
    # While a container waits for its restart, its own log is the previous one: the first one's is gone by then.
    least = 1 if item["case"] == _FIRST_SKIPPED else 2
    if _restarts(item, hole, target) < least:
        raise ContradictedError("no instance lies between the one that was read and its next")


def _restarts(item: Item, hole: Hole, target: TargetLog) -> float:
    """The number of restarts that is stated, since the line before the gap. Later there may have been more.

    Where the previous instance's log is read next, the last of them lies behind the gap's end.
    """
    stated = _number(item, "restarts")
    since = _between(hole._replace(to_ns=None), target, Change.RESTARTED)
    inside = [event for event in since if hole.covers(event.at_ns)]
    known = min(len(since), len(inside) + (item["case"] in PREVIOUS_IS_NEXT))
    if not 0 <= stated <= known:
        raise ContradictedError(f"states {stated} restarts, there were {known}")
    return stated


def _begins_late(_: Item, hole: Hole, target: TargetLog) -> None:
    _unread(_between(hole, target, Change.RESTARTED), target)


def _was_behind(item: Item, _: Hole, __: TargetLog) -> None:
    if (stated := _number(item, "behind_seconds")) < BEHIND_SECONDS:
        raise ContradictedError(f"was behind for {stated} s only")


def _skipped_a_while(item: Item, hole: Hole, _: TargetLog) -> None:
    late_seconds, skipped_seconds = _number(item, "late_seconds"), _number(item, "skipped_seconds")
    if hole.from_ns is None or hole.to_ns is None or hole.open_ended:
        raise ContradictedError("names no two lines")
    seconds = (hole.to_ns - hole.from_ns) / 1_000_000_000
    if abs(seconds - skipped_seconds) > _ROUNDING_SECONDS:
        raise ContradictedError(f"states {skipped_seconds} s between lines, there were {seconds:.3f} s")
    if min(late_seconds, seconds) < SKIPPED_SECONDS:
        raise ContradictedError(f"lines came {late_seconds} s late and skipped {seconds:.3f} s only")


def _pod_gone(item: Item, _: Hole, target: TargetLog) -> None:
    gone = [event for event in target.changes if event.what in (Change.DELETED, Change.DELETED_BY_FORCE)]
    if not gone:
        raise ContradictedError("the pod was not deleted")
    if not (item.get("container_running") is True and gone[-1].what is Change.DELETED_BY_FORCE):
        _unread(gone, target)


def _between(hole: Hole, target: TargetLog, *kinds: Change) -> list[Event]:
    return [event for event in target.changes if event.what in kinds and hole.covers(event.at_ns)]


def _unread(events: Sequence[Event], target: TargetLog) -> None:
    if not any(event.epoch.may_not_read(target.uid) for event in events):
        what = ", ".join(event.what for event in events) or "nothing"
        raise UnfoundedError(f"happened to this log: {what}; reading was not disturbed meanwhile")


def _number(item: Item, name: str) -> float:
    if not isinstance(value := item.get(name), int | float) or isinstance(value, bool):
        raise ContradictedError(f"does not state {name}")
    return value


_FIRST_SKIPPED = "first line to come, an instance came and went unread since the target is on record"
_FIRST_REMOVED = "first line to come, the previous log was removed since the target is on record"

PREVIOUS_IS_NEXT: Final = frozenset(
    (
        _FIRST_SKIPPED,
        "position nowhere, an instance came and went unread since",
        "stream ended cleanly, container restarted twice since",
        "position nowhere, restarted once since",
    )
)


class _Case(NamedTuple):
    reason: str
    check: Callable[[Item, Hole, TargetLog], None]
    certain: bool = False


CASES: Final[Mapping[str, _Case]] = {
    "pod gone, log perhaps not read to its end": _Case(_GONE, _pod_gone),
    "pod gone, its stream was silent for 60 s": _Case(_GONE, _pod_gone),
    _FIRST_SKIPPED: _Case(_SKIPPED, _instances_skipped),
    _FIRST_REMOVED: _Case(_ROTATED, _position_nowhere),
    "position nowhere, an instance came and went unread since": _Case(_SKIPPED, _instances_skipped, True),
    "position nowhere, an instance came and went unread since, no previous log": _Case(
        _SKIPPED, _instances_skipped, True
    ),
    "stream ended cleanly, container restarted twice since": _Case(_SKIPPED, _instances_skipped),
    "position nowhere, restarted twice since, no previous log": _Case(_SKIPPED, _instances_skipped),
    "position nowhere, restarted once since": _Case(_ROTATED, _position_nowhere),
    "position nowhere, restarted once since, no previous log or its last lines were taken": _Case(
        _ROTATED, _position_nowhere
    ),
    "position nowhere, not restarted since": _Case(_ROTATED, _position_nowhere),
    "reading was behind": _Case(_ROTATED, _was_behind),
    "lines arrived late and then skipped a while": _Case(_ROTATED, _skipped_a_while),
    "the log was empty after checks that had failed": _Case(_ROTATED, _position_nowhere),
    "the log does not begin with its container": _Case(_ROTATED, _begins_late),
}
"""The cases of docs/reading.md in which a gap is reported."""
