"""What is known about one target's log at the moment a decision is due: one frozen value, built from observations.

The follower collects it, `verdict.judge` decides from it. Nothing here does I/O or reads a clock.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from math import inf
from typing import Final

from streamer.model import Instance
from streamer.source.pods import PodView
from streamer.transform.read import StampedLines

_SECOND_NS: Final = 1_000_000_000
_DELETION_SECONDS: Final = 3.0
"""A kubelet that ends a deleted pod's container confirms it, and the pod object goes, within this time."""
_END_WINDOW_NS: Final = 5 * _SECOND_NS
"""The kubelet's reader polls once a second whether a container has ended, and `finishedAt` has whole seconds: a
stream that ends within this time after `finishedAt` ended because its container did. One that ends before it was
ended by something else: a kubelet that was killed, its limit of 4 h, a hung node."""


class HowEnded(StrEnum):
    """How a stream ended."""

    CLEAN = "cleanly"  # as it does when the container ends, the kubelet is killed or its 4 h limit is reached
    ERROR_TEXT = "with an error text"  # the kubelet wrote into the body why it cannot go on
    BROKEN = "broken"  # the connection failed
    OUT_OF_ORDER = "out of order"  # it brought old lines again, or does not bring what the log has
    LATER_INSTANCE = "before its first line"  # which a later instance wrote than the status had shown


@dataclass(frozen=True, slots=True)
class StreamEnd:
    """One connection, after it ended."""

    how: HowEnded
    at: float = 0.0
    """When, on the loop's clock."""
    taken_lines: int = 0
    in_doubt: bool = False
    """It was silent, and whether it still brought what was written could not be checked."""
    compared_at: float = -inf
    """When the log was last requested, on the loop's clock, and had no more than was taken; -inf if never."""
    last_taken_at: float = -inf
    """When this stream last brought a line, on the loop's clock; -inf if never."""
    lively: bool = False
    """It had caught up, or its container ran when it was opened; and it ended within 1.5 s of its last line being
    written: it was neither stalled nor behind."""
    at_node_ns: int | None = None
    """When it ended by the node's clock, as estimated from the delay of its lines; None if that is not known."""
    rest: StampedLines | None = None
    """What it brought after its last newline; None if it is not known to be the log's."""

    @property
    def is_clean(self) -> bool:
        """It ended as it does when the container ends, and what it brought is the log's."""
        return self.how is HowEnded.CLEAN and not self.in_doubt

    @property
    def has_rest(self) -> bool:
        """It brought a line without a newline at its end."""
        return self.rest is not None and bool(self.rest.lines)

    @property
    def cut_off(self) -> bool:
        """It ended within a line's time, which is written at once: not because its container ended."""
        return self.rest is not None and self.rest.fragments > 0

    @property
    def settled(self) -> bool:
        """The log was compared with what was taken after the last line came: the stream had not missed a file."""
        return not self.in_doubt and self.compared_at >= self.last_taken_at and self.compared_at > -inf

    def after(self, before: StreamEnd | None) -> StreamEnd:
        """What this end is worth after another one, where nothing has contradicted that: this stream found its place.

        A stream that ended before the status showed its container's end is opened again, and brings nothing. Then
        what the first one had shown of the place still holds. What stands behind this one's last newline may be a piece
        of a line that it brought again when it was cut off: where the first one had not shown that, it is not taken.
        """
        if not self.is_clean or self.taken_lines:
            return self
        if before is None or before.how is not HowEnded.CLEAN or not (before.settled or before.lively):
            return self
        rest = _longer(self.rest, before.rest)
        if self.settled:
            return replace(self, rest=rest)
        if self.has_rest and rest is not before.rest:
            return self if before.has_rest else before  # two that differ contradict each other
        if not before.settled:
            return replace(before, rest=rest)
        return replace(self, compared_at=before.compared_at, last_taken_at=before.last_taken_at, rest=rest)


def _longer(rest: StampedLines | None, before: StampedLines | None) -> StampedLines | None:
    """Which of two answers shows more of the same last line: the other one was cut off within it."""
    if before is None or not before.lines:
        return rest
    if rest is None or not rest.lines or before.lines[0].startswith(rest.lines[0]):
        return before
    return rest


