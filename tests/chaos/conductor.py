"""Does what the schedule says, under load, and notes what must be known to judge the outcome."""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.bed import Bed, Site, Worker
from tests.chaos.load import Change, Journal, Kind, Printer
from tests.chaos.schedule import PEACEFUL, Fault, Meanwhile, Step
from tests.chaos.watch import Watch
from tests.testbed.pod import Pod
from tests.testbed.proxy import Proxy

RECOVERY_SECONDS = 120.0
_TICK_SECONDS = 0.1
_SHORT_ROTATION_SECONDS = 3.0
_ENDED_SECONDS = 1.0
"""How long a deleted pod's object outlives its container: a kubelet looks at its containers once a second."""
_KAFKA = {
    Fault.KAFKA_KILL,
    Fault.KAFKA_STOP,
    Fault.KAFKA_FREEZE,
    Fault.KAFKA_CUT,
    Fault.KAFKA_LATENCY,
    Fault.KAFKA_HANG,
}
"""An outage of Kafka closes no stream: a log is read on until there is no more room for what was read."""


@dataclass
class History:
    """What was done and how it went; the report shows it."""

    faults: Counter[str] = field(default_factory=Counter)
    meanwhile: Counter[str] = field(default_factory=Counter)
    kills: int = 0
    recoveries: dict[str, list[float]] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)


