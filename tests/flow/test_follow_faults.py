"""Followers where the API, the kubelet or the clock does its worst: nothing lost, nothing twice, holes said."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from streamer.model import GapReason
from streamer.simulator import Cluster, SimulatedApiServer
from streamer.source.patience import Patience
from tests.flow.following import HASTY, Recorder, eventually, following, numbered

NOON = 1_790_000_000_000_000_000
SECOND = 1_000_000_000


async def test_a_stream_that_stalls_is_found_out(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path
) -> None:
    pod = cluster.add_pod("falco", "falco-a")
    cluster.append(pod, *numbered(0, 100))
    stall = server.faults.stall_log("falco-a", after_bytes=None)
    recorder = Recorder()
    async with following(server, recorder, tmp_path, patience=HASTY):
        await recorder.until_read("falco-a", numbered(0, 100))
        cluster.append(pod, *numbered(100, 110))
        await recorder.until_read("falco-a", numbered(0, 110))
    assert stall.struck
    assert recorder.gaps == []


async def test_a_stream_that_fell_silent_at_a_rotation_is_found_out(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path
) -> None:
    pod = cluster.add_pod("falco", "falco-a")
    cluster.append(pod, *numbered(0, 100))
    stall = server.faults.stall_log("falco-a", after_bytes=None)
    recorder = Recorder()
    async with following(server, recorder, tmp_path, patience=HASTY):
        await recorder.until_read("falco-a", numbered(0, 100))
        cluster.rotate(pod)
        await recorder.until(lambda: stall.struck)
        cluster.append(pod, *numbered(100, 110))
        await recorder.until_read("falco-a", numbered(0, 110))
    assert [(gap.reason, gap.certain) for gap in recorder.gaps] == [(GapReason.ROTATION_UNSEEN, False)]


async def test_a_file_that_is_sent_twice_is_taken_once_and_the_one_left_out_is_a_gap(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path
) -> None:
    pod = cluster.add_pod("falco", "falco-a")
    server.faults.rotation_bugs = True
    cluster.append(pod, *numbered(0, 10), time_ns=NOON)
    recorder = Recorder()
    slow = Patience(quiet_seconds=0.05, stalled_seconds=0.1, behind_seconds=0.0)
    async with following(server, recorder, tmp_path, patience=slow):
        await recorder.until_read("falco-a", numbered(0, 10))
        # Two rotations before the reader looks: it takes the last file twice, and the middle one never.
        cluster.append(pod, *numbered(10, 12), time_ns=NOON + 10 * SECOND)
        cluster.rotate(pod)
        cluster.append(pod, *numbered(12, 20), time_ns=NOON + 20 * SECOND)
        cluster.rotate(pod)
        cluster.append(pod, *numbered(20, 30), time_ns=NOON + 30 * SECOND)
        await recorder.until(lambda: len(recorder.lines["falco-a"]) >= 20)
        cluster.append(pod, *numbered(30, 40), time_ns=NOON + 40 * SECOND)
        await recorder.until(lambda: numbered(39, 40)[0] in recorder.lines["falco-a"])
    lines = recorder.lines["falco-a"]
    assert len(set(lines)) == len(lines)
    missing = set(numbered(0, 40)) - set(lines)
    assert missing <= set(numbered(10, 20))
    assert not missing or recorder.gaps


@pytest.mark.parametrize("step_seconds", [-3600, -20, -1, 3600])
async def test_a_clock_that_is_set_costs_nothing(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path, step_seconds: int
) -> None:
    pod = cluster.add_pod("falco", "falco-a")
    cluster.append(pod, *numbered(0, 100), time_ns=NOON)
    recorder = Recorder()
    async with following(server, recorder, tmp_path, patience=HASTY):
        await recorder.until_read("falco-a", numbered(0, 100))
        cluster.append(pod, *numbered(100, 150), time_ns=NOON + step_seconds * SECOND)
        await recorder.until_read("falco-a", numbered(0, 150))
        server.cut("/log")
        cluster.append(pod, *numbered(150, 200), time_ns=NOON + 2 * step_seconds * SECOND)
        await recorder.until_read("falco-a", numbered(0, 200))
    assert recorder.gaps == []


async def test_lines_out_of_order_are_kept_as_they_stand(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path
) -> None:
    pod = cluster.add_pod("falco", "falco-a")
    recorder = Recorder()
    async with following(server, recorder, tmp_path, patience=HASTY):
        for n in range(40):  # stderr comes up to 400 ms after stdout
            cluster.append(pod, *numbered(n, n + 1), time_ns=NOON + n * SECOND // 5 - (n % 3) * SECOND // 5)
            if n % 10 == 9:
                await recorder.until_read("falco-a", numbered(0, n + 1))
                server.cut("/log")
    assert recorder.lines["falco-a"] == numbered(0, 40)
    assert recorder.gaps == []


async def test_a_last_line_without_a_newline_counts_once_the_container_has_ended(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path
) -> None:
    pod = cluster.add_pod("falco", "falco-a")
    cluster.append(pod, *numbered(0, 5))
    recorder = Recorder()
    async with following(server, recorder, tmp_path, patience=HASTY):
        await recorder.until_read("falco-a", numbered(0, 5))
        cluster.log(pod).append_partial(b"the last", cluster.clock_ns())
        server.cut("/log")  # the container runs: half a line does not count
        cluster.append(cluster.add_pod("falco", "falco-b"), b"one")
        await recorder.until_read("falco-b", [b"one"])
        assert recorder.lines["falco-a"] == numbered(0, 5)
        cluster.terminate(pod)
        await recorder.until_read("falco-a", [*numbered(0, 5), b"the last"])
    async with following(server, recorder, tmp_path, patience=HASTY):
        cluster.start_container(pod)
        cluster.append(pod, b"next")
        await recorder.until_read("falco-a", [*numbered(0, 5), b"the last", b"next"])
    assert recorder.gaps == []


async def test_a_last_line_without_a_newline_is_found_in_the_previous_instance(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path
) -> None:
    pod = cluster.add_pod("falco", "falco-a")
    cluster.append(pod, *numbered(0, 5))
    recorder = Recorder()
    async with following(server, recorder, tmp_path, patience=HASTY):
        await recorder.until_read("falco-a", numbered(0, 5))
    cluster.log(pod).append_partial(b"the last", cluster.clock_ns())
    cluster.restart_container(pod)
    cluster.append(pod, b"next")
    for _ in range(2):
        async with following(server, recorder, tmp_path, patience=HASTY):
            await recorder.until_read("falco-a", [*numbered(0, 5), b"the last", b"next"])
    assert recorder.gaps == []


@pytest.mark.parametrize("in_the_stream", [True, False], ids=["a part", "unterminated"])
async def test_a_last_line_without_a_newline_counts_though_the_log_was_compared_before_its_stream_ended(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path, *, in_the_stream: bool
) -> None:
    pod = cluster.add_pod("falco", "falco-a")
    cluster.append(pod, *numbered(0, 5))
    if in_the_stream:
        cluster.log(pod).append_partial(b"the last", cluster.clock_ns())
    stall = server.faults.stall_log("falco-a", after_bytes=None)
    recorder = Recorder()
    async with following(server, recorder, tmp_path, patience=HASTY):
        await recorder.until_read("falco-a", numbered(0, 5))
        await eventually(lambda: stall.struck)
        if not in_the_stream:
            cluster.log(pod).append_partial(b"the last", cluster.clock_ns())
        asked = server.log_opens["falco", "falco-a"]
        cluster.terminate(pod)
        await eventually(lambda: server.log_opens["falco", "falco-a"] > asked)
        assert server.cut("/log.*follow") == 1
        await recorder.until_read("falco-a", [*numbered(0, 5), b"the last"])
        cluster.delete_pod(pod)
        await recorder.until_done("falco-a")
    assert recorder.gaps == []


@pytest.mark.parametrize("lines", [0, 5])
async def test_a_log_of_nothing_but_a_line_without_a_newline_is_read(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path, lines: int
) -> None:
    pod = cluster.add_pod("falco", "falco-a")
    recorder = Recorder()
    async with following(server, recorder, tmp_path, patience=HASTY):
        if lines:
            cluster.append(pod, *numbered(0, lines))
            await recorder.until_read("falco-a", numbered(0, lines))
            cluster.rotate(pod)
        cluster.log(pod).append_partial(b"the last", cluster.clock_ns())
        cluster.terminate(pod)
        await recorder.until_read("falco-a", [*numbered(0, lines), b"the last"])
        cluster.delete_pod(pod)
        await recorder.until_done("falco-a")
    assert recorder.gaps == []


@pytest.mark.parametrize(
    "text",
    [
        b"failed to create fsnotify watcher: too many open files",
        b"unable to retrieve container logs for containerd://0123",
        b'failed to try resolving symlinks in path "/x": lstat /x: no such file or directory',
    ],
)
async def test_error_text_of_the_kubelet_is_never_a_line(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path, text: bytes
) -> None:
    pod = cluster.add_pod("falco", "falco-a")
    cluster.append(pod, *numbered(0, 100))
    server.faults.text_in_log("falco-a", text, after_bytes=None)
    recorder = Recorder()
    async with following(server, recorder, tmp_path, patience=HASTY):
        await recorder.until_read("falco-a", numbered(0, 100))
        cluster.append(pod, *numbered(100, 110))
        await recorder.until_read("falco-a", numbered(0, 110))
    assert recorder.gaps == []


async def test_an_old_stream_is_replaced_before_it_is_closed(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path
) -> None:
    pod = cluster.add_pod("falco", "falco-a")
    recorder = Recorder()
    patience = Patience(quiet_seconds=0.02, probe_seconds=0.05, renew_seconds=0.1)
    async with following(server, recorder, tmp_path, patience=patience):
        n = 0
        while server.log_opens["falco", "falco-a"] < 30:
            cluster.append(pod, *numbered(n, n + 3))
            n += 3
            await recorder.until_read("falco-a", numbered(0, n))
        await eventually(lambda: sum("/log" in stream.path for stream in server.streams) == 1)
    assert recorder.gaps == []


@pytest.mark.parametrize(
    ("status", "retry_after"), [(401, None), (403, None), (429, 1), (500, None), (503, 1)]
)
async def test_refused_log_requests_are_tried_again(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path, status: int, retry_after: int | None
) -> None:
    pod = cluster.add_pod("falco", "falco-a")
    cluster.append(pod, *numbered(0, 10))
    fault = server.faults.answer(
        "/log",
        status,
        times=2,
        retry_after_seconds=retry_after,
        body=b"<html>no</html>",
        content_type="text/html",
    )
    recorder = Recorder()
    async with following(server, recorder, tmp_path, patience=HASTY):
        await recorder.until_read("falco-a", numbered(0, 10))
    assert fault.struck == 2
    assert recorder.gaps == []


async def test_a_stream_that_breaks_at_any_byte_goes_on_where_it_was(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path
) -> None:
    pod = cluster.add_pod("falco", "falco-a")
    cluster.append(pod, *numbered(0, 20))
    for n in range(15):  # more, and the requests come once a second
        server.faults.cut_log("falco-a", after_bytes=n * 53, abort=n % 2 == 0)
    recorder = Recorder()
    async with following(server, recorder, tmp_path, patience=HASTY):
        await recorder.until_read("falco-a", numbered(0, 20), seconds=30.0)  # it waits more each time
    assert recorder.gaps == []


async def test_two_restarts_that_nobody_saw_are_a_gap_that_may_hide_nothing(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path
) -> None:
    pod = cluster.add_pod("falco", "falco-a")
    cluster.append(pod, *numbered(0, 5))
    recorder = Recorder()
    async with following(server, recorder, tmp_path, patience=HASTY):
        await recorder.until_read("falco-a", numbered(0, 5))
    for n in (5, 6):
        cluster.restart_container(pod)
        cluster.append(pod, *numbered(n, n + 1))
    async with following(server, recorder, tmp_path, patience=HASTY):
        await recorder.until_read("falco-a", numbered(0, 7))
    (gap,) = recorder.gaps
    assert (gap.reason, gap.certain) == (GapReason.INSTANCES_SKIPPED, False)


async def test_a_crash_loop_gives_every_line_once(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path
) -> None:
    pod = cluster.add_pod("falco", "falco-a")
    recorder = Recorder()
    async with following(server, recorder, tmp_path, patience=HASTY):
        for n in range(0, 20, 5):
            cluster.append(pod, *numbered(n, n + 5))
            cluster.crash(pod)  # the API serves the former instance's log meanwhile
            await recorder.until_read("falco-a", numbered(0, n + 5))
            cluster.start_container(pod)
    # The next crash may come before the last log is known to have been read to its end: that is said, as possible.
    assert not any(gap.certain for gap in recorder.gaps)


async def test_a_pod_that_vanishes_while_nobody_can_reach_it_is_a_gap(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path
) -> None:
    pod = cluster.add_pod("falco", "falco-a")
    cluster.append(pod, *numbered(0, 5))
    recorder = Recorder()
    async with following(server, recorder, tmp_path, patience=HASTY):
        await recorder.until_read("falco-a", numbered(0, 5))
        await server.stop()
        cluster.append(pod, *numbered(5, 9))
        cluster.delete_pod(pod)
        await server.start()
        await recorder.until_done("falco-a")
    assert recorder.lines["falco-a"] == numbered(0, 5)
    assert [gap.reason for gap in recorder.gaps] == [GapReason.POD_GONE]


async def test_a_pod_that_left_while_nobody_followed_is_a_gap_once(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path
) -> None:
    pod = cluster.add_pod("falco", "falco-a")
    cluster.append(pod, *numbered(0, 5))
    recorder = Recorder()
    async with following(server, recorder, tmp_path, patience=HASTY):
        await recorder.until_read("falco-a", numbered(0, 5))
    cluster.delete_pod(pod)
    for _ in range(2):
        async with following(server, recorder, tmp_path, patience=HASTY) as fleet:
            await recorder.until_done("falco-a")
            await eventually(lambda: len(fleet) == 0)
    assert [(gap.reason, gap.certain) for gap in recorder.gaps] == [(GapReason.POD_GONE, False)]


async def test_a_finished_pod_is_read_once_and_leaves_without_a_gap(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path
) -> None:
    pod = cluster.add_pod("falco", "falco-a")
    cluster.append(pod, *numbered(0, 5))
    recorder = Recorder()
    for _ in range(2):
        async with following(server, recorder, tmp_path, patience=HASTY):
            await recorder.until_read("falco-a", numbered(0, 5))
            cluster.terminate(pod)
    async with following(server, recorder, tmp_path, patience=HASTY):
        cluster.remove_pod(pod)
        await recorder.until_done("falco-a")
    assert recorder.lines["falco-a"] == numbered(0, 5)


async def test_a_refused_token_is_read_again(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path
) -> None:
    server.access.token = "first"
    pod = cluster.add_pod("falco", "falco-a")
    cluster.append(pod, *numbered(0, 5))
    recorder = Recorder()
    async with following(server, recorder, tmp_path, patience=HASTY):
        await recorder.until_read("falco-a", numbered(0, 5))
        server.access.token = "second"
        server.kubeconfig(tmp_path / "kubeconfig")
        server.cut("")
        cluster.append(pod, *numbered(5, 9))
        await recorder.until_read("falco-a", numbered(0, 9))
    assert recorder.gaps == []


async def test_many_pods_under_random_cuts_lose_nothing(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path
) -> None:
    pods = [cluster.add_pod("falco", f"falco-{n}") for n in range(20)]
    recorder = Recorder()
    async with following(server, recorder, tmp_path, patience=HASTY):
        for n in range(0, 300, 10):
            for pod in pods:
                cluster.append(pod, *numbered(n, n + 10))
            server.cut(f"falco-{n % 20}/log", abort=n % 20 == 0)
            await asyncio.sleep(0)
        for pod in pods:
            await recorder.until_read(pod.name, numbered(0, 300))
    assert recorder.gaps == []


@pytest.mark.parametrize("known", [False, True], ids=["new", "known"])
async def test_a_previous_container_that_its_runtime_has_lost_keeps_nobody_from_the_present_one(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path, *, known: bool
) -> None:
    pod = cluster.add_pod("falco", "falco-a")
    cluster.append(pod, *numbered(0, 5))
    recorder = Recorder()
    if known:
        async with following(server, recorder, tmp_path, patience=HASTY):
            await recorder.until_read("falco-a", numbered(0, 5))
    cluster.restart_container(pod)
    cluster.append(pod, *numbered(5, 9))
    # A node short of disk space deletes ended containers; the pod's status goes on naming the last one.
    text = b"unable to retrieve container logs for containerd://0123"
    server.faults.answer("/log.*previous=true", 200, times=1000, body=text)
    async with following(server, recorder, tmp_path, patience=HASTY):
        await recorder.until_read("falco-a", numbered(0, 9) if known else numbered(5, 9))
    assert [(gap.reason, gap.certain) for gap in recorder.gaps] == (
        [(GapReason.ROTATION_UNSEEN, False)] if known else []
    )


async def test_a_pod_that_finishes_two_instances_later_is_read_although_one_of_them_came_in_between(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path
) -> None:
    pod = cluster.add_pod("falco", "falco-a")
    cluster.append(pod, *numbered(0, 5))
    recorder = Recorder()
    async with following(server, recorder, tmp_path, patience=HASTY):
        await recorder.until_read("falco-a", numbered(0, 5))
    cluster.restart_container(pod)
    cluster.append(pod, *numbered(5, 9))
    # The previous log's end is looked at once the present log is open.
    held = server.faults.hold("previous=true&tailLines=64", times=1)
    async with following(server, recorder, tmp_path, patience=HASTY):
        await eventually(lambda: held.struck == 1)
        assert held.gate is not None
        cluster.restart_container(pod)
        cluster.append(pod, *numbered(9, 12))
        cluster.terminate(pod)
        held.gate.set()
        await recorder.until_read("falco-a", numbered(0, 12))
    assert not any(gap.certain for gap in recorder.gaps)


async def test_a_place_that_is_found_after_all_is_no_gap(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path
) -> None:
    pod = cluster.add_pod("falco", "falco-a")
    cluster.append(pod, *numbered(0, 5), time_ns=NOON)
    recorder = Recorder()
    async with following(server, recorder, tmp_path, patience=HASTY):
        await recorder.until_read("falco-a", numbered(0, 5))
    cluster.append(pod, *numbered(5, 9), time_ns=NOON + SECOND)
    cuts = [server.faults.cut_log("falco-a", after_bytes=0) for _ in range(6)]  # as if the log were empty
    async with following(server, recorder, tmp_path, patience=HASTY):
        await recorder.until_read("falco-a", numbered(0, 9))
    assert all(cut.struck for cut in cuts)
    assert recorder.gaps == []


async def test_instances_that_ended_before_a_pending_target_was_first_read_are_a_gap(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path
) -> None:
    pod = cluster.add_pod("falco", "falco-a", waiting=True)
    recorder = Recorder()
    async with following(server, recorder, tmp_path, patience=HASTY):
        await recorder.until(lambda: bool(recorder.positions))
    cluster.start_container(pod)
    cluster.append(pod, *numbered(0, 5))
    for n in (5, 10):
        cluster.restart_container(pod)
        cluster.append(pod, *numbered(n, n + 5))
    async with following(server, recorder, tmp_path, patience=HASTY):
        await recorder.until_read("falco-a", numbered(5, 15))
    assert [gap.reason for gap in recorder.gaps] == [GapReason.INSTANCES_SKIPPED]


async def test_an_instance_whose_log_was_removed_before_it_was_first_read_is_a_gap(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path
) -> None:
    pod = cluster.add_pod("falco", "falco-a", waiting=True)
    recorder = Recorder()
    async with following(server, recorder, tmp_path, patience=HASTY):
        await recorder.until(lambda: bool(recorder.positions))
    cluster.start_container(pod)
    cluster.append(pod, *numbered(0, 5))
    cluster.restart_container(pod)
    cluster.append(pod, *numbered(5, 9))
    text = b"unable to retrieve container logs for containerd://0123"
    server.faults.answer("/log.*previous=true", 200, times=1000, body=text)
    async with following(server, recorder, tmp_path, patience=HASTY):
        await recorder.until_read("falco-a", numbered(5, 9))
    assert [(gap.reason, gap.certain) for gap in recorder.gaps] == [(GapReason.ROTATION_UNSEEN, False)]


async def test_a_quiet_pod_whose_log_is_removed_before_its_stream_ends_leaves_no_gap(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path
) -> None:
    """The kubelet removes the log at once, and its reader sees the container's end up to a second later."""
    pod = cluster.add_pod("falco", "falco-a")
    cluster.append(pod, *numbered(0, 5))
    server.faults.stall_log("falco-a", after_bytes=None)
    recorder = Recorder()
    calm = replace(HASTY, probe_seconds=60.0)
    async with following(server, recorder, tmp_path, patience=calm):
        await recorder.until_read("falco-a", numbered(0, 5))
        asked = server.log_opens["falco", "falco-a"]
        await eventually(lambda: server.log_opens["falco", "falco-a"] > asked)  # compared
        text = b"unable to retrieve container logs for containerd://0123"
        removed = server.faults.answer("/log", 200, times=1000, body=text)
        cluster.begin_deletion(pod)
        cluster.terminate(pod)
        await eventually(lambda: bool(removed.struck))
        assert server.cut("/log.*follow") == 1
        cluster.remove_pod(pod)
        await recorder.until_done("falco-a")
    assert recorder.gaps == []


