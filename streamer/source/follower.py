"""Follow one target's log: do what the verdict says, collect what is seen meanwhile, and judge again.

    evidence ── judge (verdict.py: one row for each case) ──▶ step ── do it: one connection, request or wait ──┐
        ▲                                                                                                     │
        └───────────────────────────── what was seen, as a new frozen Evidence ◀───────────────────────────────┘

A break is never trusted to be what it looks like: a body that ends cleanly may mean a kubelet that was killed, a time
limit, or the end of the container. Where to go on is found by the content of the last lines
(docs/decisions/0002-positions-by-content.md).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import ClassVar, Final

import aiohttp

from streamer.model import GapReason, Position, PositionStatus
from streamer.source.api import ApiError, KubernetesApi
from streamer.source.beginning import Beginning
from streamer.source.ending import Ending
from streamer.source.evidence import EndOfLog, Evidence, InCurrent, InPrevious, Refusal
from streamer.source.following import Following
from streamer.source.lookup import Lookup
from streamer.source.patience import PATIENCE, Patience
from streamer.source.pod_status import PodGoneError, PodStatusCache
from streamer.source.pods import PodView
from streamer.source.previous import PreviousLog
from streamer.source.probes import ProbeTurns
from streamer.source.progress import Progress, Put
from streamer.source.reader import Reader
from streamer.source.recovery import Recovery
from streamer.source.rights import Rights
from streamer.source.search import TargetLog
from streamer.source.seen import Seen
from streamer.source.stream import LogRemovedError, Where
from streamer.source.verdict import Step, judge
from streamer.source.waits import Waits
from streamer.telemetry import facts
from streamer.telemetry.status import StreamState, TargetStatus

_UNPACED: Final = frozenset(
    (
        *(Step.RETRY, Step.RETRY_AT_ONCE, Step.RETRY_IN_TURN),
        *(Step.AWAIT_START, Step.AWAIT_RESTART, Step.JUDGE_END_AGAIN),
    )
)
"""They wait on their own, or request nothing."""
_POD_STEPS: Final = frozenset((Step.ASK_POD, Step.AWAIT_START, Step.AWAIT_RESTART))
"""They request the pod, and no log."""


class Follower:
    """Reads one target from a position on, to the end of its pod.

    `put` takes the batches; while it waits nothing is read, and TCP holds the log back. Cancelling `run` loses
    nothing: what was not put is read again from the position.
    """

    def __init__(
        self,
        api: KubernetesApi,
        found: PodView,
        position: Position | None,
        put: Put,
        *,
        max_line_bytes: int,
        from_now: bool = False,
        patience: Patience = PATIENCE,
        recovery: Recovery | None = None,
        rights: Rights | None = None,
        turns: ProbeTurns | None = None,
    ) -> None:
        self._api = api
        self._target = found.target
        self._patience = patience
        self._new = position is None
        self._done = position is not None and position.status is PositionStatus.DONE
        target = found.target
        where = Where(target.namespace, target.pod, target.container, target.node)
        log = TargetLog(api, where, max_line_bytes)
        self._progress = progress = Progress(found.target, position, put)
        self._status = status = PodStatusCache(api, found, patience)
        self._waits = waits = Waits(
            target,
            progress,
            status,
            patience,
            (recovery or Recovery()).of(target.node),
            rights or Rights(most_seconds=patience.forbidden_seconds),
        )
        turns = turns or ProbeTurns(patience.together_seconds)
        self._reader = reader = Reader(log, progress, status, patience, turns)
        self._ending = ending = Ending(log, progress, status)
        beginning = Beginning(
            progress,
            status,
            ending,
            patience,
            watched=not self._new or found.started_ns is None,
        )
        self._previous = previous = PreviousLog(log, progress, status, reader, ending, beginning)
        # All lines of a container that has not started are written from now on.
        first = Evidence(
            found,
            from_now=from_now and self._new and found.instance is not None,
            on_record=not self._new or found.instance is None,
        )
        self._seen = seen = Seen(first, progress, status, patience.tail_lines)
        self._lookup = Lookup(log, progress, status, patience, waits, seen)
        self._following = Following(
            log,
            progress,
            status,
            patience,
            waits,
            reader,
            beginning,
            previous,
            seen,
        )

    @property
    def last_read_at(self) -> float:
        """When bytes last came, on the loop's clock."""
        return self._progress.last_read_at

    def status(self, now_ns: int) -> TargetStatus:
        """How it stands; `now_ns` is by our clock."""
        progress = self._progress
        waiting_ns = progress.waiting_line_ns
        return TargetStatus(
            self._target,
            progress.state,
            running=self._status.view.running,
            unread_seconds=progress.unread_seconds,
            behind_seconds=0.0 if waiting_ns is None else max(0, now_ns - waiting_ns) / 1_000_000_000,
            quiet_seconds=asyncio.get_running_loop().time() - progress.last_read_at,
            opened=progress.opened,
            cause=progress.cause,
        )

    def update(self, found: PodView) -> None:
        """Take the pod as the API server describes it now."""
        before = self._status.view
        self._status.update(found)
        now = self._status.view
        if (before.running and not now.running) or (now.deleting and not before.deleting):
            self._reader.expect_end()

    def depart(self, last: PodView | None) -> None:
        """The pod is gone from the API; `last` is its last description, where that is known."""
        self._progress.touch()
        self._status.depart(last)
        if not self._status.view.running:
            self._reader.expect_end()

    def wake(self) -> None:
        """End a wait before the next try: what was out of reach may be back."""
        self._status.wake()

    async def run(self) -> None:
        """Follow to the end of the pod."""
        if self._done:  # the watch may show the pod a while longer; its end was reported once
            return
        if self._new and not self._seen.facts.from_now:
            await self._progress.attach()
        try:
            await self._follow_to_end()
        finally:
            self._following.drop_kept()

    async def _follow_to_end(self) -> None:
        progress = self._progress
        while True:
            self._status.forget_news()  # what was reported so far is part of the evidence
            evidence = self._seen.evidence()
            if evidence.ended_cleanly:
                self._seen.note(unexplained=not evidence.container_ended)
            verdict = judge(evidence)
            if (gap := verdict.gap) is not None:
                stated = {"case": verdict.case, **evidence.stated()}
                progress.miss(gap.reason, certain=gap.certain, detail=gap.detail, evidence=stated)
            if verdict.drained:
                if evidence.final:  # its log may be gone
                    await self._ending.take_rest(evidence.stream)
                progress.drain(progress.instance)
            if verdict.step is Step.DONE:
                break
            if verdict.step is Step.RETRY and self._waits.error is None:
                progress.cause = verdict.case
            await self._do(verdict.step)
        if verdict.gap is None:
            await self._ending.take_rest(self._seen.facts.stream)
        await progress.end()

    async def give_up(self) -> None:
        """End it here, once `run` was cancelled: the pod is gone, and its stream has been silent for long."""
        self._seen.note(gone=True, gone_at=self._status.departed_at)
        if judge(self._seen.evidence()).gap is not None:
            self._progress.miss(
                GapReason.POD_GONE,
                detail="its stream was silent, and was closed",
                evidence={"case": "pod gone, its stream was silent for 60 s"},
            )
        await self._progress.end()

    async def _do(self, step: Step) -> None:
        """Do one step. What it raises is evidence as well."""
        try:
            if step not in _UNPACED:
                await self._waits.pace()
            if step is not Step.FOLLOW_FIRST:
                self._following.drop_kept()
            await self._steps[step](self)
            if step is not Step.RETRY:
                self._waits.error = None
        except PodGoneError:
            await self._await_departure()
        except ApiError as error:
            if error.is_pod_gone:
                await self._await_departure()
            else:
                await self._refused(step, error)
        except aiohttp.ClientError as error:
            await self._refused(step, ApiError(0, f"the answer broke: {error!r}"))

    async def _refused(self, step: Step, error: ApiError) -> None:
        facts.api_failed("log", error.status)
        facts.stream_reconnects("error")
        refusal = self._waits.refused(error)
        # A node that fails now may have failed before: then the last stream's end was not its container's.
        # A request for the pod reaches no node.
        contradicted = refusal is Refusal.FAILED and step not in _POD_STEPS
        removals = self._seen.facts.removals + (refusal is Refusal.LOG_REMOVED)
        self._seen.note(
            refusal=refusal, fresh=False, removals=removals, **({"stream": None} if contradicted else {})
        )
        if error.status == 401:
            await self._api.renew_token()

    async def _await_departure(self) -> None:
        """A request says that the pod is gone: the watch knows how it left, and may say so a little later."""
        asked_at = asyncio.get_running_loop().time()
        await self._status.wait_while(lambda _: True, self._patience.departed_seconds)
        self._seen.note(gone=True, gone_at=min(asked_at, self._status.departed_at))

    # The pod

    async def _ask_pod(self) -> None:
        await self._status.ask()
        self._seen.note(asked=True)

    async def _read_previous_tail(self) -> None:
        await self._search_previous(self._patience.tail_lines)

    async def _read_previous(self) -> None:
        await self._search_previous(None)

    async def _search_previous(self, tail_lines: int | None) -> None:
        found = await self._previous.search(tail_lines)
        self._seen.note(previous=found)
        if found is InPrevious.HELD:
            self._seen.note(current=InCurrent.UNKNOWN)

    async def _take_previous(self) -> None:
        found = await self._previous.take()
        self._seen.note(previous=found)
        if found is InPrevious.TAKEN:
            self._seen.note(current=InCurrent.UNKNOWN)

    # The end

    async def _look_at_end(self) -> None:
        try:
            found = await self._ending.compare(self._seen.facts.stream)
        except LogRemovedError:
            if not self._status.view.deleting:
                raise
            found = EndOfLog.REMOVED
        self._seen.note(end=found, removals=0)

    async def _judge_end_again(self) -> None:
        self._seen.start_search()
        self._seen.note(fresh=True, asked=True)

    async def _take_rest(self) -> None:
        """The instance in hand ended with its stream, and its log was removed: the rest was its last line."""
        instance = self._progress.instance
        await self._ending.take_rest(self._seen.facts.stream)
        self._progress.drain(instance)

    async def _search_again(self) -> None:
        self._seen.start_search()

    async def _retry(self) -> None:
        refusal = self._seen.facts.refusal
        self._seen.start_search()
        self._seen.note(refusal=None)
        await self._waits.for_retry(refusal)

    async def _await_start(self) -> None:
        self._progress.enter(StreamState.PENDING)
        await self._waits.for_change(self._patience.start_seconds)

    async def _await_restart(self) -> None:
        """Its log stays as it is, and so does the position, until the container starts again or the pod leaves."""
        self._progress.enter(StreamState.ENDED)
        left_meanwhile = self._seen.facts.fresh and self._status.departed
        self._seen.start_search()
        self._seen.note(refusal=None)
        if left_meanwhile:  # that was reported, once, before there was nothing more to read
            return
        finished = self._status.view.finished
        await self._waits.for_change(
            self._patience.start_seconds if finished else self._patience.probe_seconds
        )

    _steps: ClassVar[Mapping[Step, Callable[[Follower], Awaitable[None]]]] = {
        Step.ASK_POD: _ask_pod,
        Step.AWAIT_STATUS: lambda self: self._following.await_status(),
        Step.SKIP_TO_NOW: lambda self: self._lookup.skip_to_now(),
        Step.FOLLOW_TAIL: lambda self: self._following.tail(),
        Step.FOLLOW_LONGER: lambda self: self._following.longer_tail(),
        Step.FOLLOW_FIRST: lambda self: self._following.first(),
        Step.FOLLOW_NEXT: lambda self: self._following.next(),
        Step.READ_TAIL: lambda self: self._lookup.tail(),
        Step.READ_LONGER_TAIL: lambda self: self._lookup.longer_tail(),
        Step.READ_WHOLE: lambda self: self._lookup.whole(),
        Step.READ_PREVIOUS_TAIL: _read_previous_tail,
        Step.READ_PREVIOUS: _read_previous,
        Step.TAKE_PREVIOUS: _take_previous,
        Step.LOOK_AT_END: _look_at_end,
        Step.JUDGE_END_AGAIN: _judge_end_again,
        Step.TAKE_REST: _take_rest,
        Step.RETRY: _retry,
        Step.RETRY_AT_ONCE: _search_again,
        Step.RETRY_IN_TURN: _retry,
        Step.AWAIT_START: _await_start,
        Step.AWAIT_RESTART: _await_restart,
    }
    """One table for all: a dict with a bound method for each takes 2.5 KiB of each target."""
