"""Pods of a real node that print, crash and are rotated, with nothing else going wrong."""

from __future__ import annotations

import asyncio

import pytest

from tests.node.stage import Stage

pytestmark = [pytest.mark.real, pytest.mark.node]


async def test_a_log_that_is_rotated_while_it_is_followed_is_read_whole(stage: Stage) -> None:
    arguments = ["-rate=400", "-bytes=1000", "-count=6000"]
    pods = [await stage.cluster.add_pod(f"falco-{number}", *arguments) for number in range(2)]
    await asyncio.gather(*(pod.until_written(6000) for pod in pods))
    assert all(stage.node.keeper.files(pod.uid) >= 3 for pod in pods)
    found = await stage.finish()
    assert found.exact, found
    assert found.written == found.published == 12_000
    assert found.gaps == []


async def test_each_instance_of_a_crash_loop_is_read_to_its_last_line(stage: Stage) -> None:
    """Half of them end in the middle of a line: an alert without its newline.

    They live for 2.5 s: the end of the next instance removes the log of this one.
    """
    count = 500
    arguments = [f"-count={count}", "-rate=200", "-then=crash"]
    pods = [
        await stage.cluster.add_pod(f"falco-{number}", *arguments, *["-unfinished"][: number % 2])
        for number in range(6)
    ]
    await asyncio.gather(*(pod.until_running(4) for pod in pods))
    found = await stage.finish()
    assert found.exact, found
    assert found.written >= 6 * 4 * count
    assert found.missing == []
    assert found.gaps == []


async def test_a_line_of_stderr_inside_a_long_line_breaks_that_line_only(stage: Stage) -> None:
    """containerd writes both streams into one file, record by record; the log API joins what stands there."""
    arguments = ["-count=200", "-rate=50", "-bytes=40000", "-stderr=10"]
    pods = [await stage.cluster.add_pod(f"falco-{number}", *arguments) for number in range(2)]
    await asyncio.gather(*(pod.until_written(3 * 200 + 20) for pod in pods))
    found = await stage.finish()
    assert found.exact, found
    assert found.gaps == []
    assert found.broken > 0
    assert found.published == 2 * 200 - found.broken
    assert found.dead_letters > found.broken  # two pieces of each, until their limit


async def test_a_native_sidecar_is_read_through_its_crashes_and_to_its_end(stage: Stage) -> None:
    """Its status is among those of init containers, and it ends after the pod's own container."""
    count = 500
    arguments = [f"-count={count}", "-rate=200", "-then=crash"]
    pods = [await stage.cluster.add_pod(f"app-{number}", *arguments, sidecar=True) for number in range(2)]
    await asyncio.gather(*(pod.until_running(2) for pod in pods))
    found = await stage.finish()
    assert found.exact, found
    assert found.written >= 2 * 2 * count
    assert found.missing == []
    assert found.gaps == []
