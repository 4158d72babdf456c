"""Pods of a real node that are deleted: what the open streams have brought by then is all there is."""

from __future__ import annotations

import asyncio
import os

import pytest

from tests.node.stage import Stage
from tests.testbed.node_cluster import NodePod

pytestmark = [pytest.mark.real, pytest.mark.node]

# By hand, for longer: NODE_ROLLOUTS=12 pytest -m node tests/node/test_deletion.py
ROLLOUTS = int(os.environ.get("NODE_ROLLOUTS", "2"))
PODS = 8
QUIET_SECONDS = 2.0


@pytest.mark.timeout(60 + 60 * ROLLOUTS)
@pytest.mark.parametrize("grace_seconds", [None, 0], ids=["with-grace", "without-grace"])
async def test_a_rollout_of_quiet_pods_raises_no_gap(stage: Stage, grace_seconds: int | None) -> None:
    """Without grace the pod objects go first, and their containers end after that."""
    pods = await _printed(stage, 0)
    for rollout in range(1, ROLLOUTS + 1):
        await stage.until_quiet(QUIET_SECONDS, *pods)
        await asyncio.gather(*(pod.delete(grace_seconds=grace_seconds) for pod in pods))
        gone, pods = pods, await _printed(stage, rollout)
        await asyncio.gather(*(pod.until_gone() for pod in gone))
        await stage.until_released(*gone)
    found = await stage.finish()
    assert found.exact, found
    assert found.published == found.written == (ROLLOUTS + 1) * PODS * 20
    assert found.gaps == [], f"{len(found.gaps)} of {ROLLOUTS * PODS} pods: {found}"


async def _printed(stage: Stage, rollout: int) -> list[NodePod]:
    names = [f"falco-{rollout}-{number}" for number in range(PODS)]
    pods = await asyncio.gather(*(stage.cluster.add_pod(name, "-count=20") for name in names))
    await asyncio.gather(*(pod.until_written(20) for pod in pods))
    await stage.until_published(*pods)
    return pods


async def test_a_last_line_without_a_newline_that_the_stream_brought_is_published(stage: Stage) -> None:
    """The runtime writes what it has of a line when the container ends; a stream of our own shows what comes."""
    pods = [
        await stage.cluster.add_pod(f"falco-{number}", "-count=20", "-unfinished") for number in range(PODS)
    ]
    await asyncio.gather(*(pod.until_written(20) for pod in pods))
    await stage.until_published(*pods)
    await stage.until_quiet(QUIET_SECONDS, *pods)
    async with asyncio.TaskGroup() as tasks:
        brought = [tasks.create_task(_followed(stage, pod)) for pod in pods]
        await asyncio.gather(*(pod.delete() for pod in pods))
    await asyncio.gather(*(pod.until_gone() for pod in pods))
    await stage.until_released(*pods)
    found = await stage.finish()
    assert found.exact, found
    last = sum(each.result() for each in brought)
    assert last > 0
    assert found.published >= PODS * 20 + last, f"{len(found.missing)} of {PODS} last lines: {found}"


async def _followed(stage: Stage, pod: NodePod) -> bool:
    """Whether a stream that is open when a pod is deleted brings its last line."""
    async with stage.cluster.api.open_log(pod.namespace, pod.name, follow="true", tailLines="1") as answer:
        return pod.written()[-1].text in await answer.read()


async def test_a_pod_that_is_deleted_right_after_a_rotation_raises_no_gap(stage: Stage) -> None:
    """Its last file is empty: nothing was written after the rotation."""
    names = [f"falco-{number}" for number in range(4)]
    pods = [await stage.cluster.add_pod(name, "-count=1200", "-bytes=1000", "-rate=1200") for name in names]
    await asyncio.gather(*(pod.until_written(1200) for pod in pods))
    await asyncio.gather(*(pod.until_rotated() for pod in pods))
    await stage.until_published(*pods)
    await asyncio.gather(*(pod.delete() for pod in pods))
    await asyncio.gather(*(pod.until_gone() for pod in pods))
    await stage.until_released(*pods)
    found = await stage.finish()
    assert found.exact, found
    assert found.published == found.written == 4 * 1200
    assert found.gaps == [], f"{len(found.gaps)} of 4 pods: {found}"


async def test_a_pod_that_comes_again_under_its_name_is_another_one(stage: Stage) -> None:
    """As a StatefulSet's or a static pod does: the old one is busy until it ends."""
    for _ in range(4):
        pod = await stage.cluster.add_pod("falco", "-rate=200")
        await pod.until_written(200)
        await pod.delete()
        await pod.until_gone()
    await stage.until_released(*stage.cluster.pods)
    found = await stage.finish()
    assert found.exact, found
    assert found.written >= 4 * 200
    assert len(found.missing) < 0.1 * found.written, found


async def test_a_drained_node_s_busy_pods_are_read_to_their_end(stage: Stage) -> None:
    """All are evicted at once, as `kubectl drain` does."""
    names = [f"falco-{number}" for number in range(6)]
    pods = await asyncio.gather(*(stage.cluster.add_pod(name, "-rate=200") for name in names))
    await asyncio.gather(*(pod.until_written(300) for pod in pods))
    await asyncio.gather(*(pod.evict() for pod in pods))
    await asyncio.gather(*(pod.until_gone() for pod in pods))
    await stage.until_released(*pods)
    found = await stage.finish()
    assert found.exact, found
    assert found.written >= 6 * 300
    assert len(found.missing) < 0.1 * found.written, found
