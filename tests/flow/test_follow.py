"""Followers against the simulated cluster: every line once, whatever happens to the connection in between."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path
from typing import TypeVar

import pytest

from streamer.model import GapReason
from streamer.simulator import Cluster, SimulatedApiServer
from streamer.telemetry.status import StreamState
from streamer.transform.read import StampedLines
from tests.flow.following import HASTY, Recorder, eventually, following, numbered

Thing = TypeVar("Thing")


async def test_lines_written_before_and_after_the_start_are_read_once(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path
) -> None:
    pod = cluster.add_pod("falco", "falco-a")
    cluster.append(pod, *numbered(0, 100))
    recorder = Recorder()
    async with following(server, recorder, tmp_path):
        await recorder.until_read("falco-a", numbered(0, 100))
        cluster.append(pod, *numbered(100, 200))
        await recorder.until_read("falco-a", numbered(0, 200))
    assert recorder.gaps == []


async def test_both_label_conventions_in_any_namespace_are_followed(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path
) -> None:
    old = cluster.add_pod("security", "old", labels={"app": "falco", "role": "security"})
    new = cluster.add_pod("falco", "new")
    other = cluster.add_pod("falco", "sidekick", labels={"app.kubernetes.io/name": "falcosidekick"})
    for pod in (old, new, other):
        cluster.append(pod, b"one")
    recorder = Recorder()
    async with following(server, recorder, tmp_path):
        await recorder.until_read("old", [b"one"])
        await recorder.until_read("new", [b"one"])
    assert "sidekick" not in recorder.lines


async def test_only_the_listed_namespaces_are_followed(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path
) -> None:
    for namespace in ("a", "b", "c"):
        cluster.append(cluster.add_pod(namespace, f"falco-{namespace}"), b"one")
    recorder = Recorder()
    async with following(server, recorder, tmp_path, namespaces=("a", "b")):
        await recorder.until_read("falco-a", [b"one"])
        await recorder.until_read("falco-b", [b"one"])
    assert "falco-c" not in recorder.lines


async def test_a_silent_stream_keeps_nothing_of_what_it_has_brought(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path
) -> None:
    pod = cluster.add_pod("falco", "falco-a")
    cluster.append(pod, *numbered(0, 100))
    recorder = Recorder()
    others = _all(StampedLines)  # of tests that ran before in this process

    def held() -> bool:
        return any(one.lines for one in _all(StampedLines) if not any(one is other for other in others))

    async with following(server, recorder, tmp_path, patience=HASTY) as fleet:
        await recorder.until_read("falco-a", numbered(0, 100))
        server.cut("/log", abort=True)  # what follows was found by its place
        cluster.append(pod, *numbered(100, 200))
        await recorder.until_read("falco-a", numbered(0, 200))
        await eventually(lambda: [found.state for found in fleet.status(0)] == [StreamState.FOLLOWING])
        await eventually(lambda: not held())
        cluster.append(pod, *numbered(200, 300))
        await recorder.until_read("falco-a", numbered(0, 300))
        await eventually(lambda: not held())


def _all(kind: type[Thing]) -> list[Thing]:
    return [found for found in gc.get_objects() if isinstance(found, kind)]


@pytest.mark.parametrize("abort", [False, True])
async def test_a_stream_that_is_cut_goes_on_where_it_was(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path, abort: bool
) -> None:
    pod = cluster.add_pod("falco", "falco-a")
    recorder = Recorder()
    async with following(server, recorder, tmp_path):
        for start in range(0, 600, 100):
            cluster.append(pod, *numbered(start, start + 100))
            await recorder.until_read("falco-a", numbered(0, start + 100))
            server.cut("/log", abort=abort)
        cluster.append(pod, b"last")
        await recorder.until_read("falco-a", [*numbered(0, 600), b"last"])
    assert recorder.gaps == []


async def test_a_new_start_goes_on_at_the_position(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path
) -> None:
    pod = cluster.add_pod("falco", "falco-a")
    recorder = Recorder()
    written = 0
    # Fewer lines than a position remembers, then more than the short tail and the longer one hold.
    for more in (1, 10, 300, 1_000, 20_000, 0, 5):
        cluster.append(pod, *numbered(written, written + more))
        written += more
        async with following(server, recorder, tmp_path):
            await recorder.until_read("falco-a", numbered(0, written))
    assert recorder.gaps == []


async def test_equal_lines_at_equal_times_are_all_kept(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path
) -> None:
    pod = cluster.add_pod("falco", "falco-a")
    recorder = Recorder()
    for count in (1, 3, 5):
        for _ in range(count - len(recorder.lines.get("falco-a", []))):
            cluster.append(pod, b"same", time_ns=1_700_000_000_000_000_000)
        async with following(server, recorder, tmp_path):
            await recorder.until_read("falco-a", [b"same"] * count)
    assert recorder.gaps == []


async def test_a_restarted_container_is_read_to_its_end_and_on(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path
) -> None:
    pod = cluster.add_pod("falco", "falco-a")
    cluster.append(pod, *numbered(0, 50))
    recorder = Recorder()
    async with following(server, recorder, tmp_path):
        await recorder.until_read("falco-a", numbered(0, 50))
        cluster.append(pod, *numbered(50, 80))
        cluster.restart_container(pod)
        cluster.append(pod, *numbered(80, 120))
        await recorder.until_read("falco-a", numbered(0, 120))
    assert recorder.gaps == []


async def test_a_place_that_is_not_in_the_tail_is_given_up_even_while_lines_trickle(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path
) -> None:
    pod = cluster.add_pod("falco", "falco-a")
    cluster.append(pod, *numbered(0, 200))
    recorder = Recorder()
    async with following(server, recorder, tmp_path):
        await recorder.until_read("falco-a", numbered(0, 200))
    cluster.rotate(pod)
    cluster.append(pod, b"next")

    async def trickle() -> None:
        while True:  # the tail's stream is never silent
            cluster.append(pod, b"more")
            await asyncio.sleep(0.05)

    async with following(server, recorder, tmp_path), asyncio.TaskGroup() as tasks:
        trickling = tasks.create_task(trickle())
        await recorder.until(lambda: b"next" in recorder.lines["falco-a"], seconds=5)
        trickling.cancel()


async def test_a_restart_while_nobody_followed_loses_nothing(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path
) -> None:
    pod = cluster.add_pod("falco", "falco-a")
    cluster.append(pod, *numbered(0, 50))
    recorder = Recorder()
    async with following(server, recorder, tmp_path):
        await recorder.until_read("falco-a", numbered(0, 50))
    cluster.append(pod, *numbered(50, 2000))
    cluster.restart_container(pod)
    cluster.append(pod, *numbered(2000, 2010))
    async with following(server, recorder, tmp_path):
        await recorder.until_read("falco-a", numbered(0, 2010))
    assert recorder.gaps == []


async def test_the_instance_before_the_first_attach_is_read_as_well(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path
) -> None:
    pod = cluster.add_pod("falco", "falco-a")
    cluster.append(pod, *numbered(0, 5))
    cluster.restart_container(pod)
    cluster.append(pod, *numbered(5, 9))
    recorder = Recorder()
    async with following(server, recorder, tmp_path):
        await recorder.until_read("falco-a", numbered(0, 9))


async def test_restarts_that_nobody_saw_are_a_certain_gap(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path
) -> None:
    pod = cluster.add_pod("falco", "falco-a")
    cluster.append(pod, *numbered(0, 5))
    recorder = Recorder()
    async with following(server, recorder, tmp_path):
        await recorder.until_read("falco-a", numbered(0, 5))
    for n in (5, 6, 7):
        cluster.restart_container(pod)
        cluster.append(pod, b'{"n":%d}' % n)
    async with following(server, recorder, tmp_path):
        await recorder.until_read("falco-a", [*numbered(0, 5), *numbered(6, 8)])
    (gap,) = recorder.gaps
    assert (gap.reason, gap.certain) == (GapReason.INSTANCES_SKIPPED, True)


async def test_a_rotation_that_nobody_saw_is_a_gap_that_may_hide_nothing(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path
) -> None:
    pod = cluster.add_pod("falco", "falco-a")
    cluster.append(pod, *numbered(0, 200))
    recorder = Recorder()
    async with following(server, recorder, tmp_path):
        await recorder.until_read("falco-a", numbered(0, 200))
    cluster.rotate(pod)
    cluster.append(pod, *numbered(200, 300))
    async with following(server, recorder, tmp_path):
        await recorder.until_read("falco-a", numbered(0, 300))
    (gap,) = recorder.gaps
    assert (gap.reason, gap.certain) == (GapReason.ROTATION_UNSEEN, False)
    assert gap.from_ns is not None
    assert gap.to_ns is not None
    assert gap.from_ns < gap.to_ns


async def test_a_rotation_within_the_ring_is_no_gap(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path
) -> None:
    pod = cluster.add_pod("falco", "falco-a")
    cluster.append(pod, *numbered(0, 100))
    recorder = Recorder()
    async with following(server, recorder, tmp_path):
        await recorder.until_read("falco-a", numbered(0, 100))
        cluster.rotate(pod)
        cluster.append(pod, *numbered(100, 120))
        await recorder.until_read("falco-a", numbered(0, 120))
    cluster.append(pod, *numbered(120, 200))
    async with following(server, recorder, tmp_path):
        await recorder.until_read("falco-a", numbered(0, 200))
    assert recorder.gaps == []


async def test_a_deleted_pod_is_read_to_its_end(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path
) -> None:
    pod = cluster.add_pod("falco", "falco-a")
    cluster.append(pod, *numbered(0, 10))
    recorder = Recorder()
    async with following(server, recorder, tmp_path):
        await recorder.until_read("falco-a", numbered(0, 10))
        cluster.begin_deletion(pod)
        cluster.append(pod, *numbered(10, 20))
        cluster.terminate(pod)
        cluster.remove_pod(pod)
        await recorder.until_read("falco-a", numbered(0, 20))
        await recorder.until_done("falco-a")
    assert recorder.gaps == []


async def test_a_later_pod_of_the_same_name_is_another_target(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path
) -> None:
    first = cluster.add_pod("falco", "falco-0")
    cluster.append(first, *numbered(0, 10))
    recorder = Recorder()
    async with following(server, recorder, tmp_path):
        await recorder.until_read("falco-0", numbered(0, 10))
        cluster.delete_pod(first)
        second = cluster.add_pod("falco", "falco-0")
        cluster.append(second, *numbered(10, 20))
        await recorder.until_read("falco-0", numbered(0, 20))
        await recorder.until_done("falco-0")
    assert len(recorder.positions) == 2


async def test_from_now_on_leaves_out_what_was_written_before(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path
) -> None:
    pod = cluster.add_pod("falco", "falco-a")
    cluster.append(pod, *numbered(0, 100))
    recorder = Recorder()
    async with following(server, recorder, tmp_path, from_now=True):
        await recorder.until(lambda: any(position.ring for position in recorder.positions.values()))
        cluster.append(pod, *numbered(100, 110))
        await recorder.until_read("falco-a", numbered(100, 110))
    cluster.append(pod, *numbered(110, 120))
    async with following(server, recorder, tmp_path, from_now=True):
        await recorder.until_read("falco-a", numbered(100, 120))


async def test_from_now_on_leaves_out_long_lines_of_which_a_tail_shows_a_part(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path
) -> None:
    pod = cluster.add_pod("falco", "falco-a")
    cluster.append(pod, *(line * 60_000 for line in numbered(0, 5)))
    recorder = Recorder()
    async with following(server, recorder, tmp_path, from_now=True):
        await recorder.until(lambda: any(position.ring for position in recorder.positions.values()))
        cluster.append(pod, *numbered(100, 110))
        await recorder.until_read("falco-a", numbered(100, 110))
    assert recorder.gaps == []


@pytest.mark.parametrize("lines", [5, 100])
async def test_who_begins_now_knows_the_end_of_a_log_that_says_nothing_more(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path, lines: int
) -> None:
    pod = cluster.add_pod("falco", "falco-a")
    cluster.append(pod, *numbered(0, lines))
    recorder = Recorder()
    async with following(server, recorder, tmp_path, from_now=True, patience=HASTY) as fleet:
        await recorder.until(lambda: any(position.ring for position in recorder.positions.values()))
        cluster.terminate(pod)
        await eventually(lambda: fleet.status(0)[0].state is StreamState.ENDED)
        cluster.delete_pod(pod)
        await recorder.until_done("falco-a")
    assert recorder.gaps == []
    assert recorder.lines["falco-a"] == []


async def test_from_now_on_leaves_out_the_previous_instance_of_one_that_has_said_nothing_yet(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path
) -> None:
    pod = cluster.add_pod("falco", "falco-a")
    cluster.append(pod, *numbered(0, 10))
    cluster.restart_container(pod)
    recorder = Recorder()
    async with following(server, recorder, tmp_path, from_now=True):
        await recorder.until(lambda: bool(recorder.positions))
        await eventually(lambda: any("follow" in stream.path for stream in server.streams))
        cluster.append(pod, *numbered(10, 15))
        await recorder.until_read("falco-a", numbered(10, 15))
    assert recorder.gaps == []


async def test_from_now_on_takes_all_of_a_container_that_was_not_started_then(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path
) -> None:
    pod = cluster.add_pod("falco", "falco-a", waiting=True)
    recorder = Recorder()
    async with following(server, recorder, tmp_path, from_now=True):
        await recorder.until(lambda: bool(recorder.positions))
        cluster.start_container(pod)
        cluster.append(pod, *numbered(0, 10))
        await recorder.until_read("falco-a", numbered(0, 10))


async def test_who_ends_before_now_is_known_begins_at_another_now(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path
) -> None:
    pod = cluster.add_pod("falco", "falco-a")
    cluster.append(pod, *numbered(0, 10))
    held = server.faults.hold("/log")
    recorder = Recorder()
    async with following(server, recorder, tmp_path, from_now=True):
        await eventually(lambda: held.struck > 0)
    server.faults.clear()
    async with following(server, recorder, tmp_path, from_now=True):
        await recorder.until(lambda: any(position.ring for position in recorder.positions.values()))
        cluster.append(pod, *numbered(10, 15))
        await recorder.until_read("falco-a", numbered(10, 15))


async def test_a_pod_that_is_not_running_yet_is_waited_for(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path
) -> None:
    pod = cluster.add_pod("falco", "falco-a", node=None)
    recorder = Recorder()
    async with following(server, recorder, tmp_path) as fleet:
        first = cluster.add_pod("falco", "falco-b")
        cluster.append(first, b"one")
        await recorder.until_read("falco-b", [b"one"])
        assert len(fleet) == 1
        cluster.schedule(pod, "node-2")
        cluster.start_container(pod)
        cluster.append(pod, b"two")
        await recorder.until_read("falco-a", [b"two"])


async def test_a_pod_that_loses_its_label_is_released_and_taken_up_again(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path
) -> None:
    pod = cluster.add_pod("falco", "falco-a")
    cluster.append(pod, *numbered(0, 10))
    recorder = Recorder()
    async with following(server, recorder, tmp_path) as fleet:
        await recorder.until_read("falco-a", numbered(0, 10))
        for label in list(pod.labels):
            cluster.set_label(pod, label, None)
        cluster.append(cluster.add_pod("falco", "falco-b"), b"one")
        await recorder.until_read("falco-b", [b"one"])
        cluster.set_label(pod, "app", "falco")
        cluster.append(pod, *numbered(10, 20))
        await recorder.until_read("falco-a", numbered(0, 20))
        assert len(fleet) == 2
    assert recorder.gaps == []


async def test_a_long_line_comes_as_its_beginning_with_its_length(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path
) -> None:
    pod = cluster.add_pod("falco", "falco-a")
    recorder = Recorder()
    cluster.append(pod, b"a", b"x" * 200_000, b"b")
    async with following(server, recorder, tmp_path, max_line_bytes=100_000):
        await recorder.until(lambda: len(recorder.lines.get("falco-a", [])) == 3)
    assert [len(line) for line in recorder.lines["falco-a"]] == [1, 65_536 - 31, 1]
    cluster.append(pod, b"c")
    async with following(server, recorder, tmp_path, max_line_bytes=100_000):
        await recorder.until(lambda: len(recorder.lines["falco-a"]) == 4)
    assert recorder.gaps == []


async def test_the_longest_line_is_read_whole_from_any_node_and_found_again(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path
) -> None:
    most = 3 * 16_384
    recorder = Recorder()
    longest = [bytes([letter]) * (most + more) for letter, more in zip(b"abc", (-1, 0, 1), strict=True)]
    pods = [
        cluster.add_pod("falco", "falco-utc"),
        cluster.add_pod("falco", "falco-delhi", utc_offset_minutes=330),
    ]
    for pod in pods:
        cluster.append(pod, *longest)
    for lines in (3, 4):  # the second time their place is looked for
        async with following(server, recorder, tmp_path, max_line_bytes=most):
            for pod in pods:
                await recorder.until(lambda name=pod.name: len(recorder.lines.get(name, [])) == lines)  # type: ignore[misc]  # noqa: B023
        for pod in pods:
            cluster.append(pod, b"behind")
    for pod in pods:
        assert recorder.lines[pod.name][:2] == longest[:2]
        assert len(recorder.lines[pod.name][2]) < most
        assert recorder.lines[pod.name][3] == b"behind"
    assert sorted(known.original_bytes for known in recorder.oversize) == [most + 1 + 31, most + 1 + 36]
    assert recorder.gaps == []


async def test_a_server_that_is_away_is_waited_for(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path
) -> None:
    pod = cluster.add_pod("falco", "falco-a")
    cluster.append(pod, *numbered(0, 10))
    recorder = Recorder()
    async with following(server, recorder, tmp_path):
        await recorder.until_read("falco-a", numbered(0, 10))
        await server.stop()
        cluster.append(pod, *numbered(10, 20))
        await server.start()
        await recorder.until_read("falco-a", numbered(0, 20))
    assert recorder.gaps == []


async def test_a_native_sidecar_is_followed_through_its_restarts(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path
) -> None:
    pod = cluster.add_pod("team", "app-a", containers=["app"], sidecars=["falco"], images={"app": "app:1"})
    cluster.append(pod, *numbered(0, 20))
    cluster.append(pod, b"the application's", container="app")
    recorder = Recorder()
    async with following(server, recorder, tmp_path, patience=HASTY):
        await recorder.until_read("app-a", numbered(0, 20))
        cluster.append(pod, *numbered(20, 30))
        cluster.restart_container(pod)
        cluster.append(pod, *numbered(30, 40))
        await recorder.until_read("app-a", numbered(0, 40))
        cluster.crash(pod)
        cluster.start_container(pod)
        cluster.append(pod, *numbered(40, 50))
        await recorder.until_read("app-a", numbered(0, 50))
    assert recorder.gaps == []
