"""All streams open at once, with large logs and nothing new to read: at a first start, and at a restart behind a link.

What is served is counted by a proxy and compared with what has to be read: the whole logs, or the tails, the last 512
lines of each, in which a worker finds its place again.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from bench.data import alerts
from bench.file_to_kafka import delete_topics
from bench.simulated import simulated
from bench.site import EVERYTHING_PASSES, Reach, Site, Worker, allow_streams, site, until
from streamer.simulator import AlertGenerator
from tests.testbed.crilog import record
from tests.testbed.kafka import Kafka
from tests.testbed.proxy import Proxy

TAIL_LINES: Final = 512
_STAMP_BYTES: Final = 32
"""What a log request puts around each line: its time, a space, and a newline."""
_CLOSED_SECONDS: Final = 60.0
_LINES_PER_SECOND: Final = 3_000
"""What a worker that reads everything is allowed to be slow at."""
_MANY_READ_MIB: Final = 0.25
"""Of each pod's log, where a worker reads all the logs of the many pods."""
_HEAD: Final = (
    "| | all followed after | a new line of each committed after | served | times what must be read "
    "| requests | peak |\n"
    "|---|---:|---:|---:|---:|---:|---:|"
)


@dataclass(frozen=True)
class Sizes:
    """How large, how fast, and how long a run may take."""

    pods: int = 150
    many_pods: int = 1_500
    log_mib: float = 10.0
    links_mb: tuple[float, ...] = (60.0, 20.0)
    """The link's bandwidth at each restart, in 10^6 bytes a second."""
    deadline_seconds: float = 120.0


class Herd(Protocol):
    """Pods whose logs a benchmark writes: real or simulated."""

    def requests(self) -> Counter[str]: ...

    def print_lines(self, lines: int) -> None: ...

    def begin_with(self, alerts: list[bytes]) -> None: ...


async def bench(folder: Path, kafka: Kafka, sizes: Sizes) -> str:
    """The table of this benchmark."""
    allow_streams(sizes.pods)
    async with site(folder, kafka, sizes.pods) as at, Proxy(at.server.port) as link:
        rows = await _Bench(at, _RealHerd(at), link, sizes.pods, sizes).rows("herd", sizes.log_mib)
    title = f"### A herd: {sizes.pods:,} pods, {sizes.log_mib:g} MiB of log each, nothing new to read"
    return "\n".join([title, "", _HEAD, *rows]) + "\n"


async def many(folder: Path, kafka: Kafka, sizes: Sizes) -> str:
    """The same with simulated pods."""
    async with simulated(folder, kafka, sizes.many_pods) as at, Proxy(_port(at.url)) as link:
        rows = await _Bench(at, at, link, sizes.many_pods, sizes).rows("many", _MANY_READ_MIB)
    title = f"### A herd of {sizes.many_pods:,} simulated pods, {sizes.log_mib:g} MiB of log each"
    return "\n".join([title, "", _HEAD, *rows]) + "\n"