async def test_a_clock_set_back_before_an_unseen_rotation_does_not_lock_the_previous_log_out(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path
) -> None:
    pod = cluster.add_pod("falco", "falco-a")
    cluster.append(pod, *numbered(0, 5), time_ns=NOON)
    recorder = Recorder()
    async with following(server, recorder, tmp_path, patience=HASTY):
        await recorder.until_read("falco-a", numbered(0, 5))
    cluster.rotate(pod)
    cluster.append(pod, *numbered(5, 9), time_ns=NOON - 3600 * SECOND)
    cluster.restart_container(pod)
    cluster.append(pod, *numbered(9, 12), time_ns=NOON - 3500 * SECOND)
    async with following(server, recorder, tmp_path, patience=HASTY):
        await recorder.until_read("falco-a", numbered(0, 12))
    assert {(gap.reason, gap.certain) for gap in recorder.gaps} == {(GapReason.ROTATION_UNSEEN, False)}


async def test_a_quiet_pod_that_is_deleted_after_a_rotation_left_an_empty_file_leaves_no_gap(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path
) -> None:
    pod = cluster.add_pod("falco", "falco-a")
    cluster.append(pod, *numbered(0, 5))
    server.faults.stall_log("falco-a", after_bytes=None)
    recorder = Recorder()
    async with following(server, recorder, tmp_path, patience=HASTY):
        await recorder.until_read("falco-a", numbered(0, 5))
        asked = server.log_opens["falco", "falco-a"]
        await eventually(lambda: server.log_opens["falco", "falco-a"] > asked + 1)  # compared, once at least
        cluster.rotate(pod)
        asked = server.log_opens["falco", "falco-a"]
        await eventually(lambda: server.log_opens["falco", "falco-a"] > asked + 1)  # and once more since then
        cluster.begin_deletion(pod)
        cluster.terminate(pod)
        assert server.cut("/log.*follow") == 1
        cluster.remove_pod(pod)
        await recorder.until_done("falco-a")
    assert recorder.gaps == []


