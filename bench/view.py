"""What `falco-streamer view` takes with five viewers, and how long from the line in a pod's log to a viewer's page.

Each viewer is a stream of the page's own events, which is read as a browser would. Writer, API server, log endpoint,
broker, worker and viewers share the machine.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp
import orjson

from bench.file_to_kafka import delete_topics
from bench.site import EVERYTHING_PASSES, Worker, site
from bench.writing import Writing, greet
from tests.testbed.kafka import Kafka

PODS: Final = 20
RATE: Final = 50
VIEWERS: Final = 5
_WARM_SECONDS: Final = 15.0
_SAMPLES: Final = 10
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_EVENT: Final = re.compile(rb"event: rows\ndata: (.*)")


@dataclass(frozen=True)
class _Viewer:
    """The process, and where it serves."""

    pid: int
    url: str

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def resident_mib(self) -> float:
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


async def bench(folder: Path, kafka: Kafka, seconds: float) -> str:
    """The table of this benchmark."""
    async with site(folder, kafka, PODS) as at:
        with Worker(at, "view", EVERYTHING_PASSES).running() as worker:
            await asyncio.to_thread(greet, at.pods, worker)
            async with _viewing(kafka) as viewer, aiohttp.ClientSession(read_bufsize=1 << 22) as session:
                delays: list[float] = []
                listening = [
                    asyncio.create_task(_listen(session, viewer.url, delays if not number else []))
                    for number in range(VIEWERS)
                ]
                with Writing(at.pods, RATE):
                    await asyncio.sleep(_WARM_SECONDS)
                    delays.clear()
                    before, memory = viewer.cpu_seconds(), [viewer.resident_mib()]
                    for _ in range(_SAMPLES):
                        await asyncio.sleep(seconds / _SAMPLES)
                        memory.append(viewer.resident_mib())
                    share = (viewer.cpu_seconds() - before) / seconds
                for task in listening:
                    task.cancel()
    await delete_topics(kafka.bootstrap, "view")
    delays.sort()
    p50, p95, worst = (
        delays[min(len(delays) - 1, int(len(delays) * part))] * 1000 for part in (0.5, 0.95, 1)
    )
    return (
        f"### The viewer: {VIEWERS} viewers, {RATE} alerts/s for {seconds:.0f} s\n\n"
        "| CPU, of a core | p50 | p95 | worst | seen | memory, MiB, over time |\n|---:|---:|---:|---:|---:|---|\n"
        f"| {share:.1%} | {p50:.0f} ms | {p95:.0f} ms | {worst:.0f} ms | {len(delays) / seconds:.0f}/s "
        f"| {', '.join(f'{each:.0f}' for each in memory)} |\n"
    )


async def _listen(session: aiohttp.ClientSession, url: str, delays: list[float]) -> None:
    """Read a page's stream; note how old each row is when it comes."""
    async with session.get(f"{url}api/live?range=15m", timeout=aiohttp.ClientTimeout(total=None)) as answer:
        held = b""
        async for chunk, _ in answer.content.iter_chunks():
            now_ms = time.time() * 1000
            *events, held = (held + chunk).split(b"\n\n")
            for event in events:
                if found := _EVENT.match(event):
                    delays += [(now_ms - row["time_ms"]) / 1000 for row in orjson.loads(found[1])["rows"]]


@asynccontextmanager
async def _viewing(kafka: Kafka) -> AsyncIterator[_Viewer]:
    arguments = [
        "--set",
        f"kafka.bootstrap_servers={kafka.bootstrap}",
        "--set",
        "topics.prefix=view",
        "--port",
        "0",
    ]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "streamer", "view", *arguments, stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    try:
        while not (found := re.search(rb"http://\S+", await process.stderr.readline())):
            pass
        yield _Viewer(process.pid, found[0].decode())
    finally:
        process.terminate()
        await process.wait()