class Conductor:
    """One run: pods of different fates, one worker, one step after the other."""

    def __init__(self, site: Site, journal: Journal, watch: Watch, rate: float, **settings: Any) -> None:
        self._site = site
        self._journal = journal
        self._watch = watch
        self.worker = site.worker(**settings)
        self._spare = site.worker("spare", **settings)
        self._rate = rate
        self._pods: dict[str, Pod] = {}
        self._restarts: Counter[str] = Counter()  # since all was well; three unseen ones are a certain gap
        self._rotated_at: dict[str, float] = {}
        self._departed: set[str] = set()
        self._all_is_well = False
        self.history = History()

    @property
    def workers(self) -> tuple[Worker, Worker]:
        """The one at work, and the other."""
        return self.worker, self._spare

    @property
    def pods(self) -> Mapping[str, Pod]:
        """The pods there are now, by name."""
        return self._pods

    async def add_pods(self) -> None:
        """Some to rotate, restart, delete; one for holes; and two that nothing ever happens to."""
        fates = {"rotated": 3, "restarted": 2, "mortal": 2, "holed": 1, "quiet": 2}
        for name in [f"{fate}-{n}" for fate, count in fates.items() for n in range(count)]:
            self._pods[name] = await self._site.cluster.add_pod(name)

    @asynccontextmanager
    async def load(self, printer: Printer) -> AsyncIterator[None]:
        """Let all pods print at the wanted rate while the context lasts."""
        self._printer = printer
        task = asyncio.create_task(self._print())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error

    async def _print(self) -> None:
        rng = random.Random(0)
        owed = 0.0
        while True:
            owed += self._rate * _TICK_SECONDS
            pods = [pod for pod in self._pods.values() if pod.container().running]
            while owed > 0 and pods:
                count = rng.randint(1, 6)  # a burst: some share a network read, some do not
                self._printer.print(rng.choice(pods), count)
                owed -= count
            await asyncio.sleep(_TICK_SECONDS)

    async def play(self, steps: Iterable[Step], seconds: float) -> None:
        """Do steps until time is up; the last one is finished, and the worker is left at work."""
        deadline = time.monotonic() + seconds
        for step in steps:
            if time.monotonic() > deadline:
                break
            if (step.fault in PEACEFUL or step.fault in _LAST) and not self._all_is_well:
                await self.settle("before what needs a worker at work")
            _say(f"{step}")
            self.history.faults[step.fault] += 1
            if step.fault not in PEACEFUL:
                self._all_is_well = False
                self._journal.epoch.kafka_disturbed |= step.fault in _KAFKA
                self._journal.epoch.disturbed |= step.fault not in _KAFKA
            await self._do(step)
            if step.settle:
                await self.settle(step.fault)
            else:
                await asyncio.sleep(random.Random(step.victim).uniform(0.0, 2.0))
        await self.settle("the end")

    async def settle(self, after: str) -> None:
        """Wait until of each pod a line has arrived that was written from now on, and who is gone was seen out."""
        started, since_ns = time.monotonic(), time.time_ns()
        while late := self._behind(since_ns) or [
            f"{uid} (gone)" for uid in self._departed - self._watch.done
        ]:
            if not self.worker.process.running:
                self.history.violations.append(f"the worker ended by itself after {after}")
                await self.worker.start()
            if time.monotonic() > started + RECOVERY_SECONDS:
                self.history.violations.append(
                    f"not recovered {RECOVERY_SECONDS:.0f} s after {after}: {', '.join(late)}"
                )
                break
            await asyncio.sleep(0.02)
        self.history.recoveries.setdefault(after, []).append(time.monotonic() - started)
        self._all_is_well = True
        self._journal.settled(since_ns)
        self._restarts.clear()
        self._departed.clear()

    def _behind(self, since_ns: int) -> list[str]:
        return [
            name
            for name, pod in self._pods.items()
            if pod.container().running and self._watch.newest_ns.get(pod.uid, 0) < since_ns
        ]

    @property
    def _bed(self) -> Bed:
        assert isinstance(self._site, Bed), "other tests use these servers, too"
        return self._site

    async def _do(self, step: Step) -> None:
        match step.fault:
            case Fault.KILL:
                await self._kill(step)
            case Fault.STOP:
                if (code := await self.worker.stop()) != 0:
                    self.history.violations.append(f"exit code {code} after SIGTERM")
                await self._during(step)
                await self.worker.start()
            case Fault.FREEZE:
                await self._freeze(step, self.worker.process.freeze, self.worker.process.resume)
            case Fault.ZOMBIE:
                await self._zombie(step)
            case Fault.API_KILL:
                await self._down(step, self._bed.server.kill, self._bed.server.start)
            case Fault.KUBELET_KILL:
                await self._down(step, self._bed.kubelet.kill, self._bed.kubelet.start)
            case Fault.KUBELET_FREEZE:
                await self._freeze(step, self._bed.kubelet.freeze, self._bed.kubelet.resume)
            case Fault.KAFKA_KILL:
                await self._down(step, self._bed.kafka.kill, self._bed.kafka.start)
            case Fault.KAFKA_STOP:
                await self._down(step, self._bed.kafka.stop, self._bed.kafka.start)
            case Fault.KAFKA_FREEZE:
                await self._freeze(step, self._bed.kafka.freeze, self._bed.kafka.resume)
            case Fault.API_CUT | Fault.KAFKA_CUT | Fault.API_HANG | Fault.KAFKA_HANG:
                await self._cut(step)
            case Fault.API_LATENCY | Fault.KAFKA_LATENCY:
                proxy = self._proxy(step.fault)
                proxy.latency_seconds = 0.05 + 0.2 * (step.victim / 1000)
                await self._during(step)
                proxy.latency_seconds = 0.0
            case Fault.HOLE | Fault.GONE | Fault.ROTATED_AWAY:
                await self.worker.kill()
                self.history.kills += 1
                await _LAST[step.fault](self, step)
                await self._during(step)
                await self.worker.start()
            case _:
                await self._live(step)

    # What happens to the worker and the servers

    async def _kill(self, step: Step) -> None:
        for pause in step.pauses:
            await asyncio.sleep(pause)
            await self.worker.kill()
            self.history.kills += 1
            if pause is step.pauses[-1]:
                await self._during(step)
            await self.worker.start()

    async def _zombie(self, step: Step) -> None:
        """Another worker takes over while ours stands still; then both are awake, until ours is killed."""
        await asyncio.to_thread(self.worker.process.freeze)
        await self._spare.start()
        await self._during(step)
        self.worker.process.resume()
        await asyncio.sleep(2.0)
        await self.worker.kill()
        self.history.kills += 1
        self.worker, self._spare = self._spare, self.worker

    async def _down(self, step: Step, kill: Callable[[], None], start: Callable[[], None]) -> None:
        await asyncio.to_thread(kill)
        await self._during(step)
        await asyncio.to_thread(start)

    async def _freeze(self, step: Step, freeze: Callable[[], None], resume: Callable[[], None]) -> None:
        await asyncio.to_thread(freeze)
        await self._during(step)
        resume()

    async def _cut(self, step: Step) -> None:
        proxy = self._proxy(step.fault)
        if step.fault in {Fault.API_CUT, Fault.KAFKA_CUT}:
            proxy.reset()
            await self._during(step)
            proxy.reset()
            return
        if step.fault is Fault.KAFKA_HANG and step.victim % 2:
            proxy.vanish()
        else:
            proxy.hang()
        await self._during(step)
        if not step.settle:  # as a load balancer does in the end; else the worker has to find out alone
            proxy.reset()

    def _proxy(self, fault: Fault) -> Proxy:
        return self._bed.api_proxy if fault.name.startswith("API") else self._bed.kafka_proxy

    async def _during(self, step: Step) -> None:
        """The time that a fault lasts, with what happens in it."""
        started = time.monotonic()
        pause = step.seconds / (len(step.meanwhile) + 1)
        for number, what in enumerate(step.meanwhile):
            await asyncio.sleep(pause)
            self.history.meanwhile[what] += 1
            match what:
                case Meanwhile.ROTATE:
                    await self._rotate(self._victim("rotated", step.victim))
                case Meanwhile.RESTART:
                    await self._restart(self._victim("restarted", step.victim + number))
                case Meanwhile.RECREATE:
                    await self._recreate(self._victim("mortal", step.victim))
        await asyncio.sleep(max(0.0, started + step.seconds - time.monotonic()))

    # What happens to pods

    async def _live(self, step: Step) -> None:
        match step.fault:
            case Fault.ROTATE:
                await self._rotate(self._victim("rotated", step.victim))
            case Fault.ROTATE_TWICE:
                for pause in step.pauses:
                    await asyncio.sleep(pause)
                    await self._rotate(self._victim("rotated", step.victim))
            case Fault.RESTART:
                await self._restart(self._victim("restarted", step.victim))
            case Fault.CRASH_LOOP:
                await self._crash_loop(self._victim("restarted", step.victim), step.pauses)
            case Fault.RECREATE:
                await self._recreate(self._victim("mortal", step.victim))
            case Fault.FLOOD:
                self._printer.print(self._pods["quiet-0"], 60, Kind.BROKEN)

    def _victim(self, fate: str, draw: int) -> Pod:
        among = [pod for name, pod in sorted(self._pods.items()) if name.startswith(fate)]
        return among[draw % len(among)]

    async def _rotate(self, pod: Pod) -> None:
        wait_seconds = self._rotated_at.get(pod.uid, 0.0) + _SHORT_ROTATION_SECONDS - time.monotonic()
        await asyncio.sleep(wait_seconds)
        pod.log().rename()
        # Until the runtime has opened the new file, lines go on into the renamed one.
        self._printer.print(pod, 3)
        await asyncio.sleep(0.05)
        self._journal.change(pod, Change.ROTATED)
        pod.log().reopen()
        self._printer.print(pod, 3)
        self._rotated_at[pod.uid] = time.monotonic()

    async def _restart(self, pod: Pod) -> None:
        if self._restarts[pod.uid] >= 2:
            return
        self._restarts[pod.uid] += 1
        self._printer.print(pod, 3)
        await self._start_next(pod)
        self._printer.print(pod, 3)

    async def _start_next(self, pod: Pod) -> None:
        self._journal.change(pod, Change.RESTARTED)
        await pod.restart()

    async def _crash_loop(self, pod: Pod, pauses: Iterable[float]) -> None:
        for pause in pauses:
            self._printer.print(pod, 3)
            await pod.back_off()
            await asyncio.sleep(pause / 2)
            await self._start_next(pod)
            self._printer.print(pod, 3)
            await asyncio.sleep(pause)

    async def _recreate(self, pod: Pod) -> None:
        """As a node does it: grace period, the container ends, the object goes; then one of the same name comes."""
        await pod.delete(grace_seconds=30)
        await asyncio.sleep(0.3)
        self._printer.print(pod, 3)
        await pod.end()
        await asyncio.sleep(_ENDED_SECONDS)
        self._journal.change(pod, Change.DELETED)
        await pod.delete()
        await self._again(pod)

    async def _again(self, pod: Pod) -> None:
        self._departed.add(pod.uid)
        self._pods[pod.name] = await self._site.cluster.add_pod(pod.name)

    # What happens while no worker runs

    async def _rotated_away(self, step: Step) -> None:
        pod = self._victim("rotated", step.victim)
        for _ in range(2):
            self._printer.print(pod, 5)
            self._journal.change(pod, Change.ROTATED)
            pod.log().rotate()
        self._printer.print(pod, 5)

    async def _hole(self, step: Step) -> None:
        pod = self._victim("holed", step.victim)
        self._journal.add(pod).holes += 1
        for _ in range(3):
            self._printer.print(pod, 5)
            await self._start_next(pod)
        self._printer.print(pod, 5)

    async def _gone(self, step: Step) -> None:
        pod = self._victim("mortal", step.victim)
        self._printer.print(pod, 5)
        self._journal.change(pod, Change.DELETED_BY_FORCE)
        await pod.delete()
        await self._again(pod)


_LAST: dict[Fault, Callable[[Conductor, Step], Awaitable[None]]] = {
    Fault.HOLE: Conductor._hole,
    Fault.GONE: Conductor._gone,
    Fault.ROTATED_AWAY: Conductor._rotated_away,
}


def _say(text: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} chaos: {text}\n")
