"""The end of a node's outage: one of its targets looks for it every second, whoever has waited before."""

from __future__ import annotations

import asyncio
from itertools import pairwise

from streamer.source.recovery import Recovery
from tests.unit.flow.virtual_time import in_virtual_time


@in_virtual_time
async def test_somebody_looks_every_second_as_long_as_many_wait() -> None:
    node = Recovery().of("node-1")
    clock = asyncio.get_running_loop().time
    tries: list[float] = []

    async def retry(name: str) -> None:
        while True:
            node.failed()
            tries.append(clock())
            with node.waiting(name, lambda: None, 15.0, 60.0) as seconds:
                await asyncio.sleep(seconds)

    began_at = clock()
    tasks = [asyncio.create_task(retry(f"pod-{n}")) for n in range(5)]
    await asyncio.sleep(20.0)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    times = [began_at, *tries, began_at + 20.0]
    assert max(later - earlier for earlier, later in pairwise(times)) <= 1.0
    assert len(tries) <= 40  # and not each of them


@in_virtual_time
async def test_another_leads_once_the_leader_is_gone() -> None:
    node = Recovery().of("node-1")
    node.failed()
    with (
        node.waiting("a", lambda: None, 15.0, 60.0) as first,
        node.waiting("b", lambda: None, 15.0, 60.0) as second,
    ):
        assert (first, second) == (1.0, 15.0)
    await asyncio.sleep(1.0)  # "a" has left
    with node.waiting("b", lambda: None, 15.0, 60.0) as seconds:
        assert seconds == 1.0
