"""Commit one publication after the other, each exactly once, whatever Kafka answers.

A publication whose outcome is unknown is neither repeated nor given up: the shard is taken over again, which fences
whatever is still on its way, and the state that is loaded tells what had been committed.

    ┌──> OPEN ── nothing of it is there ──> MAKE ── something ──> PUBLISH ── acknowledged ──> committed
    │     │ │                                │                      │
    │     │ └─ all of it is there ───────────┼──────────────────────┼─────────────────────> committed
    │     └─── another owner has committed ──┼──────────────────────┼─────────────────────> realigned
    │                                        ├─ nothing to publish ─┼─────────────────────> unchanged
    ├── make it without this part <──────────┤ the core failed at a line, a window, a health record
    │                                                               │
    ├── make it without these records, or send them one by one <────┤ refused
    ├── wait until the group confirms that the shard is ours <──────┤ fenced
    └── make less of it, after a back-off <─────────────────────────┘ unknown

From OPEN it also ends unchanged where another plan waits: what cannot be written under this one may be under that.
From MAKE it ends with the exception where the core fails at no part that can be left out. The state in memory is
discarded then: what is committed next begins with OPEN.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import Enum, StrEnum, auto
from typing import Final, NamedTuple

import structlog

from streamer.flow.backoff import Backoff
from streamer.flow.publishing import BatchRefused, Fenced, Publisher, PublishError, RecordsRefused, Refusals
from streamer.model import Publication
from streamer.telemetry import facts
from streamer.telemetry.failure import log_part
from streamer.transform.load import load
from streamer.transform.plan import MOST_FAILURES, CoreFailedError, failed_part
from streamer.transform.process import Plan, Processor
from streamer.transform.state import ShardState

_LETTER_TRIES: Final = 2
"""A record that is refused more often is a dead letter as small as they get: its topic has to change."""

_FAILURES_AT_ONCE: Final = 8
_FAILURE_PAUSE_SECONDS: Final = 1.0
"""After so many failures of the core at one publication, between two of them, and less of it is made."""

log = structlog.get_logger()

Make = Callable[[Refusals], Publication | None]
"""Makes what is to be published of the processor's present state, without the records that were refused."""


class Condition(StrEnum):
    """What a shard is doing."""

    OPENING = "opening"  # taking the shard over, loading its state
    WORKING = "working"
    FENCED = "fenced"  # waiting until the group confirms that it is still ours
    FAILED = "failed"  # waiting after a fault of ours, before it is taken over again
    UNREADABLE = "unreadable"  # its state was written by another release; needs an operator
    ENDED = "ended"


class Outcome(Enum):
    """What has become of a publication."""

    UNCHANGED = auto()  # nothing of it is committed
    COMMITTED = auto()
    REALIGNED = auto()  # another owner has committed meanwhile: what it left is the state now


class Settled(NamedTuple):
    """How it ended; if it was committed, with the publication and how long its transaction took."""

    outcome: Outcome
    publication: Publication | None = None
    seconds: float = 0.0


class _State(Enum):
    OPEN = auto()
    MAKE = auto()
    PUBLISH = auto()


@dataclass(slots=True)
class _Attempt:
    """What one publication has come to so far."""

    refused: Refusals = field(default_factory=Refusals)
    isolate: frozenset[str] = frozenset()
    """The topics whose records are sent one by one."""
    backoff: Backoff = field(default_factory=lambda: Backoff(0.2, 5.0))
    publication: Publication | None = None
    began: float = 0.0
    is_too_much: bool = False
    """Less of it is to be made: nothing says what has become of it, or the core failed at many parts of it."""
    failures: int = 0
    """How often the core has failed."""

    def settled(self) -> Settled:
        """It is committed."""
        return Settled(Outcome.COMMITTED, self.publication, asyncio.get_running_loop().time() - self.began)


