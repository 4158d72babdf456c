"""What a container's end costs: a log of any size is not read whole for it."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from streamer.simulator import Cluster, SimulatedApiServer
from streamer.simulator.faults import RequestFault
from streamer.telemetry.status import StreamState
from tests.flow.following import HASTY, Recorder, eventually, following, numbered

WHOLE: Final = r"^(?!.*(tailLines|sinceTime|follow)).*/log"
REMOVED: Final = b"unable to retrieve container logs for containerd://0123"
LINES: Final = 10_000  # more than the longer tail


def _refuse_whole_reads(server: SimulatedApiServer) -> RequestFault:
    return server.faults.answer(WHOLE, 500, times=1000)


async def test_a_deletion_reads_no_log_whole(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path
) -> None:
    pod = cluster.add_pod("falco", "falco-a")
    cluster.append(pod, *numbered(0, LINES))
    whole = _refuse_whole_reads(server)
    recorder = Recorder()
    async with following(server, recorder, tmp_path, patience=HASTY) as fleet:
        await recorder.until_read("falco-a", numbered(0, LINES))
        cluster.begin_deletion(pod)
        cluster.terminate(pod)
        await eventually(lambda: fleet.status(0)[0].state is StreamState.ENDED)
        cluster.remove_pod(pod)
        await recorder.until_done("falco-a")
    assert not whole.struck
    assert recorder.gaps == []


@pytest.mark.parametrize("missed", [0, 3], ids=["all was read", "lines were missed"])
async def test_a_crash_and_a_restart_read_no_log_whole(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path, missed: int
) -> None:
    pod = cluster.add_pod("falco", "falco-a")
    cluster.append(pod, *numbered(0, LINES))
    whole = _refuse_whole_reads(server)
    stall = server.faults.stall_log("falco-a", after_bytes=None)
    recorder = Recorder()
    async with following(server, recorder, tmp_path, patience=HASTY) as fleet:
        await recorder.until_read("falco-a", numbered(0, LINES))
        await eventually(lambda: stall.struck)
        cluster.append(pod, *numbered(LINES, LINES + missed))
        cluster.crash(pod)
        server.cut("/log.*follow")
        await recorder.until_read("falco-a", numbered(0, LINES + missed))
        await eventually(lambda: fleet.status(0)[0].state is not StreamState.FOLLOWING)
        cluster.start_container(pod)
        cluster.append(pod, *numbered(LINES + missed, LINES + missed + 5))
        await recorder.until_read("falco-a", numbered(0, LINES + missed + 5))
    assert not whole.struck
    assert recorder.gaps == []


async def test_the_last_line_of_an_instance_whose_log_was_removed_is_what_its_stream_brought(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path
) -> None:
    """In a crash loop with short lives, the next instance's end removes this one's log."""
    pod = cluster.add_pod("falco", "falco-a")
    cluster.append(pod, *numbered(0, 5))
    recorder = Recorder()
    calm = replace(HASTY, quiet_seconds=0.5, probe_seconds=60.0)
    async with following(server, recorder, tmp_path, patience=calm):
        await recorder.until_read("falco-a", numbered(0, 5))
        await eventually(lambda: server.log_opens["falco", "falco-a"] == 2)  # the stream, and a comparison
        removed = server.faults.answer("/log.*previous=true", 200, times=1000, body=REMOVED)
        cluster.log(pod).append_partial(b"the last", cluster.clock_ns())
        cluster.restart_container(pod)
        cluster.append(pod, b"next")
        await recorder.until_read("falco-a", [*numbered(0, 5), b"the last", b"next"])
    assert removed.struck
    assert recorder.gaps == []


async def test_a_pod_that_leaves_while_its_log_is_looked_at_is_done_at_once(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path
) -> None:
    """The report that it left comes once, and before there is nothing more to read."""
    pod = cluster.add_pod("falco", "falco-a")
    recorder = Recorder()
    async with following(server, recorder, tmp_path):
        cluster.append(pod, *numbered(0, 5))
        await recorder.until_read("falco-a", numbered(0, 5))
        await eventually(lambda: server.log_opens["falco", "falco-a"] == 2)  # the stream, and a comparison
        look = server.faults.answer("/log.*sinceTime", 200, body=REMOVED)
        look.gate = asyncio.Event()
        cluster.begin_deletion(pod)
        cluster.terminate(pod)
        await eventually(lambda: bool(look.struck))
        cluster.remove_pod(pod)
        cluster.append(cluster.add_pod("falco", "falco-b"), b"one")
        await recorder.until_read("falco-b", [b"one"])  # the watch is past the removal
        look.gate.set()
        await recorder.until_done("falco-a")
    assert recorder.gaps == []


async def test_an_empty_file_after_a_rotation_counts_as_compared_soon_after_the_last_line(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path
) -> None:
    """A log is not rotated twice within so few seconds: what was rotated away ended with the last line taken."""
    pod = cluster.add_pod("falco", "falco-a")
    cluster.append(pod, *numbered(0, 5))
    recorder = Recorder()
    calm = replace(HASTY, probe_seconds=60.0, lively_seconds=0.0)
    async with following(server, recorder, tmp_path, patience=calm):
        await recorder.until_read("falco-a", numbered(0, 5))
        await eventually(lambda: server.log_opens["falco", "falco-a"] == 2)  # the stream, and a comparison
        cluster.append(pod, *numbered(5, 9))
        await recorder.until_read("falco-a", numbered(0, 9))
        cluster.rotate(pod)
        cluster.begin_deletion(pod)
        await eventually(lambda: server.log_opens["falco", "falco-a"] > 2)
        server.faults.answer("/log", 200, times=1000, body=REMOVED)
        cluster.terminate(pod)
        cluster.remove_pod(pod)
        await recorder.until_done("falco-a")
    assert recorder.gaps == []


async def test_a_stream_that_ended_before_the_status_showed_it_ended_with_its_container(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path
) -> None:
    """Another stream of the empty file would show nothing of what was read before."""
    pod = cluster.add_pod("falco", "falco-a")
    cluster.append(pod, *numbered(0, 5))
    server.faults.stall_log("falco-a", after_bytes=None)
    recorder = Recorder()
    calm = replace(HASTY, probe_seconds=60.0, lively_seconds=0.0)
    async with following(server, recorder, tmp_path, patience=calm) as fleet:
        await recorder.until_read("falco-a", numbered(0, 5))
        await eventually(lambda: server.log_opens["falco", "falco-a"] == 2)  # the stream, and a comparison
        cluster.rotate(pod)
        requested = server.requests["get"]
        assert server.cut("/log.*follow") == 1
        await eventually(lambda: server.requests["get"] > requested)  # the container runs, says the status
        cluster.clock_ns = lambda: time.time_ns() - 1_000_000_000
        cluster.begin_deletion(pod)
        cluster.terminate(pod)
        await eventually(lambda: fleet.status(0)[0].state is StreamState.ENDED)
        cluster.remove_pod(pod)
        await recorder.until_done("falco-a")
    assert recorder.gaps == []


async def test_a_stream_in_doubt_is_believed_again_once_it_has_brought_what_the_log_had(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path
) -> None:
    pod = cluster.add_pod("falco", "falco-a")
    cluster.append(pod, *numbered(0, 10))
    recorder = Recorder()
    probe = server.faults.hold("tailLines=16", times=1)
    calm = replace(HASTY, quiet_seconds=0.5, stalled_seconds=5.0)
    async with following(server, recorder, tmp_path, patience=calm):
        await recorder.until_read("falco-a", numbered(0, 10))
        await eventually(lambda: probe.struck == 1)
        cluster.append(pod, *numbered(10, 20))  # the log's end has them before the stream is read on
        assert probe.gate is not None
        probe.gate.set()
        await recorder.until_read("falco-a", numbered(0, 20))
        cluster.begin_deletion(pod)
        cluster.append(pod, *numbered(20, 21))
        cluster.terminate(pod)
        cluster.remove_pod(pod)
        await recorder.until_read("falco-a", numbered(0, 21))
        await recorder.until_done("falco-a")
    assert recorder.gaps == []


async def test_a_container_that_ends_during_a_check_is_checked_once_more(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path
) -> None:
    """Else the log, which is removed with its container, is never compared, and a needless gap is reported."""
    pod = cluster.add_pod("falco", "falco-a")
    cluster.append(pod, *numbered(0, 5))
    server.faults.stall_log("falco-a", after_bytes=None)
    held = server.faults.hold(r"/pods/falco-a/log\?(?!.*follow=true)")
    recorder = Recorder()
    calm = replace(HASTY, probe_seconds=60.0)
    async with following(server, recorder, tmp_path, patience=calm) as fleet:
        await recorder.until_read("falco-a", numbered(0, 5))
        await eventually(lambda: held.struck > 0)
        cluster.begin_deletion(pod)
        cluster.terminate(pod)
        await eventually(lambda: not fleet.status(0)[0].running)
        checks = server.log_opens["falco", "falco-a"]
        server.faults.clear()
        await eventually(lambda: server.log_opens["falco", "falco-a"] >= checks + 2)
