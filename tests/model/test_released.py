"""A pod that loses its label and has it again while its follower is on its way out."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest import mock

from streamer.source.podset import PodChange
from tests.model.run import Plan, Run, scaled
from tests.model.worker import Line
from tests.unit.flow.virtual_time import VirtualTimeLoop


async def _written_after_its_return() -> list[bytes]:
    course = Run(Plan(()))
    server, worker = course.server, await course.begin()
    await asyncio.sleep(5.0)
    (found,) = server.targets.present.values()
    ask = server.pod

    async def pod(namespace: str, name: str) -> dict[str, Any]:
        """The label comes back when the fleet has seen the pod alive, and has not yet seen its follower end."""
        asyncio.get_running_loop().call_soon(worker.take, PodChange(found, present=True))
        return await ask(namespace, name)

    with mock.patch.object(server, "pod", pod):
        server.set_label(("falco", "falco-a"), there=False)
        await asyncio.sleep(1.0)
    course.banner()
    await asyncio.sleep(5.0)
    await worker.die(None)
    (output,) = course.committed.output.values()
    return [item.raw.rpartition(b" ")[2] for item in output if isinstance(item, Line)]


def test_a_pod_that_is_wanted_again_while_it_is_released_is_followed_on() -> None:
    with scaled(Plan(())), asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        assert runner.run(_written_after_its_return()) == [b"1", b"2"]
