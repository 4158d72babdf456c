"""One run: a schedule of what happens, in virtual time, and the judgement of what came of it."""

from __future__ import annotations

import asyncio
import random
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import inf
from typing import Any, Final, Literal
from unittest import mock

from streamer.simulator import logs
from streamer.simulator.pods import Pod
from streamer.source import actor, departure, fleet, intake, open_stream, reader, silence, waits
from streamer.source.api import ApiError
from streamer.source.patience import PATIENCE
from tests.model.oracle import Circumstances, check
from tests.model.server import ENDS, NOON_NS, ModelServer, Weather
from tests.model.worker import Committed, Worker
from tests.unit.flow.virtual_time import VirtualTimeLoop

QUIET_SECONDS: Final = 900.0
CALM: Final = Weather()
_MS: Final = 1_000_000

Style = Literal["plain", "alike", "one time", "inverted", "long", "odd"]
STYLES: Final[tuple[Style, ...]] = ("plain", "alike", "one time", "inverted", "long", "odd")


@dataclass(frozen=True)
class Write:
    count: int
    style: Style = "plain"
    every_seconds: float = 0.0


@dataclass(frozen=True)
class Unfinished:
    """A record without its newline: part of a line, or cut in the file."""

    cut: bool = False


@dataclass(frozen=True)
class Rotate:
    pass


@dataclass(frozen=True)
class Crash:
    """The worker dies with so many batches of what is pending committed, and is away for a while."""

    committed: int | None = 0
    away_seconds: float = 0.0


@dataclass(frozen=True)
class Block:
    """Kafka takes nothing."""

    seconds: float


@dataclass(frozen=True)
class Cut:
    how: int


@dataclass(frozen=True)
class Stall:
    pass


@dataclass(frozen=True)
class Outage:
    status: int
    seconds: float


@dataclass(frozen=True)
class Container:
    """`exit` ends it, and leaves it ended until it is started; `lose` lets the runtime forget those that have ended."""

    what: Literal["crash", "exit", "start", "restart", "finish", "lose"]


@dataclass(frozen=True)
class Delete:
    grace_seconds: float | None
    """None: the object is taken away at once, its container ends a while later."""
    again: bool
    """A pod of the same name follows."""


@dataclass(frozen=True)
class ClockStep:
    seconds: float


@dataclass(frozen=True)
class Wait:
    """Long enough for a stream to grow old, or to reach the limit of 4 h."""

    hours: float


@dataclass(frozen=True)
class Label:
    """The pod loses its label for a while: it is released, and taken up again."""

    away_seconds: float


Event = (
    Write
    | Unfinished
    | Rotate
    | Crash
    | Block
    | Cut
    | Stall
    | Outage
    | Container
    | Delete
    | ClockStep
    | Wait
    | Label
)


@dataclass(frozen=True)
class Plan:
    """All of a run; the same plan runs the same way."""

    events: tuple[tuple[float, Event], ...]
    """Each after so many seconds."""
    weather: Weather = CALM
    seed: int = 0
    utc_offset_minutes: int = 0
    max_line_bytes: int = 786_432
    room: int = 100
    small: bool = True
    """With short records and short tails, so that few lines reach far."""


class Muted:
    """Takes what the source logs; a follower's exception is a fault."""

    def __init__(self) -> None:
        self.faults: list[str] = []

    def exception(self, event: str, **_: object) -> None:
        self.faults.append(f"{event}: {traceback.format_exc()}")

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_, **__: None


class WallClock:
    """Our clock, in virtual time. The node's may be another (`ClockStep`)."""

    def time_ns(self) -> int:
        return NOON_NS + int(asyncio.get_running_loop().time() * 1e9)


@contextmanager
def scaled(plan: Plan) -> Iterator[Muted]:
    muted = Muted()
    modules = (actor, departure, fleet, reader, silence, waits)
    patches: list[Any] = [mock.patch.object(module, "log", muted) for module in modules]
    patches.extend(mock.patch.object(module, "time", WallClock()) for module in (intake, open_stream))
    if plan.small:
        patches.append(mock.patch.object(logs, "RECORD_BYTES", 64))
    for patch in patches:
        patch.start()
    try:
        yield muted
    finally:
        for patch in patches:
            patch.stop()


