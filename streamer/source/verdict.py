"""What to do next, and whether lines may be missing: a table with one row for each case, and nothing else.

`judge` takes the first row whose condition holds. docs/reading.md shows the table; a test keeps the two the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from streamer.model import GapReason
from streamer.source.evidence import EndOfLog, Evidence, HowEnded, InCurrent, InPrevious, Refusal


class Step(StrEnum):
    """One thing that the follower can do next."""

    ASK_POD = "request the pod"
    AWAIT_STATUS = "request the pod until its status shows a restart, for up to 5 s"
    SKIP_TO_NOW = "take the log's end as the position"
    FOLLOW_TAIL = "follow from the position, with the last 512 lines"
    FOLLOW_LONGER = "follow from the position, with as many lines as showed it"
    FOLLOW_FIRST = "follow the log from its first line"
    FOLLOW_NEXT = "follow the next instance's log from its first line"
    READ_TAIL = "read the last 512 lines"
    READ_LONGER_TAIL = "read the last 8192 lines"
    READ_WHOLE = "read the whole log"
    READ_PREVIOUS_TAIL = "read the previous log's last 512 lines"
    READ_PREVIOUS = "read the whole previous log"
    TAKE_PREVIOUS = "take the previous log from its first line"
    LOOK_AT_END = "look at the log's end"
    JUDGE_END_AGAIN = "judge the stream's end again"
    TAKE_REST = "take what the stream brought behind its last newline"
    AWAIT_START = "wait until the watch reports that the container starts"
    RETRY = "retry after a back-off"
    RETRY_AT_ONCE = "search again at once"
    RETRY_IN_TURN = "retry when it is the target's turn in its namespace"
    AWAIT_RESTART = "wait until the container starts again or the pod leaves"
    DONE = "done"


class Loss(NamedTuple):
    """A gap to report: lines are missing, or may be."""

    reason: GapReason
    certain: bool
    detail: str


class Verdict(NamedTuple):
    """What a row says."""

    step: Step
    gap: Loss | None = None
    drained: bool = False
    """The log of the instance in hand is known to have been read to its end."""
    case: str = ""
    """The row's name."""


@dataclass(frozen=True, slots=True)
class Row:
    """One case. `case` is its name in the docs and in the logs."""

    case: str
    when: Callable[[Evidence], bool]
    step: Step
    gap: GapReason | None = None
    certain: bool = False
    drained: bool = False
    detail: str = ""


def judge(evidence: Evidence) -> Verdict:
    """The verdict of the first row that matches."""
    return verdict_of(row_of(evidence), evidence)


def row_of(evidence: Evidence) -> Row:
    """The first row that matches; the last one always does."""
    return next(row for row in TABLE if row.when(evidence))


def verdict_of(row: Row, evidence: Evidence) -> Verdict:
    """A row's verdict, with the numbers of this case in the gap's text."""
    loss = None
    if row.gap is not None:
        loss = Loss(row.gap, row.certain, row.detail.format(restarts=evidence.restarts))
    return Verdict(row.step, loss, row.drained, row.case)


def _brought_nothing(e: Evidence) -> bool:
    return e.stream is not None and e.stream.taken_lines == 0


def _not_started(e: Evidence) -> bool:
    return e.pod.instance is None and not e.pod.running and not e.has_position


def _first_after_restart(e: Evidence) -> bool:
    return (
        not e.has_position
        and e.pod.instance is not None
        and e.pod.instance.restart_count > 0
        and e.other_instance
        and e.previous is InPrevious.UNKNOWN
    )


def _ours_is_complete(e: Evidence) -> bool:
    """The log of the instance whose lines were taken last was read to its end: the next instance's follows."""
    if not e.has_position:
        return False
    return e.previous in (InPrevious.HELD, InPrevious.TAKEN) or (
        e.drained and e.other_instance and e.restarts == 1
    )


def _next_has_ended(e: Evidence) -> bool:
    return _ours_is_complete(e) and e.restarts == 1 and e.pod.instance == e.pod.previous


def _nowhere(e: Evidence) -> bool:
    return e.current is InCurrent.ABSENT and e.previous in (
        InPrevious.ABSENT,
        InPrevious.ROTATED,
        InPrevious.NO_LOG,
        InPrevious.EMPTY,
    )


_REMOVALS: Final = 5
"""A runtime that is away for a moment makes the kubelet answer as if the container were removed."""

_ROTATED: Final = "the last line read was rotated away while the log was not read"
_SKIPPED: Final = "restarts of the container while its log was not read: {restarts}"

