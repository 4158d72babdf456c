"""One run from the first server to the verdict, and its report."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.bed import Bed, Worker, bed
from tests.chaos.conductor import Conductor, History
from tests.chaos.judge import Seen, Verdict, judge
from tests.chaos.load import Journal, Printer
from tests.chaos.schedule import Step
from tests.chaos.watch import watching
from tests.integration.oracle import oracle

RATE = 300.0
_EVENTS = (
    "publish_failed",
    "shard_fenced",
    "shard_realigned",
    "log_realigned",
    "log_failed",
    "follower_failed",
    "state_unreadable",
)


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


async def run(folder: Path, steps: Iterable[Step], seconds: float, seed: int, rate: float = RATE) -> Report:
    """Start servers and a worker, play the steps under load, and judge."""
    loop = asyncio.get_running_loop()
    async with bed(folder) as made:
        journal = Journal()
        worker = made.worker()
        async with watching(made.kafka.bootstrap, made.topics[:-2], journal) as watch:
            conductor = Conductor(made, journal, watch, worker, rate)
            try:
                await conductor.add_pods()
                await worker.start()
                started = loop.time()
                async with conductor.load(Printer(journal, seed)):
                    await conductor.settle("the start")
                    await conductor.play(steps, seconds)
                await _arrival(journal, watch.seen)
                if (code := await conductor.worker.stop()) != 0:
                    conductor.history.violations.append(f"exit code {code} after SIGTERM at the end")
            finally:
                workers = conductor.workers
                for each in workers:
                    await each.kill()
            seconds = loop.time() - started
        verdict = await _verdict(made, journal, conductor.history)
        events = _heard(workers, conductor.history)
        return Report(conductor.history, verdict, events, seconds)


async def _arrival(journal: Journal, seen: set[bytes], patience_seconds: float = 10.0) -> None:
    """Give what was written last the time to arrive: until nothing new has come for a while."""
    loop = asyncio.get_running_loop()
    count, since = -1, loop.time()
    while loop.time() < since + patience_seconds and len(seen) < len(journal.by_body):
        if len(seen) != count:
            count, since = len(seen), loop.time()
        await asyncio.sleep(0.2)


async def _verdict(made: Bed, journal: Journal, history: History) -> Verdict:
    async with oracle(made.kafka.bootstrap, made.topics) as records:
        await records.read_to_end()
    async with oracle(made.kafka.bootstrap, [made.state_topic]) as state:
        await state.read_to_end()
    return judge(
        made.name,
        journal,
        map(_seen, records.records),
        map(_seen, state.records),
        long_outages=history.long_outages,
    )


def _seen(record: object) -> Seen:
    return Seen(*(getattr(record, name) for name in Seen._fields))


def _heard(workers: Sequence[Worker], history: History) -> Counter[str]:
    events: Counter[str] = Counter()
    for worker in workers:
        found = worker.events()
        events.update(event["event"] for event in found)
        faults = [event for event in found if event["event"] in {"follower_failed", "state_unreadable"}]
        history.violations += [f"the worker said {event}" for event in faults[:5]]
        if worker.tracebacks():
            history.violations.append(f"{worker.tracebacks()} tracebacks in the worker's log")
    return events


def _median(times: Sequence[float]) -> float:
    return sorted(times)[len(times) // 2]
