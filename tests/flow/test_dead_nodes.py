"""What cannot answer, or answers with something else, costs the pods of others nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path

from streamer.simulator import Cluster, SimulatedApiServer
from tests.flow.following import HASTY, Recorder, following, numbered


async def test_a_new_pod_is_read_at_once_although_many_nodes_hang(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path
) -> None:
    """With one queue for all requests it took a minute: each hung request kept its slot for 30 s."""
    for n in range(150):
        cluster.append(cluster.add_pod("falco", f"dead-{n}", node=f"dead-{n}"), *numbered(0, 1))
    hung = server.faults.hold("/pods/dead-[0-9]+/log")
    recorder = Recorder()
    async with following(server, recorder, tmp_path):
        async with asyncio.timeout(20):
            while hung.struck < 100:  # noqa: ASYNC110  # the simulated server has no event for that
                await asyncio.sleep(0.02)
        cluster.append(cluster.add_pod("falco", "falco-new", node="well"), *numbered(0, 10))
        await recorder.until_read("falco-new", numbered(0, 10), seconds=5)
        assert sum(map(len, recorder.lines.values())) == 10
        server.faults.clear()
        await recorder.until(lambda: sum(map(len, recorder.lines.values())) == 160, seconds=20)


async def test_a_pod_request_that_is_answered_with_something_else_ends_nothing(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path
) -> None:
    pod, other = cluster.add_pod("falco", "falco-a"), cluster.add_pod("falco", "falco-b")
    cluster.append(pod, *numbered(0, 10))
    cluster.append(other, *numbered(0, 10))
    recorder = Recorder()
    async with following(server, recorder, tmp_path, patience=HASTY):
        await recorder.until_read("falco-a", numbered(0, 10))
        await recorder.until_read("falco-b", numbered(0, 10))
        empty = server.faults.answer(r"/pods/falco-a($|\?)", 200, body=b"{}", content_type="application/json")
        cluster.set_label(pod, "app.kubernetes.io/name", None)  # it is asked for whether it is gone
        async with asyncio.timeout(10):
            while not empty.struck:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        cluster.append(other, *numbered(10, 20))
        await recorder.until_read("falco-b", numbered(0, 20))
