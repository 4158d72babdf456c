"""One run from the first server to the verdict, and its report."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.chaos.bed import Site, Worker, bed
from tests.chaos.conductor import Conductor, History
from tests.chaos.judge import Seen, Verdict, judge
from tests.chaos.load import Journal, Kind, Printer
from tests.chaos.schedule import Step
from tests.chaos.watch import Watch, watching
from tests.integration.oracle import oracle

RATE = 300.0
_EVENTS = (
    "publish_failed",
    "shard_fenced",
    "shard_realigned",
    "log_realigned",
    "log_failed",
    "target_failed",
    "change_failed",
    "discovery_failed",
    "state_unreadable",
)
_FAULTS = {"target_failed", "change_failed", "discovery_failed", "state_unreadable"}


@dataclass
class Report:
    """What was done, what came of it, and what the worker said."""

    history: History
    verdict: Verdict
    events: Counter[str]
    seconds: float

    @property
    def violations(self) -> Sequence[str]:
        return [*self.history.violations, *self.verdict.violations]

    def __str__(self) -> str:
        history, verdict = self.history, self.verdict
        told = {event: self.events[event] for event in _EVENTS if self.events[event]}
        lines = [
            f"{self.seconds:.0f} s, {history.kills} kills of the worker",
            "faults:",
            *(f"  {count:4}  {fault}" for fault, count in sorted(history.faults.items())),
            "meanwhile:",
            *(f"  {count:4}  {what}" for what, count in sorted(history.meanwhile.items())),
            "recovery, until a line written after it has come from every pod (median, longest, in seconds):",
            *(
                f"  {_median(times):6.1f} {max(times):6.1f}  {after}"
                for after, times in sorted(history.recoveries.items())
            ),
            f"lines written {verdict.lines}, alerts published {verdict.published}",
            f"dead letters {verdict.dead_letters}, alerts missing (inside gaps) {verdict.missing}",
            f"gaps: {dict(verdict.gaps) or 'none'}",
            f"ledger: {verdict.ledger}",
            f"the worker said: {told or 'nothing of note'}",
            *(f"VIOLATION: {what}" for what in self.violations),
            f"verdict: {'BROKEN' if self.violations else 'exactly once'}",
        ]
        return "\n".join(lines)


class Play:
    """A site with pods that print, a worker that is watched, and what is noted of both."""

    def __init__(self, site: Site, watch: Watch, journal: Journal, conductor: Conductor, seed: int) -> None:
        self.site = site
        self.watch = watch
        self.journal = journal
        self.conductor = conductor
        self.printer = Printer(journal, seed)
        self._started = time.monotonic()

    async def finish(self) -> Report:
        """Let all arrive that was written, stop the worker, and judge."""
        history = self.conductor.history
        await self._arrival()
        if (code := await self.conductor.worker.stop()) != 0:
            history.violations.append(f"exit code {code} after SIGTERM at the end")
        seconds = time.monotonic() - self._started
        for each in self.conductor.workers:
            await each.kill()
        verdict = await verdict_on(self.site, self.journal)
        return Report(history, verdict, _heard(self.conductor.workers, history), seconds)

    async def _arrival(self, patience_seconds: float = 10.0) -> None:
        """Give what was written last the time to arrive: until nothing new has come for a while."""
        alerts = sum(line.kind is Kind.ALERT for line in self.journal.lines())
        count, since = -1, time.monotonic()
        while time.monotonic() < since + patience_seconds and len(self.watch.seen) < alerts:
            if len(self.watch.seen) != count:
                count, since = len(self.watch.seen), time.monotonic()
            await asyncio.sleep(0.2)


@asynccontextmanager
async def playing(site: Site, seed: int, rate: float = RATE, **settings: Any) -> AsyncIterator[Play]:
    """Make pods and a worker, which is not started yet; in the end no worker is left."""
    journal = Journal()
    async with watching(site.bootstrap, site.topics[:-2], site.state_topic, journal) as watch:
        conductor = Conductor(site, journal, watch, rate, **settings)
        try:
            await conductor.add_pods()
            yield Play(site, watch, journal, conductor, seed)
        finally:
            for each in conductor.workers:
                await each.kill()


async def run(folder: Path, steps: Iterable[Step], seconds: float, seed: int, rate: float = RATE) -> Report:
    """Start servers and a worker, play the steps under load, and judge."""
    async with bed(folder) as made, playing(made, seed, rate) as play:
        await play.conductor.worker.start()
        async with play.conductor.load(play.printer):
            await play.conductor.settle("the start")
            await play.conductor.play(steps, seconds)
        return await play.finish()


async def verdict_on(site: Site, journal: Journal) -> Verdict:
    """What is in the topics and in the state, against what was written."""
    async with oracle(site.bootstrap, site.topics) as records:
        await records.read_to_end()
    async with oracle(site.bootstrap, [site.state_topic]) as state:
        await state.read_to_end()
    return judge(site.name, journal, map(_seen, records.records), map(_seen, state.records))


def _seen(record: object) -> Seen:
    return Seen(*(getattr(record, name) for name in Seen._fields))


def _heard(workers: Sequence[Worker], history: History) -> Counter[str]:
    events: Counter[str] = Counter()
    for worker in workers:
        found = worker.events()
        events.update(event["event"] for event in found)
        faults = [event for event in found if event["event"] in _FAULTS]
        history.violations += [f"the worker said {event}" for event in faults[:5]]
        if worker.tracebacks():
            history.violations.append(f"{worker.tracebacks()} tracebacks in the worker's log")
    return events


def _median(times: Sequence[float]) -> float:
    return sorted(times)[len(times) // 2]
