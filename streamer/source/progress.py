"""How far a target is read, and the handing over of what was read."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Final

from streamer.flow.backoff import Backoff
from streamer.model import DigestRing, Gap, GapReason, Instance, LogBatch, Position, PositionStatus, Target
from streamer.telemetry.status import StreamState
from streamer.transform import align
from streamer.transform.read import StampedLines

_MOST_EVIDENCE: Final = 8
"""What a gap states of the times at which lines may have been missed; earlier ones are dropped."""

Put = Callable[[LogBatch], Awaitable[None]]


class Progress:
    """The position as it moves. What `put` has not taken has not been read."""

    def __init__(self, target: Target, position: Position | None, put: Put) -> None:
        position = position or Position()
        self._target = target
        self._put = put
        self._clock = asyncio.get_running_loop().time
        self._putting_ns: int | None = None
        self._read_at = self._clock()
        self.state = StreamState.OPENING
        self.opened = False
        """Whether a stream has been open."""
        self.cause = ""
        """What failed last, since a stream was open; "" if nothing did."""
        self._unread_since: float | None = self._clock()
        self.ring = position.ring
        self.last_ns = position.last_ns or None
        self.newest_ns = 0
        self.instance = position.instance
        """Whose lines were taken last, as far as the API has told."""
        self.gap: Gap | None = None
        """Goes out with the next line, or with the end."""
        self.behind_reported = False
        self._drained: tuple[Instance | None] | None = None
        self.doubts = 0
        """How often lines were found out of order since some were taken."""
        self.backoff = Backoff()
        self.mean_pause_seconds: float | None = None
        """How long it was from line to line of late, by the lines' times; None while that is not known."""

    @property
    def last_read_at(self) -> float:
        """When bytes last came, on the loop's clock; now, while they are waiting to be taken."""
        return self._read_at if self._putting_ns is None else self._clock()

    @property
    def waiting_line_ns(self) -> int | None:
        """The time of the first line that waits to be taken; None if none waits."""
        return self._putting_ns or None

    @property
    def unread_seconds(self) -> float:
        """For how long no stream has been open although there may be something to read."""
        return 0.0 if self._unread_since is None else self._clock() - self._unread_since

    def enter(self, state: StreamState) -> None:
        """Say what the follower is at."""
        self.state = state
        self.opened = self.opened or state is StreamState.FOLLOWING
        if state in (StreamState.FOLLOWING, StreamState.PENDING, StreamState.ENDED):
            self._unread_since, self.cause = None, ""
        elif self._unread_since is None:
            self._unread_since = self._clock()

    def touch(self) -> None:
        """How long it is silent counts from now."""
        self._read_at = self._clock()

    def miss(
        self,
        reason: GapReason,
        *,
        certain: bool = False,
        detail: str = "",
        evidence: Mapping[str, str | int | float | bool | None],
    ) -> None:
        """Lines are missing, or may be, behind the last one taken. Adds to a gap that is pending already.

        What was certain stays so, with its reason.
        """
        found = Gap(reason, certain, self.last_ns, None, detail, (evidence,))
        if self.gap is None:
            self.gap = found
            return
        kept, added = (found, self.gap) if certain and not self.gap.certain else (self.gap, found)
        details = [kept.detail] + ([added.detail] if added.detail not in kept.detail else [])
        seen = (*self.gap.evidence, *(one for one in found.evidence if one not in self.gap.evidence))
        self.gap = replace(kept, detail="; ".join(filter(None, details)), evidence=seen[-_MOST_EVIDENCE:])

    def found(self) -> None:
        """The position was found: what comes next follows what was taken last, whatever it looked like before."""
        self.gap = None

    @property
    def drained(self) -> bool:
        """The instance in hand has ended, and its log was read to its end."""
        return self._drained == (self.instance,)

    def drain(self, instance: Instance | None) -> None:
        """This instance's log was read to its end, which says nothing about any other instance's."""
        self._drained = (instance,)

    def not_drained(self) -> None:
        """There is more in the log than was taken."""
        self._drained = None

    def belongs_to(self, instance: Instance | None) -> None:
        """The place was found in this instance's log, also where there was nothing new."""
        if instance is not None and (
            self.instance is None or instance.restart_count >= self.instance.restart_count
        ):
            self.instance = instance

    async def attach(self) -> None:
        """Put the target on record before its first line."""
        await self._put(LogBatch(self._target, [], []))

    async def skip_to(self, ring: DigestRing, instance: Instance | None) -> None:
        """Put the target on record at a place, without the lines before it."""
        self.ring, self.instance = ring, instance
        await self._put(LogBatch(self._target, [], [], ring, instance=instance))

    async def end(self) -> None:
        """There is nothing more to read, ever."""
        gap, status = self.gap, PositionStatus.DONE
        await self._put(LogBatch(self._target, [], [], self.ring, gap=gap, status=status))

    async def hand_over(self, piece: StampedLines, instance: Instance | None) -> None:
        """Put lines, with the gap before them."""
        self.touch()
        if not piece.lines and not piece.fragments:
            return
        ring = align.advance(self.ring, piece.lines, piece.oversize)
        batch = LogBatch(
            self._target,
            piece.lines,
            piece.times_ns,
            ring,
            sum(map(len, piece.lines)),
            oversize=piece.oversize,
            fragments=piece.fragments,
            instance=instance,
            read_ns=time.time_ns(),
        )
        if piece.lines and self.gap:
            # While we are behind, nobody knows up to where.
            batch.gap = replace(self.gap, to_ns=None if self.behind_reported else piece.times_ns[0])
        self._putting_ns = piece.times_ns[0] if piece.lines else 0
        try:
            await self._put(batch)
        finally:
            self._putting_ns = None
            self.touch()
        self.ring, self.instance = ring, instance or self.instance
        if piece.lines:
            self.gap = None
            self._drained = None
            self.doubts = 0
            self._note_pause(piece.times_ns)
            self.last_ns = piece.times_ns[-1]
            self.newest_ns = max(self.newest_ns, *piece.times_ns)
            self.backoff.reset()

    def _note_pause(self, times_ns: list[int]) -> None:
        if self.last_ns is None:
            return
        pause_seconds = max(0, times_ns[-1] - self.last_ns) / len(times_ns) / 1_000_000_000
        before = self.mean_pause_seconds
        self.mean_pause_seconds = pause_seconds if before is None else 0.8 * before + 0.2 * pause_seconds
