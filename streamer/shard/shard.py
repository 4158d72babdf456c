"""One shard: collect lines, process them, and have what comes of them committed, by its clock or when much waits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from math import ceil
from typing import Final

import structlog

from streamer.flow.backoff import Backoff
from streamer.flow.batch_size import AdaptiveBatchSize
from streamer.flow.inbox import Inbox
from streamer.flow.publishing import Publisher, Refusals
from streamer.flow.uncommitted import Uncommitted
from streamer.model import Ledger, LogBatch, Position, PositionStatus, Publication, Target
from streamer.shard.committer import Committer, Condition, Make, Outcome
from streamer.shard.coverage import CoverageWatch
from streamer.telemetry import facts
from streamer.telemetry.failure import class_of, log_failure
from streamer.telemetry.status import ShardStatus, TargetStatus
from streamer.transform.process import Plan, Processor
from streamer.transform.state import StateUnreadableError

_TICK_SECONDS: Final = 1.0
"""How often it is checked whether something is due by our clock."""
_LOOK_SECONDS: Final = 5.0
"""How often it is checked how well the targets are covered."""
_FORGET_SECONDS: Final = 600.0
"""How long the state of a target outlives its pod."""
_PAUSE_SECONDS: Final = 1.0
_MOST_PAUSE_SECONDS: Final = 60.0
"""Between two tries after a fault of ours."""
_MANY_LINES: Final = 8
"""So many are worth a transaction of their own."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class CommitPolicy:
    """When a transaction is made: `interval_seconds` after its first line; the bounds are for memory.

    While few lines come it is about `quiet_interval_seconds` after the transaction before, if that is later: a
    transaction costs as much for one line as for a hundred.
    """

    interval_seconds: float = 0.05
    quiet_interval_seconds: float = 0.25
    max_lines: int = 10_000
    max_bytes: int = 4 * 1024 * 1024

    def quiet_until(self, taken_at: float) -> float:
        """Until when a shard waits for more of few lines; `taken_at` is when it took the last ones.

        So an alert after a silence does not wait. And all shards have their turns at the same times, by the loop's
        clock: a transaction costs less when the code it needs has just run (an eighth of a quiet cluster's CPU).
        """
        interval = self.quiet_interval_seconds
        if not interval:
            return taken_at
        return ceil((taken_at + interval / 4) / interval) * interval


