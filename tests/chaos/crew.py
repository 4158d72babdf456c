"""Several workers of one cluster under load, killed, frozen, stopped and started at random; judged as one worker is."""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum

import orjson

from tests.chaos.bed import Site, Worker
from tests.chaos.judge import Verdict
from tests.chaos.load import SHARDS, Journal, Kind, Printer
from tests.chaos.run import verdict_on
from tests.chaos.watch import Watch, watching
from tests.testbed.pod import Pod

SESSION_SECONDS = 10.0
_TICK_SECONDS = 0.1
_ARRIVAL_SECONDS = 90.0
_COMPLAINTS = {"target_failed", "change_failed", "discovery_failed", "state_unreadable", "not_drained"}
_GROUP_FAILURES = 2
"""A worker may lose the group's answer that waits for the frozen and the dead, and join anew; not again and again."""


class Act(StrEnum):
    """What happens to one worker."""

    KILL = "killed"
    RESTART = "killed and started again at once"
    NAP = "frozen for less than its session"
    SLEEP = "frozen for more than its session"
    STOP = "removed"
    START = "added"


@dataclass(frozen=True)
class Step:
    """One act, and how long to wait after it."""

    act: Act
    victim: int
    """A draw, not an index: who it is depends on who is there."""
    seconds: float


def draw(seed: int) -> Iterator[Step]:
    """Steps without end; each round has every act once, in an order of its own."""
    rng = random.Random(seed)
    while True:
        for act in rng.sample(list(Act), len(Act)):
            seconds = {Act.NAP: rng.uniform(0.5, 8.0), Act.SLEEP: SESSION_SECONDS + rng.uniform(2.0, 6.0)}
            yield Step(act, rng.randrange(1000), seconds.get(act, rng.uniform(0.5, 6.0)))


@dataclass
class Crew:
    """The workers of one site, and the load that they share."""

    site: Site
    watch: Watch
    journal: Journal
    printer: Printer
    workers: list[Worker]
    pods: list[Pod] = field(default_factory=list)
    frozen: set[int] = field(default_factory=set)
    acts: Counter[Act] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    @property
    def running(self) -> list[int]:
        """Those that work, or would if they were awake."""
        return [index for index, worker in enumerate(self.workers) if worker.process.running]

    @property
    def awake(self) -> list[int]:
        return [index for index in self.running if index not in self.frozen]

    @asynccontextmanager
    async def load(self, rate: float) -> AsyncIterator[None]:
        """Let all pods print while the context lasts."""
        printing = asyncio.create_task(self._print(rate))
        try:
            yield
        finally:
            printing.cancel()
            await asyncio.wait([printing])

    async def _print(self, rate: float) -> None:
        rng, owed = random.Random(0), 0.0
        while True:
            owed += rate * _TICK_SECONDS
            while owed > 0:
                count = rng.randint(1, 6)
                self.printer.print(rng.choice(self.pods), count)
                owed -= count
            await asyncio.sleep(_TICK_SECONDS)

    async def play(self, steps: Iterator[Step], seconds: float) -> None:
        """Do steps until time is up."""
        deadline = time.monotonic() + seconds
        for step in steps:
            if time.monotonic() >= deadline:
                return
            await self.do(step)

    async def do(self, step: Step) -> None:
        """Do one step; one worker at least is left at work."""
        if step.act is Act.START:
            among = [index for index in range(len(self.workers)) if index not in self.running]
        else:
            among = self.awake if len(self.awake) > 1 else []
        if not among:
            return
        index = among[step.victim % len(among)]
        worker = self.workers[index]
        _say(f"worker {index} is {step.act}, {step.seconds:.1f} s")
        self.acts[step.act] += 1
        match step.act:
            case Act.KILL:
                await worker.kill()
            case Act.RESTART:
                await worker.kill()
                await worker.start()
            case Act.STOP:
                await self.stop(index)
            case Act.START:
                await worker.start()
            case Act.NAP | Act.SLEEP:
                await asyncio.to_thread(worker.process.freeze)
                self.frozen.add(index)
        await asyncio.sleep(step.seconds)
        if index in self.frozen:
            worker.process.resume()
            self.frozen.discard(index)

    async def stop(self, index: int) -> None:
        if (code := await self.workers[index].stop()) != 0:
            self.violations.append(f"worker {index} ended with {code} after SIGTERM")

    async def arrive(self, seconds: float = _ARRIVAL_SECONDS) -> None:
        """Wait until every alert that was written has come, or time is up; the judge says what is missing."""
        alerts = sum(line.kind is Kind.ALERT for line in self.journal.lines())
        deadline = time.monotonic() + seconds
        while len(self.watch.seen) < alerts and time.monotonic() < deadline:  # noqa: ASYNC110  # nothing tells
            await asyncio.sleep(0.05)

    async def finish(self) -> Verdict:
        """Let all arrive, stop everybody, and judge."""
        await self.arrive()
        for index in self.running:
            await self.stop(index)
        verdict = await verdict_on(self.site, self.journal)
        verdict.violations += self.violations
        for index, worker in enumerate(self.workers):
            told = [event for event in worker.events() if event["event"] in _COMPLAINTS]
            told += worker.heard("group_failed")[_GROUP_FAILURES:]
            verdict.blame(f"complaints of worker {index}", told)
            if worker.tracebacks():
                verdict.violations.append(f"{worker.tracebacks()} tracebacks in the log of worker {index}")
        return verdict

    def fenced(self) -> Counter[tuple[int, int]]:
        """How often each worker was fenced, by worker and shard."""
        return Counter(
            (index, event["shard"])
            for index, worker in enumerate(self.workers)
            for event in worker.heard("shard_fenced")
        )


@asynccontextmanager
async def crew(site: Site, count: int, *, pods: int = 2 * SHARDS, seed: int = 1) -> AsyncIterator[Crew]:
    """Make pods on every shard and workers, none of which runs yet; in the end none is left."""
    journal = Journal()
    async with watching(site.bootstrap, site.topics[:-2], site.state_topic, journal) as watch:
        workers = [site.worker(f"worker-{index}") for index in range(count)]
        made = Crew(site, watch, journal, Printer(journal, seed), workers)
        try:
            made.pods += [await site.cluster.add_pod(f"falco-{number}") for number in range(pods)]
            yield made
        finally:
            for worker in workers:
                await worker.kill()


def shards_of(worker: Worker) -> set[int]:
    """Which shards this worker was told to own the last time since it was started."""
    with worker.log.open("rb") as log:
        log.seek(worker.process._log_start)
        told = [line for line in log.read().splitlines() if b'"shards_assigned"' in line]
    return set(orjson.loads(told[-1])["shards"]) if told else set()


def _say(text: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} crew: {text}\n")