async def test_a_pod_that_is_deleted_some_seconds_after_its_last_line_leaves_no_gap(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path
) -> None:
    """Its stream is compared when the deletion begins: once the container has ended, its log is gone."""
    pod = cluster.add_pod("falco", "falco-a")
    cluster.append(pod, *numbered(0, 5))
    recorder = Recorder()
    calm = replace(HASTY, probe_seconds=60.0, lively_seconds=0.0)
    async with following(server, recorder, tmp_path, patience=calm):
        await recorder.until_read("falco-a", numbered(0, 5))
        asked = server.log_opens["falco", "falco-a"]
        await eventually(lambda: server.log_opens["falco", "falco-a"] > asked)
        cluster.append(pod, *numbered(5, 9))
        await recorder.until_read("falco-a", numbered(0, 9))
        asked = server.log_opens["falco", "falco-a"]
        cluster.begin_deletion(pod)
        await eventually(lambda: server.log_opens["falco", "falco-a"] > asked, 2.0)
        text = b"unable to retrieve container logs for containerd://0123"
        server.faults.answer("/log", 200, times=1000, body=text)
        cluster.terminate(pod)
        cluster.remove_pod(pod)
        await recorder.until_done("falco-a")
    assert recorder.gaps == []


@pytest.mark.parametrize(
    "text",
    [
        b"unable to retrieve container logs for containerd://" + 64 * b"0",
        b"failed to create fsnotify watcher: too many open files",
        b'rpc error: code = NotFound desc = an error occurred when try to find container "%s": not found'
        % (64 * b"0"),
    ],
)
async def test_error_text_of_the_kubelet_behind_a_line_without_a_newline_is_no_part_of_it(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path, text: bytes
) -> None:
    pod = cluster.add_pod("falco", "falco-a")
    cluster.append(pod, *numbered(0, 5))
    cluster.log(pod).append_partial(b"the last", cluster.clock_ns())
    for _ in range(3):
        server.faults.text_in_log("falco-a", text, after_bytes=None)
    cluster.terminate(pod)
    recorder = Recorder()
    async with following(server, recorder, tmp_path, patience=HASTY):
        await recorder.until_read("falco-a", [*numbered(0, 5), b"the last"])
