"""What cannot answer, or answers with something else, costs the pods of others nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path

from streamer.simulator import Cluster, SimulatedApiServer
from streamer.simulator.status import ApiError as Refusal
from streamer.telemetry.status import TargetStatus
from tests.flow.following import HASTY, Recorder, eventually, following, numbered


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


async def test_the_status_has_the_cause_of_what_is_not_read_until_it_is(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path
) -> None:
    dead, well = cluster.add_pod("falco", "falco-dead"), cluster.add_pod("falco", "falco-well")
    for pod in (dead, well):
        cluster.append(pod, *numbered(0, 1))
    message = "dial tcp 10.0.0.7:10250: connect: no route to host"
    server.faults.refuse("/pods/falco-dead/log", Refusal(500, message), times=1_000_000)
    recorder = Recorder()
    async with following(server, recorder, tmp_path, patience=HASTY) as fleet:

        def status(name: str) -> TargetStatus | None:
            return next((one for one in fleet.status(0) if one.target.pod == name), None)

        await eventually(lambda: (found := status("falco-dead")) is not None and bool(found.cause))
        found = status("falco-dead")
        assert found is not None
        assert found.cause == f"HTTP 500: {message}"
        assert not found.opened
        await recorder.until_read("falco-well", numbered(0, 1))
        await eventually(lambda: (found := status("falco-well")) is not None and found.opened)
        found = status("falco-well")
        assert found is not None
        assert found.cause == ""
        server.faults.clear()
        await recorder.until_read("falco-dead", numbered(0, 1))
        await eventually(lambda: (found := status("falco-dead")) is not None and found.opened)
        found = status("falco-dead")
        assert found is not None
        assert found.cause == ""


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


async def test_lines_are_read_while_a_check_of_their_stream_waits(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path
) -> None:
    """Where checks have to queue, or hang, lines would otherwise wait as long."""
    pod = cluster.add_pod("falco", "falco-a")
    cluster.append(pod, *numbered(0, 10))
    hung = server.faults.hold(r"/pods/falco-a/log\?(?!.*follow=true)")
    recorder = Recorder()
    async with following(server, recorder, tmp_path):
        await recorder.until_read("falco-a", numbered(0, 10))
        await eventually(lambda: hung.struck > 0)
        cluster.append(pod, *numbered(10, 20))
        await recorder.until_read("falco-a", numbered(0, 20), seconds=3)
        assert hung.struck == 1
        await eventually(lambda: hung.struck > 1)  # it is checked again
        server.faults.clear()
