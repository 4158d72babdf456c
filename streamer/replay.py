"""Files through the same core as the live logs: what `falco-streamer replay` does."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

from streamer.flow.publishing import PublishFailed, RecordsRefused, Refusals
from streamer.model import Ledger, LogBatch, Publication
from streamer.sink import ReplaySink
from streamer.telemetry.failure import log_part
from streamer.transform.load import load
from streamer.transform.plan import MOST_FAILURES, failed_part
from streamer.transform.process import Plan, Processor
from streamer.transform.state import ShardState

_COMMIT_LINES: Final = 10_000
_MOST_REFUSALS: Final = 5
"""An alert, its dead letter, and that cut short: more is not this record's fault."""


_MOST_FAILURES: Final = 8
"""Of one publication: each costs making it once more."""


class Replay:
    """One shard without Kafka's state: it is kept here, as the changes that were published."""

    def __init__(self, plan: Plan, sink: ReplaySink) -> None:
        self._plan = plan
        self._sink = sink
        self._state: dict[str, bytes] = {}
        self.filtered = Counter[str]()
        """How many alerts each filter has dropped, by its name, of all that was published so far."""
        self._processor = Processor(plan, ShardState(plan.cluster))

    @property
    def ledger(self) -> Ledger:
        """The ledger of all that was published so far."""
        return self._processor.state.ledger.copy()

    async def read(self, batches: Iterable[LogBatch], on_progress: Callable[[int], None]) -> None:
        """Publish what the batches hold. Raises what reading and publishing raise."""
        pending: list[LogBatch] = []
        lines = 0
        for batch in batches:
            pending.append(batch)
            lines += len(batch.lines)
            if lines >= _COMMIT_LINES:
                await self._publish(pending)
                on_progress(self._processor.state.ledger.lines)
                pending, lines = [], 0
        if pending:
            await self._publish(pending)

    async def end(self) -> None:
        """Tell what was counted and kept back."""
        await self._settle(
            lambda refused: self._processor.publish_due(time.time_ns(), refused, everything=True)
        )

    async def _publish(self, batches: list[LogBatch]) -> None:
        """Publish what these become. Where the core fails at many parts of it, a half of it at a time."""
        most = _MOST_FAILURES if len(batches) > 1 else None
        if not await self._settle(
            lambda refused: self._processor.process(batches, time.time_ns(), refused), most_failures=most
        ):
            half = len(batches) // 2
            await self._publish(batches[:half])
            await self._publish(batches[half:])

    async def _settle(
        self, make: Callable[[Refusals], Publication | None], *, most_failures: int | None = None
    ) -> bool:
        """As a shard does: what Kafka refuses, or the core fails at, is left out or becomes a dead letter.

        False where the core has failed at more than `most_failures` parts; nothing is published then.
        """
        refused, failures = Refusals(), 0
        while True:
            try:
                publication = make(refused)
            except Exception as error:
                if (part := failed_part(error)) is None:
                    raise
                log_part(part)
                self._roll_back()
                if refused.add_failure(part) > MOST_FAILURES:
                    raise
                failures += 1
                if most_failures is not None and failures > most_failures:
                    return False
                continue
            if publication is None:
                return True
            try:
                await self._sink.publish(publication)
            except RecordsRefused as error:
                if refused.add(error) > _MOST_REFUSALS:
                    raise PublishFailed(str(error)) from error
                self._roll_back()
                continue
            self._keep(publication)
            return True

    def _roll_back(self) -> None:
        """Go back to what was published: the state is ahead of that, or half changed."""
        self._processor = Processor(self._plan, load(self._plan.cluster, self._state.items()))

    def _keep(self, publication: Publication) -> None:
        self.filtered += publication.filtered
        for key, value in publication.changes:
            if value is None:
                self._state.pop(key, None)
            else:
                self._state[key] = value