class Shard:
    """Owns the targets that are assigned to it.

    The followers only ever see the inbox: a failed transaction keeps its input here until its outcome is known,
    and never closes or re-opens a stream.
    """

    def __init__(
        self,
        index: int,
        plan: Plan,
        publisher: Publisher,
        commit: CommitPolicy,
        *,
        uncommitted: Uncommitted | None = None,
        coverage_seconds: float | None = None,
        on_commit: Callable[[Publication], None] = lambda _: None,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.index = index
        self._next_plan: Plan | None = None
        self._coverage = CoverageWatch(coverage_seconds)
        self.statuses: Callable[[], Iterable[TargetStatus]] = tuple
        """How our targets stand, for the coverage records."""
        self._publisher = publisher
        self._commit = commit
        self._on_commit = on_commit
        self._wall_ns = wall_ns
        room = uncommitted or Uncommitted(4 * commit.max_bytes)
        self._inbox = Inbox(room.share(), commit.max_bytes, _MANY_LINES)
        self._batch_size = AdaptiveBatchSize()
        self._committer = Committer(index, plan, publisher, lambda: self.on_fenced(self))
        self._ledger = Ledger()
        self._done_at: dict[str, float] = {}
        self._in_hand: list[LogBatch] = []
        self._taken_at = 0.0
        self._turns: dict[str, _Turn] = {}
        self._settled = asyncio.Event()
        self._loaded = asyncio.Event()
        self.has_committed = False
        """Whether Kafka has taken a transaction of this run of the shard."""
        self.on_realign: Callable[[Shard], None] = lambda _: None
        """Called when another owner has been at work: all targets must begin again at the positions as they are."""
        self.on_fenced: Callable[[Shard], Awaitable[None]] = _go_on
        """Awaited when another owner has taken the shard over; taking it back at once would fence that one in turn."""

    @property
    def _processor(self) -> Processor:
        return self._committer.processor

    @property
    def condition(self) -> Condition:
        """What the shard is doing."""
        return self._committer.condition

    @property
    def trouble(self) -> str:
        """What keeps Kafka from taking what it is handed; "" if nothing does."""
        return self._committer.trouble

    @property
    def faults(self) -> dict[str, str]:
        """What a fault of ours keeps the shard from doing, with the fault; it is tried again."""
        found = {name: turn.fault for name, turn in self._turns.items() if turn.fault}
        return found | {"everything": self.trouble} if self.condition is Condition.FAILED else found

    @property
    def ledger(self) -> Ledger:
        """The ledger as of the last commit."""
        return self._ledger

    @property
    def loaded(self) -> bool:
        """Whether the state has been loaded, so that targets can be followed."""
        return self._loaded.is_set()

    def status(self, now_ns: int) -> ShardStatus:
        """How the shard stands, as far as it is worth telling; `now_ns` is by our clock."""
        hand, inbox = self._in_hand, self._inbox
        oldest_ns = min((batch.times_ns[0] for batch in (*hand, *inbox) if batch.times_ns), default=now_ns)
        core = self._processor.core_status()
        return ShardStatus(
            index=self.index,
            loaded=self.loaded,
            sequence=self._processor.state.sequence,
            ledger=self._ledger,
            uncommitted_bytes=inbox.uncommitted_bytes,
            oldest_line_seconds=max(0, now_ns - oldest_ns) / 1_000_000_000,
            unacknowledged_seconds=asyncio.get_running_loop().time() - self._taken_at if hand else 0.0,
            open_windows=core.open_windows,
            evidence_bytes=core.evidence_bytes,
            storms=core.storms,
            volatile_fields=core.volatile_fields,
            condition=self.condition,
            coverage=self._coverage.counts,
        )

    async def stored(self) -> list[tuple[Target, Position]]:
        """Every target with its position, as soon as they are known."""
        await self._loaded.wait()
        return [(tracked.target, tracked.position) for tracked in self._processor.state.tracked.values()]

    async def attach(self, target: Target) -> Position | None:
        """The target's committed position, as soon as it is known; None if it was never followed.

        Batches of a former follower may still be on their way; a new one must begin behind them.
        """
        await self._loaded.wait()
        while any(batch.target == target for batch in self._in_hand) or self._inbox.holds(target):
            self._settled.clear()
            await self._settled.wait()
        tracked = self._processor.state.tracked.get(target.id)
        return None if tracked is None else tracked.position

    async def put(self, batch: LogBatch) -> None:
        """Take a batch; waits while there is no room."""
        await self._inbox.put(batch)

    def adjust(self, commit: CommitPolicy, coverage_seconds: float | None) -> None:
        """Commit, and report coverage, at other times from now on: that decides about no line."""
        self._commit = commit
        self._inbox.full_from(commit.max_bytes)
        self._coverage.every(coverage_seconds)

    def replan(self, plan: Plan) -> None:
        """Go on under another plan after the transaction under way; what is read by then is not processed again."""
        self._next_plan = plan

    def drain(self) -> None:
        """Commit what is in the inbox, then end. Nothing may be put any more."""
        self._inbox.close()

    async def run(self) -> None:
        """Work until drained. Kafka may be away as long as it likes; only unreadable state ends a shard early.

        After a fault of ours it begins again at what was committed last, and its targets with it.
        """
        clock, backoff = asyncio.get_running_loop().time, Backoff(_PAUSE_SECONDS, _MOST_PAUSE_SECONDS)
        try:
            while True:
                begun_at = clock()
                try:
                    if await self._load():
                        await self._work()
                    break
                except StateUnreadableError:
                    raise
                except Exception as error:
                    self._fail(error)
                if clock() - begun_at > _MOST_PAUSE_SECONDS:
                    backoff.reset()
                with suppress(TimeoutError):
                    async with asyncio.timeout(backoff.next_seconds()):
                        await self._inbox.wait_closed()
        except StateUnreadableError as error:
            self._loaded.clear()
            self._committer.trouble = str(error)
            self._committer.condition = Condition.UNREADABLE
            log.error("state_unreadable", shard=self.index, cause=str(error))
        finally:
            if self.condition is not Condition.UNREADABLE:
                self._committer.condition = Condition.ENDED
                self._inbox.abandon()
            await self._publisher.close()

    def _fail(self, error: Exception) -> None:
        """Discard what is not committed. Targets begin again once the state is loaded."""
        log_failure("shard_failed", error, shard=self.index)
        self._committer.condition = Condition.FAILED
        self._committer.trouble = f"a fault of ours: {class_of(error)}; the event shard_failed has its place"
        self._loaded.clear()
        self._inbox.settled(self._in_hand)
        self._in_hand = []
        self._inbox.clear()
        self._coverage.forget()
        self.on_realign(self)
        self._settled.set()

    async def _load(self) -> bool:
        """Load the state for the first time; False if the end comes before that, with nothing read to commit."""
        opening = asyncio.create_task(self._committer.open(Backoff(0.2, 5.0)))
        drained = asyncio.create_task(self._inbox.wait_closed())
        try:
            await asyncio.wait([opening, drained], return_when=asyncio.FIRST_COMPLETED)
            if not opening.done():
                return False
            opening.result()
        finally:
            opening.cancel()
            drained.cancel()
            await asyncio.wait([opening, drained])
        self._ledger = self._processor.state.ledger.copy()
        self._committer.trouble = ""
        self._loaded.set()
        return True

    async def _work(self) -> None:
        clock = asyncio.get_running_loop().time
        ticked_at = look_at = clock()
        while self._inbox or not self._inbox.closed:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(ticked_at + _TICK_SECONDS):
                    await self._inbox.wait()
            await self._replan()
            if self._inbox:
                await self._gather()
                self._fill_hand()
                self._taken_at = clock()
                await self._take()
                self._inbox.settled(self._in_hand)
                self._in_hand = []
                self._settled.set()
            if clock() >= ticked_at + _TICK_SECONDS:
                ticked_at = clock()
                await self._by_clock("summaries", self._report_due)
                if ticked_at >= look_at:
                    look_at = ticked_at + _LOOK_SECONDS
                    await self._by_clock("coverage", self._report_coverage)
                await self._by_clock("forgetting", self._forget_gone)

    async def _by_clock(self, name: str, work: Callable[[], Awaitable[object]]) -> None:
        """Do what is due by our clock. A fault in it costs that, until the next try, and no line."""
        clock = asyncio.get_running_loop().time
        turn = self._turns.setdefault(name, _Turn())
        if clock() < turn.not_before:
            return
        try:
            await work()
        except StateUnreadableError:
            raise
        except Exception as error:
            log_failure("work_failed", error, shard=self.index, what=name)
            turn.fault = f"{class_of(error)}; the event work_failed has its place"
            turn.not_before = clock() + turn.backoff.next_seconds()
        else:
            turn.fault = ""
            turn.backoff.reset()

    async def _report_due(self) -> None:
        await self._settle(self._due, take_less=self._count_less)

    async def _forget_gone(self) -> None:
        now = asyncio.get_running_loop().time()
        if gone := self._gone_for_long(now):
            await self._settle(partial(self._forget, gone), take_less=partial(_halve, gone))
            for target in gone:
                if target.id in self._processor.state.tracked:  # the core failed at it: later once more
                    self._done_at[target.id] = now

    async def _gather(self) -> None:
        """Wait for more lines, as long as the commit policy has it."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._commit.interval_seconds):
                await self._inbox.wait_full()
        with suppress(TimeoutError):
            async with asyncio.timeout_at(self._commit.quiet_until(self._taken_at)):
                await self._inbox.wait_many()

    async def _report_coverage(self) -> None:
        now_ns = self._wall_ns()
        reports = self._coverage.due(self.statuses(), now_ns)
        outcome = Outcome.UNCHANGED
        if reports:
            outcome = await self._settle(lambda refused: self._processor.cover(reports, now_ns, refused))
        if outcome is Outcome.COMMITTED:
            self._coverage.reported(reports, now_ns)

    async def _take(self) -> None:
        """Commit what the lines in hand become. What fails until another plan comes is made again under that one."""
        while await self._settle(self._process, take_less=self._take_less) is Outcome.UNCHANGED:
            if await self._replan() is Outcome.REALIGNED:
                break

    async def _replan(self) -> Outcome:
        """Go over to the plan that waits, if one does; the last one, where others come meanwhile.

        Where the core fails at that, the shard goes on under the plan that it has.
        """
        outcome = Outcome.UNCHANGED
        while (plan := self._next_plan) is not None and outcome is not Outcome.REALIGNED:
            turn = self._turns.setdefault("the new configuration", _Turn())
            redefine = partial(self._redefine, plan)
            try:
                outcome = await self._settle(redefine, towards=plan, take_less=self._count_less)
                if outcome is Outcome.COMMITTED:
                    continue  # there may be more to report
                if self._next_plan is plan:
                    self._committer.replan(plan)
                    self._next_plan = None
                turn.fault = ""
            except StateUnreadableError:
                raise
            except Exception as error:
                log_failure("replan_failed", error, shard=self.index)
                turn.fault = f"{class_of(error)}; the event replan_failed has its place; the one before stays"
                if self._next_plan is plan:
                    self._next_plan = None
        return outcome

    def _gone_for_long(self, now: float) -> list[Target]:
        """Targets that were read to their end a while ago: a uid never comes back, its state may be forgotten."""
        done = {
            identity: tracked.target
            for identity, tracked in self._processor.state.tracked.items()
            if tracked.position.status is PositionStatus.DONE
        }
        self._done_at = {identity: self._done_at.get(identity, now) for identity in done}
        return [done[identity] for identity, at in self._done_at.items() if now - at >= _FORGET_SECONDS]

    def _fill_hand(self) -> None:
        most_bytes = self._batch_size.of(self._commit.max_bytes)
        self._in_hand = self._inbox.take(self._commit.max_lines, most_bytes)

    def _take_less(self) -> None:
        """Go on with the first half of what is in hand: Kafka may be too slow for more."""
        self._batch_size.failed(_size(self._in_hand))
        self._inbox.put_back(self._in_hand)
        self._fill_hand()

    def _count_less(self) -> None:
        """The same, of what was counted."""
        self._batch_size.failed(self._batch_size.of(self._commit.max_bytes))

    def _process(self, refused: Refusals) -> Publication:
        return self._processor.process(self._in_hand, self._wall_ns(), refused)

    def _due(self, refused: Refusals) -> Publication | None:
        most_bytes = self._batch_size.of(self._commit.max_bytes)
        return self._processor.publish_due(self._wall_ns(), refused, most_bytes=most_bytes)

    def _redefine(self, plan: Plan, refused: Refusals) -> Publication | None:
        most_bytes = self._batch_size.of(self._commit.max_bytes)
        return self._processor.publish_redefined(plan, self._wall_ns(), refused, most_bytes=most_bytes)

    def _forget(self, targets: list[Target], refused: Refusals) -> Publication:
        return self._processor.forget(targets, self._wall_ns(), refused)

    async def _settle(
        self,
        make: Make,
        *,
        towards: Plan | None = None,
        take_less: Callable[[], None] = lambda: None,
    ) -> Outcome:
        """Have what `make` makes committed exactly once (`Committer.commit`).

        Where it cannot be, it gives way to a plan that waits, other than the one that it leads `towards`.
        """
        settled = await self._committer.commit(
            make, gives_way=lambda: self._next_plan is not towards, take_less=take_less
        )
        if settled.publication is not None:
            batches = self._in_hand if towards is None else ()
            self._committed(settled.publication, settled.seconds, batches)
        elif settled.outcome is Outcome.REALIGNED:
            self._realign()
        return settled.outcome

    def _realign(self) -> None:
        """Go on from where another owner has left the state."""
        self._inbox.clear()
        self._coverage.forget()
        self._ledger = self._processor.state.ledger.copy()
        self.on_realign(self)

    def _committed(self, publication: Publication, seconds: float, batches: Sequence[LogBatch]) -> None:
        """It is committed: a fault in what only counts and reports that must not undo it."""
        self._committer.trouble, self.has_committed = "", True
        self._batch_size.succeeded(_size(batches), seconds, self._commit.max_bytes)
        before, self._ledger = self._ledger, publication.ledger
        try:
            self._coverage.note(publication, self._wall_ns())
            facts.committed(publication, before, seconds, batches)
            self._on_commit(publication)
        except Exception as error:
            log_failure("commit_not_counted", error, shard=self.index)


@dataclass(slots=True)
class _Turn:
    """What is done by our clock, and how it went last."""

    fault: str = ""
    not_before: float = 0.0
    """No try before this time, by the loop's clock."""
    backoff: Backoff = field(default_factory=lambda: Backoff(_PAUSE_SECONDS, _MOST_PAUSE_SECONDS))


def _size(batches: Iterable[LogBatch]) -> int:
    return sum(batch.size_bytes for batch in batches)


def _halve(targets: list[Target]) -> None:
    """Leave the second half for another time; one stays."""
    del targets[(len(targets) + 1) // 2 :]


async def _go_on(_: Shard) -> None:
    """Nobody else is known to want the shard."""
    await asyncio.sleep(Backoff(10.0, 10.0).next_seconds())