class InCurrent(StrEnum):
    """Where the position stands in the log that the API serves as the current one."""

    UNKNOWN = "not looked for"
    UNSURE = (
        "not shown so far"  # the stream paused before it showed it: it may be slow, or the position elsewhere
    )
    EMPTY = "not in the tail, which has no line"
    NOT_IN_TAIL = "not in the tail"
    NOT_IN_LONGER_TAIL = "not in the longer tail"
    ABSENT = "not in the log"
    HELD = "in the log"  # and what follows it was taken
    HELD_FARTHER = (
        "in the log, not in the tail that was followed"  # its lines are long: a tail counts records
    )


class InPrevious(StrEnum):
    """Where the position stands in the previous instance's log."""

    UNKNOWN = "not looked for"
    NOT_IN_TAIL = "not in the tail"
    ABSENT = "not in the log"
    ROTATED = "rotated away, its last lines were taken"  # the log is the one that was read
    NO_LOG = "there is no log"  # never was, or was removed
    EMPTY = "the log has no line"
    HELD = "in the log"  # and the log was read from there to its end
    TAKEN = "another instance's log, read whole"


class EndOfLog(StrEnum):
    """What a look at the log's end showed, after the container ended."""

    UNKNOWN = "not looked at"
    WHOLE = "as taken"  # a last line without a newline included
    MORE = "has more"
    EMPTY = "empty"
    REMOVED = "removed"  # the container is gone from its node, and its log with it


