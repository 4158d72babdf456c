"""Collect what is seen of one target's log, until a decision is due."""

from __future__ import annotations

from dataclasses import replace

from streamer.model import DigestRing
from streamer.source.evidence import EndOfLog, Evidence, HowEnded, InCurrent, InPrevious
from streamer.source.pod_status import PodStatusCache
from streamer.source.progress import Progress
from streamer.source.search import LogEnd


class Seen:
    """One target's. What is seen of its pod and its position is asked for when it is needed."""

    __slots__ = ("_progress", "_status", "end", "facts", "held", "held_lines")

    def __init__(self, first: Evidence, progress: Progress, status: PodStatusCache, tail_lines: int) -> None:
        self._progress = progress
        self._status = status
        self.facts = first
        """What the steps have seen."""
        self.end = LogEnd()
        """How the log ended when a finite answer last showed it."""
        self.held_lines: int | None = tail_lines
        """In how many of the log's last lines the position was found; None: in the whole log."""
        self.held = DigestRing()
        """The position's lines in that answer."""

    def evidence(self) -> Evidence:
        """All of it, as it is now."""
        progress, status, stream = self._progress, self._status, self.facts.stream
        doubted = stream is not None and stream.how is HowEnded.OUT_OF_ORDER
        return replace(
            self.facts,
            pod=status.view,
            has_position=bool(progress.ring),
            lines_alike=progress.ring.is_one_line and (progress.ring.lines > 1 or doubted),
            instance=progress.instance,
            instance_ended_ns=status.ended_ns(progress.instance),
            drained=progress.drained,
            departed=status.departed,
            ended_known_at=status.ended_at,
            deleting_known_at=status.deleting_at,
        )

    def note(self, **facts: object) -> None:
        """Add what a step has seen, by the fields of `Evidence`."""
        self.facts = replace(self.facts, **facts)  # type: ignore[arg-type]

    def start_search(self) -> None:
        """What was seen of where the position is does not hold any more. How the last stream ended does."""
        self.end = LogEnd()
        self.note(
            asked=False,
            status_awaited=False,
            fresh=False,
            current=InCurrent.UNKNOWN,
            previous=InPrevious.UNKNOWN,
            end=EndOfLog.UNKNOWN,
        )
