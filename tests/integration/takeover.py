"""How long shards stand still when a worker comes or goes: `python -m tests.integration.takeover`.

Three workers share the shards, every pod prints ten alerts a second, and a read_committed consumer takes the time
at which each arrives. The longest silence of a pod, from the moment of the act on, is its shard's gap.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.chaos.bed import Site
from tests.chaos.crew import Crew, crew, shards_of
from tests.chaos.load import SHARDS, Kind, shard_of
from tests.testbed.apiserver import KubeApiServer
from tests.testbed.client import KubeApi
from tests.testbed.cluster import FalcoCluster
from tests.testbed.kafka import Kafka
from tests.testbed.kubelet import Kubelet

_EVERY_SECONDS = 0.1
_BEFORE_SECONDS, _AFTER_SECONDS = 3.0, 18.0


class Silences:
    """The longest silence of each pod since the act, as a consumer knows it."""

    def __init__(self, made: Crew) -> None:
        self._made = made
        self._last: dict[str, float] = {}
        self._newest: dict[str, int] = {}
        self.longest: dict[str, float] = {}

    async def watch(self) -> None:
        while True:
            now = time.monotonic()
            for uid, newest in self._made.watch.newest_ns.items():
                self.longest[uid] = max(self.longest.get(uid, 0.0), now - self._last.get(uid, now))
                if newest != self._newest.get(uid):
                    self._newest[uid], self._last[uid] = newest, now
            await asyncio.sleep(0.005)


async def measure(
    made: Crew, victim: int, act: Callable[[], Awaitable[object]], seconds: float = _AFTER_SECONDS
) -> tuple[list[float], list[float]]:
    """The gaps of the pods whose shard was the victim's or has moved, and those of the others, in seconds."""
    before = owners(made)
    silences = Silences(made)

    async def print_evenly() -> None:
        while True:
            for pod in made.pods:
                made.printer.print(pod, 1, Kind.ALERT)
            await asyncio.sleep(_EVERY_SECONDS)

    tasks = [asyncio.create_task(print_evenly()), asyncio.create_task(silences.watch())]
    try:
        await asyncio.sleep(_BEFORE_SECONDS)
        silences.longest.clear()
        await act()
        await asyncio.sleep(seconds)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    after = owners(made)
    moved: list[float] = []
    stayed: list[float] = []
    for pod in made.pods:
        owner, shard = before.get(shard_of(pod.uid)), shard_of(pod.uid)
        undisturbed = owner == after.get(shard) and owner != victim
        (stayed if undisturbed else moved).append(silences.longest[pod.uid])
    return sorted(moved), sorted(stayed)


def owners(made: Crew) -> dict[int, int]:
    """Which worker has which shard, by what the workers that are awake were told."""
    return {shard: index for index in made.awake for shard in shards_of(made.workers[index])}


async def settled(made: Crew, seconds: float = 40.0) -> None:
    """Wait until the workers that are awake share all shards among them and have caught up."""
    deadline = time.monotonic() + seconds
    while len(owners(made)) != SHARDS:
        assert time.monotonic() < deadline, "the shards are not shared out"
        await asyncio.sleep(0.1)
    await made.arrive(seconds)


@asynccontextmanager
async def own_site(folder: Path) -> AsyncIterator[Site]:
    """Servers of one's own."""
    async with AsyncExitStack() as stack:
        server, kafka = KubeApiServer(), Kafka()
        stack.callback(server.close)
        stack.callback(kafka.close)
        kubelet = Kubelet(server.authority)
        stack.callback(kubelet.close)
        await asyncio.gather(*(asyncio.to_thread(part.start) for part in (server, kafka, kubelet)))
        admin = await stack.enter_async_context(KubeApi(server.kubeconfig))
        cluster = await stack.enter_async_context(FalcoCluster(admin, kubelet))
        site = Site(folder, cluster, server.kubeconfig, kafka.bootstrap, kafka.bootstrap)
        site.name = f"takeover-{uuid.uuid4().hex[:8]}"
        await site.create_topics()
        yield site


async def main() -> None:
    """Print one line an act: the gaps of moved and of other shards, median and longest."""
    with TemporaryDirectory() as folder:
        async with own_site(Path(folder)) as site, crew(site, 4) as made:
            for worker in made.workers[:3]:
                await worker.start()
            await settled(made)
            third, fourth = made.workers[2], made.workers[3]

            async def restart() -> None:
                await third.kill()
                await third.start()

            async def freeze() -> None:
                await asyncio.to_thread(third.process.freeze)
                made.frozen.add(2)

            async def resume() -> None:
                third.process.resume()
                made.frozen.discard(2)

            acts: list[tuple[str, int, Callable[[], Awaitable[object]]]] = [
                ("SIGKILL", 2, third.kill),
                ("a worker joins", 2, third.start),
                ("SIGTERM", 2, third.stop),
                ("a worker joins", 2, third.start),
                ("SIGKILL and restart under the same name", 2, restart),
                ("SIGSTOP", 2, freeze),
                ("its return", 2, resume),
                ("a fourth worker joins", 3, fourth.start),
            ]
            for name, victim, act in acts:
                await settled(made)
                moved, stayed = await measure(made, victim, act)
                print(f"{name:42} moved {_shown(moved)}  others {_shown(stayed)}", flush=True)  # noqa: T201
            verdict = await made.finish()
            print(*(verdict.violations or ["nothing lost, nothing doubled"]), sep="\n")  # noqa: T201


def _shown(gaps: list[float]) -> str:
    return f"{gaps[len(gaps) // 2]:5.2f} {gaps[-1]:5.2f} ({len(gaps)})" if gaps else "-           "


if __name__ == "__main__":
    asyncio.run(main())
