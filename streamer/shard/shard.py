"""One shard: collect lines, process them, commit; and after a failure find out where things stand."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from functools import partial
from math import ceil
from typing import Final

import structlog

from streamer.flow.backoff import Backoff
from streamer.flow.inbox import Inbox
from streamer.flow.portion import Portion
from streamer.flow.publishing import BatchRefused, Fenced, Publisher, PublishError, RecordsRefused, Refusals
from streamer.flow.uncommitted import Uncommitted
from streamer.model import Ledger, LogBatch, Position, PositionStatus, Publication, Target
from streamer.shard.coverage import CoverageWatch
from streamer.telemetry import facts
from streamer.telemetry.status import ShardStatus, TargetStatus
from streamer.transform.load import load
from streamer.transform.process import Plan, Processor
from streamer.transform.state import ShardState, StateUnreadableError

_TICK_SECONDS: Final = 1.0
"""How often it is asked whether something is to be told by our clock."""
_LOOK_SECONDS: Final = 5.0
"""How often it is asked how well the targets are covered."""
_FORGET_SECONDS: Final = 600.0
"""How long the state of a target outlives its pod."""
_MANY_LINES: Final = 8
"""So many are worth a transaction of their own."""
_LETTER_TRIES: Final = 2
"""A record that is refused more often is a dead letter as small as they get: its topic has to change."""

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


class Condition(StrEnum):
    """What a shard is doing, for whoever wants to know."""

    OPENING = "opening"  # taking the shard over, loading its state
    WORKING = "working"
    FENCED = "fenced"  # waiting to be told that it is still ours
    UNREADABLE = "unreadable"  # its state was written by another release; needs an operator
    ENDED = "ended"


class _Standing(Enum):
    """What the state says of a publication whose outcome was unknown."""

    AS_BEFORE = auto()  # nothing of it is there
    COMMITTED = auto()  # all of it is; only the answer was lost
    FOREIGN = auto()  # another owner has committed meanwhile


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
        self._plan = plan
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
        self._portion = Portion()
        self._owner = secrets.token_hex(8)
        self._processor = Processor(plan, ShardState(plan.cluster))
        self._ledger = Ledger()
        self._done_at: dict[str, float] = {}
        self._in_hand: list[LogBatch] = []
        self._taken_at = 0.0
        self._settled = asyncio.Event()
        self._loaded = asyncio.Event()
        self.trouble = ""
        """What keeps Kafka from taking what it is handed; "" if nothing does."""
        self.has_committed = False
        """Whether Kafka has taken a transaction of this run of the shard."""
        self.condition = Condition.OPENING
        self.on_realign: Callable[[Shard], None] = lambda _: None
        """Called when another owner has been at work: all targets must begin again at the positions as they are."""
        self.on_fenced: Callable[[Shard], Awaitable[None]] = _go_on
        """Awaited when another owner has taken the shard over; taking it back at once would fence that one in turn."""

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
            inbox_bytes=inbox.uncommitted_bytes,
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
        """Commit, and tell of coverage, at other times from now on: that decides about no line."""
        self._commit = commit
        self._inbox.full_from(commit.max_bytes)
        self._coverage.every(coverage_seconds)

    def replan(self, plan: Plan) -> None:
        """Go on under another plan after the transaction under way; what is read by then is not treated anew."""
        self._next_plan = plan

    def drain(self) -> None:
        """Commit what is in the inbox, then end. Nothing may be put any more."""
        self._inbox.close()

    async def run(self) -> None:
        """Work until drained. Kafka may be away as long as it likes; only unreadable state ends a shard early."""
        try:
            if await self._load():
                await self._work()
        except StateUnreadableError as error:
            self._loaded.clear()
            self.trouble = str(error)
            self.condition = Condition.UNREADABLE
            log.error("state_unreadable", shard=self.index, cause=str(error))
        finally:
            if self.condition is not Condition.UNREADABLE:
                self.condition = Condition.ENDED
                self._inbox.abandon()
            await self._publisher.close()

    async def _load(self) -> bool:
        """Load the state for the first time; False if the end comes before that, with nothing read to commit."""
        opening = asyncio.create_task(self._open(Backoff(0.2, 5.0)))
        drained = asyncio.create_task(self._inbox.wait())  # nobody puts anything before the state is loaded
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
        self.trouble = ""
        self._loaded.set()
        return True

    async def _work(self) -> None:
        clock = asyncio.get_running_loop().time
        told_at = look_at = clock()
        while self._inbox or not self._inbox.closed:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(told_at + _TICK_SECONDS):
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
            if clock() >= told_at + _TICK_SECONDS:
                told_at = clock()
                await self._settle(self._due, take_less=self._tell_less)
                if told_at >= look_at:
                    look_at = told_at + _LOOK_SECONDS
                    await self._tell_coverage()
                if gone := self._gone_for_long(told_at):
                    fewer = partial(_halve, gone)
                    await self._settle(partial(self._forget, gone), take_less=fewer)

    async def _gather(self) -> None:
        """Wait for more lines, as long as the commit policy has it."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._commit.interval_seconds):
                await self._inbox.wait_full()
        with suppress(TimeoutError):
            async with asyncio.timeout_at(self._commit.quiet_until(self._taken_at)):
                await self._inbox.wait_many()

    async def _tell_coverage(self) -> None:
        now_ns = self._wall_ns()
        reports = self._coverage.due(self.statuses(), now_ns)
        standing = _Standing.AS_BEFORE
        if reports:
            standing = await self._settle(lambda refused: self._processor.cover(reports, now_ns, refused))
        if standing is _Standing.COMMITTED:
            self._coverage.told(reports, now_ns)

    async def _take(self) -> None:
        """Commit what the lines in hand become. What fails until another plan comes is made anew under that one."""
        while await self._settle(self._process, take_less=self._take_less) is _Standing.AS_BEFORE:
            if await self._replan() is _Standing.FOREIGN:
                break

    async def _replan(self) -> _Standing:
        """Go over to the plan that waits, if one does; the last one, where others come meanwhile."""
        standing = _Standing.AS_BEFORE
        while (plan := self._next_plan) is not None and standing is not _Standing.FOREIGN:
            tell = partial(self._redefine, plan)
            standing = await self._settle(tell, towards=plan, take_less=self._tell_less)
            if standing is _Standing.COMMITTED:
                continue  # there may be more to tell
            if self._next_plan is plan:
                self._plan, self._next_plan = plan, None
                self._processor.replan(plan)
        return standing

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
        most_bytes = self._portion.of(self._commit.max_bytes)
        self._in_hand = self._inbox.take(self._commit.max_lines, most_bytes)

    def _take_less(self) -> None:
        """Go on with the first half of what is in hand: Kafka may be too slow for more."""
        self._portion.failed(_size(self._in_hand))
        self._inbox.put_back(self._in_hand)
        self._fill_hand()

    def _tell_less(self) -> None:
        """The same, of what was counted."""
        self._portion.failed(self._portion.of(self._commit.max_bytes))

    def _process(self, refused: Refusals) -> Publication:
        return self._processor.process(self._in_hand, self._wall_ns(), refused)

    def _due(self, refused: Refusals) -> Publication | None:
        most_bytes = self._portion.of(self._commit.max_bytes)
        return self._processor.publish_due(self._wall_ns(), refused, most_bytes=most_bytes)

    def _redefine(self, plan: Plan, refused: Refusals) -> Publication | None:
        most_bytes = self._portion.of(self._commit.max_bytes)
        return self._processor.publish_redefined(plan, self._wall_ns(), refused, most_bytes=most_bytes)

    def _forget(self, targets: list[Target], refused: Refusals) -> Publication:
        return self._processor.forget(targets, self._wall_ns(), refused)

    async def _settle(
        self,
        make: Callable[[Refusals], Publication | None],
        *,
        towards: Plan | None = None,
        take_less: Callable[[], None] = lambda: None,
    ) -> _Standing:
        """Publish what `make` makes, as often as it takes, until it is committed exactly once.

        `take_less` is called after a failure, once it is known that nothing of it was committed, so that `make` can
        make something smaller. AS_BEFORE if it made nothing, or if it failed and a plan waits, other than the one that
        it leads `towards`: what cannot be written as things stand may be under that one.
        """
        refused = Refusals()
        isolate: frozenset[str] = frozenset()
        backoff = Backoff(0.2, 5.0)
        before = self._processor.state.sequence
        publication: Publication | None = None
        began = 0.0
        moved = False  # the state in memory is ahead of what is known to be committed
        failed = False
        while True:
            if moved or not self._publisher.ready:
                match await self._reopen(before, backoff):
                    case _Standing.COMMITTED if publication is not None:
                        break
                    case _Standing.FOREIGN:
                        return _Standing.FOREIGN
                    case _Standing.AS_BEFORE if self._next_plan is not towards:
                        return _Standing.AS_BEFORE
                if failed:
                    take_less()
            failed = False
            publication, moved = make(refused), True
            if publication is None:
                return _Standing.AS_BEFORE
            began = asyncio.get_running_loop().time()
            try:
                await self._publisher.publish(publication, isolate=isolate)
                break
            except BatchRefused as error:
                facts.transaction_failed("batch_refused")
                log.info("batch_refused", shard=self.index, topics=sorted(error.topics), cause=error.reason)
                isolate |= error.topics
            except RecordsRefused as error:
                facts.transaction_failed("records_refused")
                log.warning(
                    "records_refused", shard=self.index, topics=sorted(error.records), cause=error.reason
                )
                if refused.add(error) > _LETTER_TRIES:
                    await asyncio.sleep(backoff.next_seconds())
            except Fenced as error:
                facts.transaction_failed("fenced")
                self.trouble = str(error)
                log.warning("shard_fenced", shard=self.index, cause=str(error))
                self.condition = Condition.FENCED
                await self.on_fenced(self)
            except PublishError as error:
                facts.transaction_failed("failed")
                failed = True
                self.trouble = str(error)
                log.warning("publish_failed", shard=self.index, cause=str(error))
                await asyncio.sleep(backoff.next_seconds())
        seconds = asyncio.get_running_loop().time() - began
        self._committed(publication, seconds, self._in_hand if towards is None else ())
        return _Standing.COMMITTED

    def _committed(self, publication: Publication, seconds: float, batches: Sequence[LogBatch]) -> None:
        self.trouble, self.has_committed = "", True
        self._portion.succeeded(_size(batches), seconds, self._commit.max_bytes)
        self._coverage.note(publication, self._wall_ns())
        facts.committed(publication, self._ledger, seconds, batches)
        self._ledger = publication.ledger
        self._on_commit(publication)

    async def _reopen(self, before: int, backoff: Backoff) -> _Standing:
        """Take the shard over again and find out whether the publication after `before` had been committed."""
        last_owner = await self._open(backoff)
        sequence = self._processor.state.sequence
        if sequence == before:
            return _Standing.AS_BEFORE
        if sequence == before + 1 and last_owner == self._owner:
            return _Standing.COMMITTED
        facts.shard_realigned()
        log.warning("shard_realigned", shard=self.index, sequence=sequence, expected=before)
        self._inbox.clear()
        self._coverage.forget()
        self._ledger = self._processor.state.ledger.copy()
        self.on_realign(self)
        return _Standing.FOREIGN

    async def _open(self, backoff: Backoff) -> str:
        """Take the shard over and load its state; returns who made the last commit."""
        self.condition = Condition.OPENING
        while True:
            try:
                items = await self._publisher.open()
                break
            except PublishError as error:
                facts.shard_not_opened()
                self.trouble = str(error)
                log.warning("shard_not_opened", shard=self.index, cause=str(error))
                await asyncio.sleep(backoff.next_seconds())
        facts.shard_opened()
        state = load(self._plan.cluster, items, self._plan.shards)
        last_owner, state.owner = state.owner, self._owner
        self._processor = Processor(self._plan, state, secrets.token_bytes(16))
        self.condition = Condition.WORKING
        log.debug("shard_opened", shard=self.index, targets=len(state.tracked), sequence=state.sequence)
        return last_owner


def _size(batches: Iterable[LogBatch]) -> int:
    return sum(batch.size_bytes for batch in batches)


def _halve(targets: list[Target]) -> None:
    """Leave the second half for another time; one stays."""
    del targets[(len(targets) + 1) // 2 :]


async def _go_on(_: Shard) -> None:
    """Nobody else is known to want the shard."""
    await asyncio.sleep(Backoff(10.0, 10.0).next_seconds())