class Refusal(StrEnum):
    """Why the last request brought nothing."""

    LOG_REMOVED = "the container or its log was removed from the node"
    NOT_SERVED = "not served"  # not yet, or no longer; or it changed while it was read
    FORBIDDEN = "forbidden"
    THROTTLED = "throttled"  # 401, 429, 503: says nothing about the log or its node
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that a decision depends on."""

    pod: PodView
    """As it was last described; as it was at the last, where it is gone."""
    has_position: bool = True
    """Lines of this target were taken."""
    lines_alike: bool = False
    """The last lines taken are one line, time included, again and again: a tail may show it at several places."""
    on_record: bool = False
    """The target was known before, or before its container started: all that it prints is ours to read."""
    instance: Instance | None = None
    """Whose lines were taken last, as far as the API has told."""
    instance_ended_ns: int | None = None
    """When that instance ended, by the node's clock; None if no status that was seen has said so."""
    drained: bool = False
    """That instance has ended and its log was read to its end."""
    from_now: bool = False
    """Only what is written from now on is wanted, and where that begins is not known yet."""
    gone: bool = False
    """The pod was deleted, or its name belongs to another pod."""
    departed: bool = False
    """The watch reported that the pod left: it was deleted, or lost its label."""
    asked: bool = False
    """The pod was requested since the stream ended, or since this search began."""
    deleting_known_at: float = inf
    """When the pod was first known to be deleted, on the loop's clock; inf while it is not."""
    gone_at: float = inf
    """When the pod was first known to be gone, on the loop's clock."""
    ended_known_at: float = inf
    """When the container was first known to have ended, on the loop's clock; inf while it runs."""
    status_awaited: bool = False
    """The pod's status was given time to catch up with the log."""
    stream: StreamEnd | None = None
    """The last stream, while nothing contradicts what its end seemed to be."""
    fresh: bool = False
    """That stream has ended just now."""
    unexplained: bool = False
    """That stream ended cleanly, and the status did not show that its container had."""
    current: InCurrent = InCurrent.UNKNOWN
    previous: InPrevious = InPrevious.UNKNOWN
    end: EndOfLog = EndOfLog.UNKNOWN
    refusal: Refusal | None = None
    removals: int = 0
    """How often the log was found removed since it was last served."""

    @property
    def restarts(self) -> int:
        """How often the container was started since the instance whose lines were taken last."""
        now = self.pod.instance.restart_count if self.pod.instance else 0
        return now - (self.instance.restart_count if self.instance else 0)

    @property
    def skipped(self) -> int:
        """How many instances ran after the last one that was read and before the one whose log is the previous one."""
        now = self.pod.instance.restart_count if self.pod.instance else 0
        first_unread = self.instance.restart_count if self.instance else 0
        if self.has_position or self.drained:
            first_unread += 1
        # While a container waits for its restart, its own log is the previous one.
        previous = now if self.pod.previous == self.pod.instance else now - 1
        return max(0, previous - first_unread)

    @property
    def other_instance(self) -> bool:
        """The pod's status names another instance than the one whose lines were taken last."""
        return self.instance != self.pod.instance

    @property
    def container_ended(self) -> bool:
        """The instance whose lines were taken last is known to have ended, and no later one to have begun."""
        return self.instance is not None and self.instance == self.pod.instance and not self.pod.running

    @property
    def ended_cleanly(self) -> bool:
        """A stream has ended just now, as it does when its container ends."""
        return self.fresh and self.stream is not None and self.stream.how is HowEnded.CLEAN

    @property
    def ended_with_container_after_all(self) -> bool:
        """A stream ended cleanly some steps ago, and its container is known to have ended now."""
        ended = self.stream is not None and self.stream.how is HowEnded.CLEAN and self.container_ended
        return ended and self.unexplained and not self.fresh and self.refusal is None

    @property
    def compared_after_end(self) -> bool:
        """The log was compared with what was taken after its container was known to have ended."""
        return self.stream is not None and self.stream.compared_at >= self.ended_known_at

    @property
    def final(self) -> bool:
        """The end of the last stream was the end of its container, and the stream had brought everything.

        A clean end alone means nothing. It counts where the container is known to have ended and

        - the log was compared with what was taken after that was known, or
        - the stream was lively or settled, and ended when its container did.
        """
        stream = self.stream
        if stream is None or not stream.is_clean:
            return False
        if self.instance not in (None, self.pod.instance):
            return False
        if self.compared_after_end and not self.pod.running:
            return True
        if stream.cut_off:
            return False
        if self.pod.running:
            return self.ended_by_deletion and (stream.lively or stream.settled)
        if self.pod.ended_ns is None or stream.at_node_ns is None:
            return stream.lively and not stream.has_rest
        return _ended_with_container(stream, self.pod.ended_ns)

    @property
    def final_before_restart(self) -> bool:
        """The same of an earlier instance: the container was restarted since.

        What was compared does not count: it may have been compared with a later instance's log.
        """
        stream = self.stream
        if stream is None or not stream.is_clean or stream.cut_off:
            return False
        return self.restarts > 0 and _ended_with_container(stream, self.instance_ended_ns)

    @property
    def ended_by_deletion(self) -> bool:
        """The stream ended once the pod was known to be deleted, and within seconds of the pod's going.

        Then its container was ended by the deletion, also where no status showed that it had ended: a kubelet that is
        hung or dead, whose streams the API server ends cleanly as well, confirms no deletion.
        """
        return (
            self.gone
            and self.pod.deleting
            and self.stream is not None
            and self.stream.at >= self.deleting_known_at
            and abs(self.gone_at - self.stream.at) <= _DELETION_SECONDS
        )

    def stated(self) -> dict[str, str | int | bool | None]:
        """What a gap record says of it."""
        stream = self.stream
        return {
            "restarts": self.restarts,
            "container_running": self.pod.running,
            "pod_deleting": self.pod.deleting,
            "stream_ended": None if stream is None else stream.how.value,
            "stream_settled": stream is not None and stream.settled,
            "position_in_current_log": self.current.value,
            "position_in_previous_log": self.previous.value,
        }

    @property
    def left_for_good(self) -> bool:
        """The pod left with its container ended, by itself or by a deletion: it was not started again."""
        last = self.pod
        ended = not last.running or self.ended_by_deletion
        return ended and (last.deleting or last.finished) and self.instance in (None, last.instance)


def _ended_with_container(stream: StreamEnd, ended_ns: int | None) -> bool:
    """A stream that ended cleanly ended because its container did, at `ended_ns`, and had brought everything."""
    if ended_ns is None or stream.at_node_ns is None:
        return False
    after_ns = stream.at_node_ns - ended_ns
    with_container = 0 <= after_ns <= _END_WINDOW_NS
    if stream.has_rest:  # it may have been cut off within a line
        return with_container and (stream.settled or (stream.lively and stream.taken_lines > 0))
    return (stream.lively and after_ns >= 0) or (stream.settled and with_container)