class Run:
    """A plan on its way."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.server = ModelServer(plan.weather, plan.seed)
        self.committed = Committed()
        self.circumstances = Circumstances()
        self.random = random.Random(plan.seed)
        self.number = self.alike = 0
        self.started_at = 0.0
        self.rotated_at = -inf
        self.worker: Worker | None = None
        self.ending: list[tuple[float, Pod]] = []
        self.pod: Pod | None = None

    async def begin(self) -> Worker:
        """A pod, and a worker that follows it."""
        self._add_pod()
        self.server.on_change = lambda change: self.worker.take(change) if self.worker else None
        await asyncio.sleep(self.plan.weather.watch_lag_seconds + 0.001)
        return self._start()

    async def go(self) -> list[str]:
        await self.begin()
        back_at: float | None = None
        clock = asyncio.get_running_loop().time
        for after, event in self.plan.events:
            await asyncio.sleep(after)
            if back_at is not None and clock() >= back_at:
                self._start()
                back_at = None
            if isinstance(event, Crash):
                if self.worker is not None:
                    worker, self.worker = self.worker, None
                    await worker.die(event.committed)
                    back_at = clock() + event.away_seconds
            else:
                await self._happen(event)
        await self._calm()
        worker = self.worker or self._start()
        await asyncio.sleep(QUIET_SECONDS)
        quiet_from = int(clock() // 60) + 1
        await asyncio.sleep(600.0)
        found = self._judge_requests(quiet_from) + worker.idle()
        # What a log that is empty since its rotation may have lost is told with its next line, or with its end.
        if self._writes:
            self.banner()
        elif self.pod is not None:
            found += [
                text for text in self._check() if "though the API serves it" in text
            ]  # gaps may be due yet
            await self._delete(Delete(0.0, again=False))
        await asyncio.sleep(900.0)  # a silent stream may be checked so late
        await worker.die(None)
        found += self._check()
        worker = self._start()  # who finds nothing to add
        await asyncio.sleep(300.0)
        await worker.die(None)
        return found + self._check()

    def _check(self) -> list[str]:
        self.circumstances.long_wait |= self.server.longest_delay >= PATIENCE.rotation_seconds
        return check(self.server, self.committed, self.plan.max_line_bytes, self.circumstances)

    def _start(self) -> Worker:
        patience = replace(PATIENCE, tail_lines=96, longer_tail_lines=160) if self.plan.small else PATIENCE
        worker = Worker(self.server, self.committed, self.plan.room, self.plan.max_line_bytes, patience)
        worker.start(self.server.targets.present.values(), self.server.targets.departed)
        self.worker = worker
        return worker

    async def _calm(self) -> None:
        """Whatever was wrong ends; what it did stays."""
        self.server.outage = None
        if self.worker is not None:
            self.worker.unblock()
        weather = self.server.weather
        self.server.weather = replace(
            weather, refused=0, cut=0, stalled=0, text=0, slow=0, pipe_bytes=1 << 20
        )

    def _judge_requests(self, quiet_from: int) -> list[str]:
        found = []
        if self.server.hot:
            found.append("100 requests at one moment")
        deleting = any(isinstance(event, Delete) for _, event in self.plan.events)
        busiest = max(self.server.requests.values(), default=0)
        if busiest > (1500 if deleting else 500):
            found.append(f"{busiest} requests in a minute")
        quiet = [count for minute, count in self.server.requests.items() if minute >= quiet_from]
        pods = max(1, len(self.server.cluster.pods))
        if sum(quiet) > 10 * self._patient_requests():
            found.append(f"{sum(quiet)} requests in ten quiet minutes: {quiet}")
        if (streams := self.server.open_streams) > pods + 1:
            found.append(f"{streams} streams open in the end")
        return found

    def _patient_requests(self) -> int:
        """How many requests a minute are no more than patience."""
        if self.pod is None:
            return 5
        current = self.pod.containers["falco"].current
        if current is None or current.finished_ns is not None:
            return 100  # the former instance's log is looked at again and again, up to 15 s apart
        # A rotation's new file is awaited in haste for a minute.
        return 5 if b"\n" in current.log.current.data else 7

    # Events

    async def _happen(self, event: Event) -> None:
        if isinstance(event, Write):
            await self._write(event)
        elif isinstance(event, Unfinished):
            self.circumstances.long_wait = True  # a line that is ended long after it was begun looks late
            if self._writes:
                self.number += 1
                assert self.pod is not None
                log = self.server.cluster.log(self.pod)
                ends = not log.current.data or log.current.data.endswith(b"\n")
                append = log.append_cut if event.cut and ends else log.append_partial
                if not log.current.cut:
                    append(b'{"part":%d' % self.number, self.server.now_ns())
        elif isinstance(event, Rotate):
            # The kubelet looks at the logs' sizes every 10 s: the log of a container that has just begun is small.
            may = max(self.started_at + 12.0, self.rotated_at + 10.0)
            await asyncio.sleep(max(0.0, may - asyncio.get_running_loop().time()))
            if self._writes:
                assert self.pod is not None
                self.rotated_at = asyncio.get_running_loop().time()
                self.server.cluster.rotate(self.pod)
        elif isinstance(event, Block):
            self.circumstances.long_wait |= event.seconds >= PATIENCE.rotation_seconds
            if self.worker is not None:
                self.worker.block(event.seconds)
        elif isinstance(event, Cut):
            self.server.cut(ENDS[event.how])
        elif isinstance(event, Stall):
            self.circumstances.long_wait = True
            self.server.stall()
        elif isinstance(event, Outage):
            kind = "pods/log" if event.status == 404 else ""
            outage = self.server.outage = ApiError(event.status, "outage", kind=kind)
            # What comes next may happen meanwhile.
            asyncio.get_running_loop().call_later(event.seconds, self._end_outage, outage)
        elif isinstance(event, Container):
            if event.what in ("start", "restart") and self.pod is not None:
                # The kubelet waits 10 s before it starts a container that has just been started.
                await asyncio.sleep(max(0.0, self.started_at + 10.0 - asyncio.get_running_loop().time()))
            self._container(event.what)
        elif isinstance(event, Delete):
            await self._delete(event)
        elif isinstance(event, Wait):
            await asyncio.sleep(event.hours * 3600)
        elif isinstance(event, Label):
            await self._label(event)
        elif isinstance(event, ClockStep):
            self.circumstances.clock_steps = True
            self.server.clock_offset_ns += int(event.seconds * 1e9)

    @property
    def _writes(self) -> bool:
        if self.pod is None:
            return False
        current = self.pod.containers["falco"].current
        return current is not None and current.finished_ns is None

    async def _write(self, event: Write) -> None:
        # More lines alike than a position remembers cannot be counted.
        self.alike += 1
        for _ in range(min(event.count, 40) if event.style == "alike" else event.count):
            if not self._writes:
                return
            assert self.pod is not None
            log, now = self.server.cluster.log(self.pod), self.server.now_ns()
            log.append(*self._line(event.style, now))
            if event.every_seconds:
                await asyncio.sleep(event.every_seconds)

    def _line(self, style: Style, now: int) -> tuple[bytes, int]:
        if style == "alike":
            return b'{"alike":%d}' % self.alike, whole_second(now)
        self.number += 1
        n = self.number
        text = b'{"n":%d}' % n
        if style == "one time":
            return text, whole_second(now)
        if style == "inverted":
            return text, now + n * 1000 - self.random.randint(0, 200 * _MS)
        if style == "long":
            return text + b"x" * self.random.randint(60, 2600), now + n * 1000
        if style == "odd":
            tail = self.random.choice((b"\0", b"\r", b"\xff\xfe", b"", b"2026-11-20T10:00:00.000000000Z x"))
            return text + tail, now + n * 1000
        return text, now + n * 1000

    def _container(self, what: str) -> None:
        if self.pod is None:
            return
        cluster, pod = self.server.cluster, self.pod
        if what == "lose":
            self.server.lose_ended()
            return
        if what == "start":
            if self._writes or pod.uid in self.server.finished:  # a pod that has finished stays so
                return
            cluster.start_container(pod)
        elif not self._writes:
            return
        elif what == "crash":
            cluster.crash(pod)
        elif what == "restart":
            cluster.restart_container(pod)
        else:
            if what == "finish":
                self.server.finished.add(pod.uid)
            cluster.terminate(pod)
        self.server.publish()
        if what in ("start", "restart"):
            self.banner()

    def banner(self) -> None:
        """No instance leaves nothing: Falco's first line comes as soon as it runs."""
        assert self.pod is not None
        self.started_at = asyncio.get_running_loop().time()
        self.number += 1
        self.server.cluster.append(self.pod, b"banner %d" % self.number, time_ns=self.server.now_ns())

    def _add_pod(self) -> None:
        self.pod = self.server.cluster.add_pod(
            "falco", "falco-a", utc_offset_minutes=self.plan.utc_offset_minutes
        )
        self.server.publish()
        self.banner()

    def _end_outage(self, outage: ApiError) -> None:
        if self.server.outage is outage:
            self.server.outage = None

    async def _label(self, event: Label) -> None:
        if self.pod is None:
            return
        key = (self.pod.namespace, self.pod.name)
        self.server.set_label(key, there=False)
        if event.away_seconds:
            await asyncio.sleep(event.away_seconds)
        if self.pod is not None:
            self.server.set_label(key, there=True)

    async def _delete(self, event: Delete) -> None:
        if self.pod is None:
            return
        cluster, pod = self.server.cluster, self.pod
        if event.grace_seconds is None:
            cluster.remove_pod(pod)
            self.server.publish()
            await asyncio.sleep(1.0)
            if self._writes:
                self.banner()
                cluster.terminate(pod)
        else:
            cluster.begin_deletion(pod)
            self.server.publish()
            await asyncio.sleep(event.grace_seconds / 2)
            await asyncio.sleep(max(0.0, self.server.kubelet_back_at - asyncio.get_running_loop().time()))
            if self._writes:
                self.banner()
                cluster.terminate(pod)
            self.server.publish()
            # The kubelet has told of the container's end, and has taken the pod's volumes away, before the object goes.
            await asyncio.sleep(max(event.grace_seconds / 2, 2.0 + self.server.weather.status_lag_seconds))
            cluster.remove_pod(pod)
            self.server.publish()
        self.pod = None
        if event.again:
            self._add_pod()


def whole_second(now: int) -> int:
    """The second that a time is in: what is stamped with it comes more than once."""
    return now // 1_000_000_000 * 1_000_000_000


def run(plan: Plan) -> list[str]:
    """Everything that is wrong with a run of this plan."""
    return run_and_keep(plan)[0]


def run_and_keep(plan: Plan) -> tuple[list[str], Committed]:
    """The same, and what was published."""
    random.seed(plan.seed)  # the follower's own jitter
    with scaled(plan) as muted, asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:

        async def go() -> tuple[list[str], Committed]:
            course = Run(plan)
            return await course.go(), course.committed

        found, committed = runner.run(go())
        return muted.faults[:1] + found, committed