class Committer:
    """Owns a shard's processor, and with it the state: both are made again where an outcome is unknown."""

    def __init__(
        self, index: int, plan: Plan, publisher: Publisher, on_fenced: Callable[[], Awaitable[None]]
    ) -> None:
        """`on_fenced` is awaited when another owner has taken the shard over, before it is taken back."""
        self._index = index
        self._plan = plan
        self._publisher = publisher
        self._on_fenced = on_fenced
        self._owner = secrets.token_hex(8)
        self._new_key = secrets.token_bytes(16)
        # That of a state that has none yet: the same at each try, or windows would have other names at the next one.
        self.processor = Processor(plan, ShardState(plan.cluster))
        self.condition = Condition.OPENING
        self._sequence = 0
        """The state's sequence number, as far as it is known to be committed."""
        self._is_spoiled = False
        """Whether the state in memory is half changed."""
        self.trouble = ""
        """What keeps Kafka from taking what it is handed; "" if nothing does."""

    def replan(self, plan: Plan) -> None:
        """Go on under another plan. Where that raises, the plan stays as it is."""
        try:
            self.processor.replan(plan)
        except Exception:
            self._is_spoiled = True
            raise
        self._plan = plan

    async def open(self, backoff: Backoff) -> str:
        """Take the shard over and load its state; returns who made the last commit. Raises StateUnreadableError."""
        self.condition = Condition.OPENING
        while True:
            try:
                items = await self._publisher.open()
                break
            except PublishError as error:
                facts.shard_not_opened()
                self.trouble = str(error)
                log.warning("shard_not_opened", shard=self._index, cause=str(error))
                await asyncio.sleep(backoff.next_seconds())
        facts.shard_opened()
        state = load(self._plan.cluster, items, self._plan.shards)
        last_owner, state.owner = state.owner, self._owner
        self.processor = Processor(self._plan, state, self._new_key)
        self._sequence, self._is_spoiled = state.sequence, False
        self.condition = Condition.WORKING
        log.debug("shard_opened", shard=self._index, targets=len(state.tracked), sequence=state.sequence)
        return last_owner

    async def commit(
        self, make: Make, *, gives_way: Callable[[], bool], take_less: Callable[[], None] = lambda: None
    ) -> Settled:
        """Publish what `make` makes, as often as it takes, until it is committed exactly once.

        `take_less` is called after a failure, once it is known that nothing of it was committed, so that `make` can
        make something smaller. `gives_way` says whether another plan waits that should be tried instead then.
        Raises what `make` raises where nothing can be left out.
        """
        try:
            return await self._commit(_Attempt(), make, gives_way, take_less)
        except Exception:  # whatever was under way, what is stored tells
            self._is_spoiled = True
            raise

    async def _commit(
        self, attempt: _Attempt, make: Make, gives_way: Callable[[], bool], take_less: Callable[[], None]
    ) -> Settled:
        state = _State.MAKE if self._publisher.ready and not self._is_spoiled else _State.OPEN
        while True:
            match state:
                case _State.OPEN:
                    outcome = await self._open_again(attempt)
                    if outcome is Outcome.COMMITTED and attempt.publication is not None:
                        return attempt.settled()
                    if outcome is Outcome.REALIGNED or (outcome is Outcome.UNCHANGED and gives_way()):
                        return Settled(outcome)
                    if attempt.is_too_much:
                        attempt.is_too_much = False
                        take_less()
                    state = _State.MAKE
                case _State.MAKE:
                    attempt.publication = None
                    try:
                        attempt.publication = make(attempt.refused)
                    except Exception as error:
                        if (part := failed_part(error)) is None:
                            raise
                        await self._leave_out(part, attempt)
                        state = _State.OPEN
                        continue
                    if attempt.publication is None:
                        return Settled(Outcome.UNCHANGED)
                    state = _State.PUBLISH
                case _State.PUBLISH:
                    if await self._publish(attempt):
                        self._sequence = self.processor.state.sequence
                        return attempt.settled()
                    state = _State.OPEN  # the processor is ahead of what is known to be committed

    async def _leave_out(self, part: CoreFailedError, attempt: _Attempt) -> None:
        """Have the publication made without a part. Raises the error where the core has failed too often at it."""
        log_part(part, shard=self._index)
        if attempt.refused.add_failure(part) > MOST_FAILURES:
            raise part
        attempt.failures += 1
        if attempt.failures > _FAILURES_AT_ONCE:  # each costs taking the shard over
            attempt.is_too_much = True
            await asyncio.sleep(_FAILURE_PAUSE_SECONDS)

    async def _open_again(self, attempt: _Attempt) -> Outcome:
        """Take the shard over again, and find out whether the publication had been committed."""
        before = self._sequence
        last_owner = await self.open(attempt.backoff)
        sequence = self._sequence
        if sequence == before:
            return Outcome.UNCHANGED
        if sequence == before + 1 and last_owner == self._owner:
            return Outcome.COMMITTED
        facts.shard_realigned()
        log.warning("shard_realigned", shard=self._index, sequence=sequence, expected=before)
        return Outcome.REALIGNED

    async def _publish(self, attempt: _Attempt) -> bool:
        """Whether Kafka has acknowledged it; if not, what is to be done about that has been done."""
        assert attempt.publication is not None
        attempt.is_too_much = False
        attempt.began = asyncio.get_running_loop().time()
        try:
            await self._publisher.publish(attempt.publication, isolate=attempt.isolate)
        except BatchRefused as error:
            facts.transaction_failed("batch_refused")
            log.info("batch_refused", shard=self._index, topics=sorted(error.topics), cause=error.reason)
            attempt.isolate |= error.topics
        except RecordsRefused as error:
            facts.transaction_failed("records_refused")
            log.warning(
                "records_refused", shard=self._index, topics=sorted(error.records), cause=error.reason
            )
            if attempt.refused.add(error) > _LETTER_TRIES:
                await asyncio.sleep(attempt.backoff.next_seconds())
        except Fenced as error:
            facts.transaction_failed("fenced")
            self.trouble = str(error)
            log.warning("shard_fenced", shard=self._index, cause=str(error))
            self.condition = Condition.FENCED
            await self._on_fenced()
        except PublishError as error:
            facts.transaction_failed("failed")
            attempt.is_too_much = True
            self.trouble = str(error)
            log.warning("publish_failed", shard=self._index, cause=str(error))
            await asyncio.sleep(attempt.backoff.next_seconds())
        else:
            return True
        return False
