"""Parts of a real node, its API server and workers that end and come back, while pods print."""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import Callable, Sequence
from time import time_ns

import pytest

from tests.node.findings import Findings
from tests.node.stage import Stage
from tests.testbed.node_cluster import NodePod
from tests.testbed.node_machine import without_inotify_instances

pytestmark = [pytest.mark.real, pytest.mark.node]

RATE = 400
"""Lines per second and pod, of 400 bytes by default: a log is rotated every 7 s or so."""
LARGE = "-bytes=1000"
"""With these it is rotated whenever the kubelet looks, every 3 s: who comes late has lost lines."""
SECOND_NS = 1_000_000_000
BURST = 20
"""So many steps of a target may follow each other at once; then there is one a second."""
IN_TIME_NS = 2 * SECOND_NS
"""After so long logs are read again: a second, and one more for a busy machine."""


async def test_after_a_crash_of_the_kubelet_logs_are_read_again_at_once(stage: Stage) -> None:
    """What was written while it was down may be rotated away at its start: its log manager looks at once."""
    node = stage.node
    pods = await _printing(stage, LARGE)
    await asyncio.to_thread(node.kill_kubelet)
    found = await _after_an_outage(stage, pods, 5, node.start_kubelet)
    assert found.late == [], found


async def test_a_containerd_that_is_killed_costs_nothing(stage: Stage) -> None:
    """Pods that print wait for it: it writes their logs."""
    node = stage.node
    pods = await _printing(stage)
    await asyncio.to_thread(node.kill_containerd)
    await asyncio.to_thread(node.start_containerd)
    await _print_on(pods, 5)
    found = await stage.finish()
    assert found.exact, found
    assert found.missing == [], found


async def test_after_an_outage_of_the_api_server_logs_are_read_again_at_once(stage: Stage) -> None:
    node = stage.node
    pods = await _printing(stage, LARGE)
    await asyncio.to_thread(node.server.kill)
    try:
        found = await _after_an_outage(stage, pods, 15, node.server.start)
    finally:  # a kubelet that was running takes up to 30 s to find that the API server is back
        await asyncio.to_thread(node.kill_kubelet)
        await asyncio.to_thread(node.start_kubelet)
    assert found.late == [], found


async def test_workers_that_are_killed_again_and_again_publish_every_line_once(stage: Stage) -> None:
    """The pods are slow: no log is rotated twice while nobody reads it."""
    await stage.add_worker()
    await _printing(stage, "-rate=50")
    for number in range(3):
        worker = stage.workers[number % 2]
        await worker.stop(signal.SIGKILL)
        await worker.start()
        await stage.until_ready(worker)
        await stage.until_more(100)
    found = await stage.finish()
    assert found.exact, found
    assert found.missing == [], found


async def test_a_previous_container_that_is_removed_does_not_keep_the_next_from_being_read(
    stage: Stage,
) -> None:
    """The kubelet's garbage collection comes between the start of the next instance and our question."""
    (pod,) = await _printing(stage, LARGE, pods=1)
    (worker,) = stage.workers
    worker.send(signal.SIGSTOP)
    await pod.kill()
    await pod.until_running(1)
    assert await asyncio.to_thread(stage.node.collect_garbage, pod.uid) == [0]
    worker.send(signal.SIGCONT)
    await _print_on([pod], 8)
    found = await stage.finish()
    assert found.exact, found
    unread = [line for line in found.missing if line.instance == 1]
    assert unread == [], f"{len(unread)} lines of the next instance: {found}"


async def test_a_node_without_inotify_instances_leads_to_no_request_loop(stage: Stage) -> None:
    """Each follow request then brings what there is, and ends with an error text."""
    seconds, count, rate = 10, 4, 50  # slow: no log is rotated twice between two requests
    pods = await _printing(stage, f"-rate={rate}", pods=count)
    (worker,) = stage.workers
    await worker.stop(signal.SIGKILL)
    with without_inotify_instances():
        before = await _log_requests(stage)
        await worker.start()
        await stage.until_ready(worker)
        while await _log_requests(stage) < before + count * BURST:
            await _print_on(pods, 1, rate)
        before = await _log_requests(stage)
        await _print_on(pods, seconds, rate)
        made = await _log_requests(stage) - before
    assert count * seconds / 8 < made <= count * (seconds + 3), f"{made} requests for {count} pods"
    await _print_on(pods, 3, rate)
    found = await stage.finish()
    assert found.exact, found
    assert found.missing == [], found


async def _log_requests(stage: Stage) -> int:
    """How many requests for logs the API server has answered to their end."""
    text = await stage.cluster.api.text("/metrics")
    counts = re.findall(r'^apiserver_request_total\{.*subresource="log".*\} (\S+)$', text, re.MULTILINE)
    return int(sum(map(float, counts)))


async def _printing(stage: Stage, *changed: str, pods: int = 2) -> list[NodePod]:
    """Pods that print without an end, and are read."""
    arguments = [f"-rate={RATE}", "-bytes=400", *changed]
    made = [await stage.cluster.add_pod(f"falco-{number}", *arguments) for number in range(pods)]
    await stage.until_more(100)
    return made


async def _print_on(pods: Sequence[NodePod], seconds: int, rate: int = RATE) -> None:
    """Wait until pods have printed for so long, by their own account."""
    await asyncio.gather(*(pod.until_written(pod.records + seconds * rate) for pod in pods))


async def _after_an_outage(
    stage: Stage, pods: Sequence[NodePod], seconds: int, start: Callable[[], None]
) -> Findings:
    """End an outage after so long, and compare once the pods have printed for as long as a slow reader may take."""
    began_ns = time_ns()
    await _print_on(pods, seconds)
    await asyncio.to_thread(start)
    back_ns = time_ns()
    await _print_on(pods, 8)
    found = await stage.finish(late_ns=back_ns + IN_TIME_NS)
    for pod in pods:
        print(f"{pod.name}: {_out_of_reach(pod, began_ns, back_ns)} lines were out of reach")  # noqa: T201
    assert found.exact, found
    return found


def _out_of_reach(pod: NodePod, began_ns: int, back_ns: int) -> int:
    """How many lines of an outage were rotated away by half a second after it: no reader is to blame for these."""
    lines = pod.written()
    current = next(line.file for line in lines if line.at_ns > back_ns + SECOND_NS // 2)
    return sum(line.file < current for line in lines if began_ns < line.at_ns < back_ns)