TABLE: Final[tuple[Row, ...]] = (
    # The pod is gone: what was taken is all there is.
    Row(
        "pod gone, log read to its end",
        lambda e: e.gone and (e.drained or e.final) and e.left_for_good,
        Step.DONE,
    ),
    Row(
        "pod gone, log perhaps not read to its end",
        lambda e: e.gone,
        Step.DONE,
        gap=GapReason.POD_GONE,
        detail="the pod was removed before its log was known to be read to its end",
    ),
    Row(
        "stream ended cleanly some steps ago, its container's end known only now",
        lambda e: e.ended_with_container_after_all,
        Step.JUDGE_END_AGAIN,
    ),
    # The last request was refused.
    Row(
        "container ended, log read to its end, and found removed five times",
        lambda e: e.removals >= _REMOVALS and e.container_ended and e.final,
        Step.AWAIT_RESTART,
        drained=True,
    ),
    Row("log removed from the node", lambda e: e.refusal is Refusal.LOG_REMOVED, Step.RETRY),
    Row("request forbidden", lambda e: e.refusal is Refusal.FORBIDDEN, Step.RETRY_IN_TURN),
    Row("request refused or failed", lambda e: e.refusal is not None, Step.RETRY),
    # A stream has ended.
    Row(
        "stream out of order, after new lines",
        lambda e: (
            e.fresh
            and e.stream is not None
            and e.stream.how is HowEnded.OUT_OF_ORDER
            and e.stream.taken_lines > 0
        ),
        Step.RETRY_AT_ONCE,
    ),
    Row(
        "log of a later instance than its pod's status had shown",
        lambda e: e.fresh and e.stream is not None and e.stream.how is HowEnded.LATER_INSTANCE,
        Step.RETRY_AT_ONCE,
    ),
    Row(
        "stream out of order, broken or ended with an error text",
        lambda e: e.fresh and e.stream is not None and e.stream.how is not HowEnded.CLEAN,
        Step.RETRY,
    ),
    Row(
        "stream ended cleanly, pod not requested since",
        lambda e: e.ended_cleanly and not e.asked,
        Step.ASK_POD,
    ),
    Row(
        "stream ended cleanly, container ended, log not looked at since",
        lambda e: (
            e.ended_cleanly
            and e.container_ended
            and e.end is EndOfLog.UNKNOWN
            and not (e.compared_after_end and e.final)
        ),
        Step.LOOK_AT_END,
    ),
    Row(
        "stream ended cleanly, container ended, nothing more in its log",
        lambda e: (
            e.ended_cleanly
            and e.container_ended
            and (
                e.end is EndOfLog.WHOLE
                or (e.end is EndOfLog.UNKNOWN and e.final)
                or (e.end is EndOfLog.REMOVED and e.final)
                or (e.end is EndOfLog.EMPTY and (e.final or _brought_nothing(e)))
            )
        ),
        Step.AWAIT_RESTART,
        drained=True,
    ),
    Row(
        "stream ended cleanly, container ended, log has more or cannot be compared",
        lambda e: e.ended_cleanly and e.container_ended,
        Step.RETRY,
    ),
    Row("stream ended cleanly, container runs or was restarted", lambda e: e.ended_cleanly, Step.RETRY),
    # Nothing to read.
    Row(
        "nothing to read, the watch reports that the pod left",
        lambda e: e.departed and not e.asked and (_not_started(e) or (e.drained and e.container_ended)),
        Step.ASK_POD,
    ),
    Row(
        "container ended, log read to its end",
        lambda e: e.drained and e.container_ended,
        Step.AWAIT_RESTART,
        drained=True,
    ),
    Row(
        "container not started yet",
        _not_started,
        Step.AWAIT_START,
    ),
    # Nothing was read yet.
    Row("first connection, start: now", lambda e: e.from_now, Step.SKIP_TO_NOW),
    Row(
        "first connection, pod not requested yet",
        lambda e: not e.has_position and not e.asked,
        Step.ASK_POD,
    ),
    Row(
        "first line to come, an instance came and went unread since the target is on record",
        lambda e: _first_after_restart(e) and e.on_record and e.skipped > 0,
        Step.TAKE_PREVIOUS,
        gap=GapReason.INSTANCES_SKIPPED,
        detail=_SKIPPED,
    ),
    Row(
        "first connection, container was restarted before",
        _first_after_restart,
        Step.TAKE_PREVIOUS,
    ),
    Row(
        "first line to come, the previous log was removed since the target is on record",
        lambda e: not e.has_position and e.on_record and e.restarts > 0 and e.previous is InPrevious.NO_LOG,
        Step.FOLLOW_FIRST,
        gap=GapReason.ROTATION_UNSEEN,
        detail="the previous log was removed before it was read",
    ),
    Row("first connection", lambda e: not e.has_position, Step.FOLLOW_FIRST),
    # The instance in hand was read to its end: the next one follows, as soon as its log is served.
    Row(
        "own log complete, container waits for its restart",
        lambda e: _ours_is_complete(e) and e.pod.instance == e.pod.previous == e.instance,
        Step.RETRY,
    ),
    # The status may have shown the restart late, and the log that was read be that of the next instance.
    Row(
        "own log complete, next instance has ended as well, its log not looked at",
        lambda e: _next_has_ended(e) and e.previous is InPrevious.UNKNOWN,
        Step.READ_PREVIOUS_TAIL,
    ),
    Row(
        "own log complete, next instance has ended as well",
        lambda e: _next_has_ended(e) and e.previous is InPrevious.NOT_IN_TAIL,
        Step.TAKE_PREVIOUS,
    ),
    Row(
        "own log complete, current log not looked at",
        lambda e: _ours_is_complete(e) and e.current is InCurrent.UNKNOWN,
        Step.READ_TAIL,
    ),
    Row(
        "own log complete, and still served as the current one",
        lambda e: _ours_is_complete(e) and e.current is InCurrent.HELD,
        Step.RETRY,
    ),
    Row("own log complete, next instance's log is served", _ours_is_complete, Step.FOLLOW_NEXT),
    # The position is looked for: from the cheapest place to the dearest.
    Row(
        "container restarted since, previous log not looked at",
        lambda e: e.other_instance and e.previous is InPrevious.UNKNOWN,
        Step.READ_PREVIOUS_TAIL,
    ),
    Row(
        "container restarted since, position not in the previous log's tail",
        lambda e: e.previous is InPrevious.NOT_IN_TAIL,
        Step.READ_PREVIOUS,
    ),
    Row(
        "position not looked for, and its lines are all alike",
        lambda e: e.current is InCurrent.UNKNOWN and e.lines_alike,
        Step.READ_WHOLE,
    ),
    Row("position not looked for", lambda e: e.current is InCurrent.UNKNOWN, Step.FOLLOW_TAIL),
    Row("position in the log", lambda e: e.current is InCurrent.HELD, Step.FOLLOW_TAIL),
    Row(
        "position in the log, not in the tail that was followed",
        lambda e: e.current is InCurrent.HELD_FARTHER,
        Step.FOLLOW_LONGER,
    ),
    Row("stream paused before the position", lambda e: e.current is InCurrent.UNSURE, Step.READ_TAIL),
    Row("log has no line", lambda e: e.current is InCurrent.EMPTY, Step.READ_WHOLE),
    Row("position not in the tail", lambda e: e.current is InCurrent.NOT_IN_TAIL, Step.READ_LONGER_TAIL),
    Row(
        "position not in the longer tail",
        lambda e: e.current is InCurrent.NOT_IN_LONGER_TAIL,
        Step.READ_WHOLE,
    ),
    Row(
        "position not in the log, previous log not looked at",
        lambda e: e.previous is InPrevious.UNKNOWN,
        Step.READ_PREVIOUS_TAIL,
    ),
    # The position is nowhere: lines may be missing.
    Row(
        "position nowhere, status may be older than the log",
        lambda e: _nowhere(e) and not e.status_awaited,
        Step.AWAIT_STATUS,
    ),
    Row(
        "position nowhere, its log removed after the stream ended with its container",
        lambda e: (
            _nowhere(e)
            and not e.drained
            and e.final_before_restart
            and (e.previous is InPrevious.NO_LOG or e.restarts > 1)
        ),
        Step.TAKE_REST,
    ),
    Row(
        "position nowhere, an instance came and went unread since",
        lambda e: _nowhere(e) and e.skipped > 0 and e.previous is InPrevious.ABSENT,
        Step.TAKE_PREVIOUS,
        gap=GapReason.INSTANCES_SKIPPED,
        certain=True,
        detail=_SKIPPED,
    ),
    Row(
        "position nowhere, an instance came and went unread since, no previous log",
        lambda e: _nowhere(e) and e.skipped > 0,
        Step.FOLLOW_NEXT,
        gap=GapReason.INSTANCES_SKIPPED,
        certain=True,
        detail=_SKIPPED,
    ),
    Row(
        "stream ended cleanly and log read to its end, container restarted twice since",
        lambda e: _nowhere(e) and e.restarts == 2 and e.drained and e.previous is InPrevious.ABSENT,
        Step.TAKE_PREVIOUS,
    ),
    Row(
        "stream ended cleanly, container restarted twice since",
        lambda e: _nowhere(e) and e.restarts == 2 and e.previous is InPrevious.ABSENT,
        Step.TAKE_PREVIOUS,
        gap=GapReason.INSTANCES_SKIPPED,
        detail=_SKIPPED,
    ),
    Row(
        "position nowhere, restarted twice since, no previous log",
        lambda e: _nowhere(e) and e.restarts == 2,
        Step.FOLLOW_NEXT,
        gap=GapReason.INSTANCES_SKIPPED,
        detail=_SKIPPED,
    ),
    Row(
        "position nowhere, restarted once since",
        lambda e: _nowhere(e) and e.restarts == 1 and e.previous is InPrevious.ABSENT,
        Step.TAKE_PREVIOUS,
        gap=GapReason.ROTATION_UNSEEN,
        detail=_ROTATED,
    ),
    Row(
        "position nowhere, restarted once since, no previous log or its last lines were taken",
        lambda e: _nowhere(e) and e.restarts == 1,
        Step.FOLLOW_NEXT,
        gap=GapReason.ROTATION_UNSEEN,
        detail=_ROTATED,
    ),
    Row(
        "position nowhere, not restarted since",
        lambda _: True,
        Step.FOLLOW_FIRST,
        gap=GapReason.ROTATION_UNSEEN,
        detail=_ROTATED,
    ),
)