class _Bench:
    def __init__(self, at: Reach, herd: Herd, link: Proxy, pods: int, sizes: Sizes) -> None:
        self._at = at
        self._herd = herd
        self._link = link
        self._pods = pods
        self._sizes = sizes

    async def rows(self, name: str, read_mib: float) -> list[str]:
        """A first start from the beginning of so large logs, one from now on, and a restart, each a row."""
        history = _history(self._sizes.log_mib)
        read = history[-round(read_mib / self._sizes.log_mib * len(history)) :]
        first, restart = f"{name}-first", f"{name}-restart"
        # Where a restart goes on: the last line of a log that had nothing before it yet.
        self._herd.print_lines(1)
        with self._worker(restart, {}).running() as worker:
            await asyncio.to_thread(worker.wait_for, "lines", self._pods)
        await self._begin_with(read)
        made = [await self._row(f"first start, beginning, {read_mib:g} MiB", first, {}, len(read) + 1, read)]
        await self._begin_with(history)
        start_now = {"kubernetes": {"start": "now"}}
        tail = history[-TAIL_LINES:]
        made.append(await self._row("first start, now", f"{name}-now", start_now, 0, tail))
        for n, bandwidth in enumerate(self._sizes.links_mb):
            # Each row's last step has printed a line that is new to the next restart.
            self._link.served_bytes_per_second = bandwidth * 1e6
            made.append(await self._row(f"restart behind {bandwidth:g} MB/s", restart, {}, 3 + n, tail))
            self._link.served_bytes_per_second = None
        await delete_topics(self._at.kafka.bootstrap, name)
        return made

    async def _begin_with(self, alerts: list[bytes]) -> None:
        """Let the logs begin with these, once the last worker's streams are closed: they would be served to it."""
        if not await asyncio.to_thread(until, lambda: not self._link.open_connections, _CLOSED_SECONDS):
            raise TimeoutError("the last worker's streams are still open")
        self._herd.begin_with(alerts)

    def _worker(self, name: str, more: Mapping[str, Any]) -> Worker:
        return Worker(self._at, name, {**EVERYTHING_PASSES, **more}, kubeconfig=self._at.through(self._link))

    async def _row(
        self, label: str, name: str, more: Mapping[str, Any], lines: int, to_read: list[bytes]
    ) -> str:
        """`lines` of each pod are committed when all is read; `to_read` is what has to be read of each."""
        link, herd, wanted = self._link, self._herd, self._pods * lines
        asked, served = herd.requests(), link.served_bytes
        deadline_seconds = self._sizes.deadline_seconds + wanted / _LINES_PER_SECOND
        began = time.monotonic()
        with self._worker(name, more).running() as worker:

            def all_followed() -> bool:
                return worker.following() >= self._pods and worker.ledger().get("lines", 0) >= wanted

            met = await asyncio.to_thread(until, all_followed, deadline_seconds, every_seconds=0.25)
            seconds = time.monotonic() - began
            followed = f"{seconds:.1f} s" if met else f"{worker.following():,} after {seconds:.0f} s"
            used, bytes_ = herd.requests() - asked, link.served_bytes - served
            herd.print_lines(1)
            began = time.monotonic()
            known = worker.ledger().get("lines", 0) if not met else wanted
            got = await asyncio.to_thread(
                until, lambda: worker.ledger().get("lines", 0) >= wanted + self._pods, 30.0
            )
            fresh = f"{time.monotonic() - began:.1f} s" if got else _missing(worker, known, self._pods)
            peak = worker.peak_bytes()
        must = self._pods * sum(len(line) + _STAMP_BYTES for line in to_read)
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(used.items()))
        return (
            f"| {label} | {followed} | {fresh} | {bytes_ / 1e6:,.0f} MB | {bytes_ / must:.1f} | {kinds} "
            f"| {peak / 2**20:.0f} MiB |"
        )


def _missing(worker: Worker, known: int, pods: int) -> str:
    return f"{worker.ledger().get('lines', 0) - known:,} of {pods:,} after 30 s"


class _RealHerd:
    def __init__(self, at: Site) -> None:
        self._at = at
        self._generator = AlertGenerator(5)
        self._printed: list[list[bytes]] = [[] for _ in at.pods]
        self._began_ns = time.time_ns()

    def requests(self) -> Counter[str]:
        return self._at.requests()

    def print_lines(self, lines: int) -> None:
        for pod, printed in zip(self._at.pods, self._printed, strict=True):
            now = time.time_ns()
            new = [record(self._generator.alert(now + n, "node"), at=now + n) for n in range(lines)]
            pod.log().raw(b"".join(new))
            printed.extend(new)

    def begin_with(self, alerts: list[bytes]) -> None:
        """Nobody reads the logs now: each is written again, with the alerts before what was printed."""
        history = b"".join(record(alert, at=self._began_ns + n) for n, alert in enumerate(alerts))
        for pod, printed in zip(self._at.pods, self._printed, strict=True):
            log = pod.log()
            log.close()
            log.path.write_bytes(history + b"".join(printed))
            log.open(int(log.path.stem))


def _history(mib: float) -> list[bytes]:
    """Alerts that fill so much of a log."""
    found, size = [], 0
    for alert in alerts(int(mib * 2**20 / 200)):
        size += len(alert) + _STAMP_BYTES
        if size > mib * 2**20:
            break
        found.append(alert)
    return found


def _port(url: str) -> int:
    return int(url.rpartition(":")[2])
