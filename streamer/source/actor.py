"""One target's life, in one task: attach, follow, drain, and the end or the release (docs/architecture.md)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import StrEnum
from typing import Final

import structlog

from streamer.flow.backoff import Backoff
from streamer.flow.waker import Waker
from streamer.model import LogBatch, Position, PositionStatus, Target
from streamer.source.departure import Departure
from streamer.source.follower import Follower
from streamer.source.means import Means, Owner
from streamer.source.pods import PodView
from streamer.telemetry.failure import class_of
from streamer.telemetry.status import StreamState, TargetStatus

_DRAIN_SECONDS: Final = 60.0
"""How long a deleted pod's open stream may stay silent before it is closed."""
_PAUSE_SECONDS: Final = 1.0
_MOST_PAUSE_SECONDS: Final = 60.0

log = structlog.get_logger()


class TargetState(StrEnum):
    """What an actor is at."""

    ATTACHING = "attaching"  # waits for the position, and to know whether a pod out of the watch has left
    FOLLOWING = "following"  # its follower reads
    DRAINING = "draining"  # the pod is gone from the watch; its follower reads what is left
    DONE = "done"  # read to the end of the pod
    RELEASED = "released"  # the pod lives on, but is not ours to follow; the position stays


class TargetActor:
    """Owns everything that is done for one target. Run by one task, which may be cancelled at any time.

    `on_end` is called when nothing more will happen: in the step in which it last looked whether its target is wanted.
    """

    def __init__(
        self,
        means: Means,
        owner: Owner,
        view: PodView,
        *,
        present: bool = True,
        last: PodView | None = None,
        ours: bool = True,
        on_end: Callable[[TargetActor], None] = lambda _: None,
    ) -> None:
        """`present`: whether the watch shows the pod; else `last` is how it left, if that is known.

        Where it is not `ours`, as nobody looks for pods in its namespace, it is released without a request.
        """
        self.owner = owner
        self.view = last or view
        self.state = TargetState.ATTACHING
        self._present = present
        self._shown = present
        """Whether the watch has shown the pod since it was last found to live on without its label."""
        self.last = last
        self.ours = ours
        self._means = means
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._unread_since = self._loop.time()
        self._follower: Follower | None = None
        self._fault: Exception | None = None
        self._cause = ""
        self._departure = Departure(means.api, means.rights, view.target)
        self._departure.note(last)
        self._waker = Waker()

    @property
    def target(self) -> Target:
        """The target."""
        return self.view.target

    def is_present(self) -> bool:
        """Whether the watch shows the pod."""
        return self._present

    def status(self, now_ns: int) -> TargetStatus:
        """How it stands; `now_ns` is by our clock."""
        if self._follower is not None:
            return self._follower.status(now_ns)
        seconds = self._loop.time() - self._unread_since
        return TargetStatus(
            self.target,
            StreamState.OPENING,
            running=self.view.running,
            unread_seconds=seconds,
            behind_seconds=0.0,
            quiet_seconds=seconds,
            opened=False,
            cause=self._cause,
        )

    # What others say

    def update(self, view: PodView) -> None:
        """The pod as the watch shows it now."""
        came_back, self.view, self._present, self._shown = not self._present, view, True, True
        self._pass_on(lambda follower: follower.update(view))
        if came_back:
            self._waker.wake()

    def depart(self, last: PodView | None) -> None:
        """The watch does not show the pod any more: it was deleted, or has lost its label."""
        self.view, self.last, self._present = last or self.view, last, False
        self._departure.note(last)
        self._pass_on(lambda follower: follower.depart(last))
        self._waker.wake()

    def wake(self) -> None:
        """The API server answers again: what waits before its next try need not wait any longer."""
        self._departure.hurry()
        self._pass_on(lambda follower: follower.wake())
        self._waker.wake()

    def _pass_on(self, tell: Callable[[Follower], object]) -> None:
        """A fault in it is this target's, and not the caller's."""
        if self._follower is not None:
            try:
                tell(self._follower)
            except Exception as error:
                self._fault = error
                self._waker.wake()

    # Its own task

    async def run(self, after: asyncio.Task[None] | None = None) -> None:
        """Live, once the task `after` has ended. A fault of ours costs the target a pause, not the worker its life."""
        try:
            if after is not None:
                await asyncio.wait([after])
            backoff = Backoff(_PAUSE_SECONDS, _MOST_PAUSE_SECONDS)
            while True:
                begun_at = self._loop.time()
                try:
                    self.state = await self._live()
                except Exception as error:
                    self._cause = f"an internal error: {class_of(error)}"
                    log.exception("target_failed", target=self.target.id)
                else:
                    return
                if self._loop.time() - begun_at > _MOST_PAUSE_SECONDS:
                    backoff.reset()
                await asyncio.sleep(backoff.next_seconds())
        finally:
            self._on_end(self)

    async def _live(self) -> TargetState:
        """From attaching to the end or the release. Where the target is wanted again meanwhile, from the beginning."""
        while True:
            self.state = TargetState.ATTACHING
            position = await self.owner.attach(self.target)
            if position is not None and position.status is PositionStatus.DONE:
                return TargetState.DONE  # the watch may show the pod a while longer
            if not await self._may_follow():
                if await self._release():
                    return TargetState.RELEASED
                continue
            if position is not None and position.status is PositionStatus.RELEASED:
                if not self._shown:  # what it printed since then is not ours to miss, as far as is known
                    await self._record(position, PositionStatus.DONE)
                    log.info("target_done", target=self.target.id, released=True)
                    return TargetState.DONE
                await self._record(position, PositionStatus.ATTACHED)
            if await self._follow(position):
                log.info("target_done", target=self.target.id)
                return TargetState.DONE
            if await self._release():
                return TargetState.RELEASED

    async def _may_follow(self) -> bool:
        """Whether the watch shows the pod, or it is gone, so that its end is due; False if it is not ours to follow."""
        while not self.is_present():
            if not self.ours:
                return False
            self._waker.clear()
            left = await self._departure.has_left()
            if left is None:
                await self._waker.wait(self._departure.again_seconds)
            elif not self.is_present():
                self._shown = self._shown and left
                return left
        return True

    async def _follow(self, position: Position | None) -> bool:
        """Read, to the end of the pod; False if the pod turned out not to be ours to follow."""
        target, self._fault = self.target, None
        self._follower = follower = self._means.follower(self.view, position, self.owner)
        if not self.is_present():
            follower.depart(self.last)
        log.info("target_followed", target=target.id, node=target.node, resumed=position is not None)
        reading = self._loop.create_task(follower.run(), name=f"read {target.id}")
        reading.add_done_callback(lambda _: self._waker.wake())
        try:
            give_up = await self._watch_over(follower, reading)
        finally:
            self._follower, self._unread_since = None, self._loop.time()
            reading.cancel()
            await asyncio.wait([reading])
        if not reading.cancelled():
            reading.result()
            return True
        if give_up:
            log.warning("target_drain_timed_out", target=target.id)
            await follower.give_up()
        return give_up

    async def _watch_over(self, follower: Follower, reading: asyncio.Task[None]) -> bool:
        """Until the follower has ended, or is to: True to give up what is left, False to release the target."""
        while not reading.done():
            if self._fault is not None:
                raise self._fault
            if self.is_present():
                self.state = TargetState.FOLLOWING
                await self._waker.wait()
                continue
            self.state = TargetState.DRAINING
            self._waker.clear()
            self._shown = False
            left = await self._departure.has_left()
            silent_until = follower.last_read_at + _DRAIN_SECONDS
            if left is None:
                await self._waker.wait(self._departure.again_seconds)
            elif self._shown:
                continue
            elif not left:
                return False
            elif silent_until <= self._loop.time():
                return True
            else:
                await self._waker.wait(silent_until - self._loop.time())
        return True

    async def _release(self) -> bool:
        """The pod is not ours to follow: put that on record. False if it is wanted again meanwhile.

        Also where it has left again by then: what it printed in between is ours.
        """
        position = await self.owner.attach(self.target)
        if position is not None and position.status is PositionStatus.ATTACHED:
            await self._record(position, PositionStatus.RELEASED)
        if self._shown:
            return False
        log.info("target_released", target=self.target.id)
        return True

    async def _record(self, position: Position, status: PositionStatus) -> None:
        await self.owner.put(
            LogBatch(self.target, [], [], position.ring, instance=position.instance, status=status)
        )
