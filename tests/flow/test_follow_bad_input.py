"""Logs and answers of every bad kind: nothing beside them is lost, and no text that is none becomes a line."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from streamer.simulator import Cluster, SimulatedApiServer
from tests.flow.following import HASTY, Recorder, following, numbered

LINES = {
    "NUL bytes": b"\0\0{\0}",
    "invalid UTF-8": b"\xff\xfe\xc3\x28 \xed\xa0\x80",
    "carriage return": b'{"n":1}\r',
    "only a carriage return": b"\r",
    "nothing": b"",
    "a stamp of its own": b"2026-11-20T10:00:00.000000000Z nested",
    "JSON too deep": b"[" * 10_000 + b"]" * 10_000,
    "keys twice": b'{"rule":"a","rule":"b","rule":"a"}',
    "several records long": b"x" * (3 * 16_384 + 5),
    "exactly one record long": b"x" * 16_384,
    "looks compressed": gzip.compress(b"alert " * 100).replace(b"\n", b""),
    "looks like the kubelet's error": b"failed to create fsnotify watcher: too many open files",
}
ANSWERS = {
    "a proxy's page": b"<html>\r\n<head><title>502 Bad Gateway</title></head>\n<body>no</body>\n</html>\n",
    "a page of one line": b"<html>502</html>",
    "compressed and cut off": gzip.compress(bytes(range(256)) * 50)[:200],
    "a Status object": b'{"kind":"Status","code":500,"message":"no"}',
    "NUL bytes": b"\0" * 100,
    "half a line": b"2026-11-20T10:00:00.000000000Z {",
    "half a stamp": b"2026-11-2",
    "lines without a stamp": b"one\ntwo\nthree\n",
}


@pytest.mark.parametrize("line", LINES.values(), ids=LINES.keys())
async def test_a_line_of_any_bytes_is_read_as_it_stands_and_found_again(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path, line: bytes
) -> None:
    pod = cluster.add_pod("falco", "falco-a")
    recorder = Recorder()
    wanted = [*numbered(0, 3), line, *numbered(3, 6), line]
    cluster.append(pod, *wanted)
    async with following(server, recorder, tmp_path, patience=HASTY):
        await recorder.until_read("falco-a", wanted)
        server.cut("/log", abort=True)
        cluster.append(pod, line, b"last")
        await recorder.until_read("falco-a", [*wanted, line, b"last"])
    assert recorder.gaps == []


@pytest.mark.parametrize("previous_lines", [0, 5])
@pytest.mark.parametrize("body", ANSWERS.values(), ids=ANSWERS.keys())
async def test_an_answer_that_is_no_log_is_asked_for_again(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path, body: bytes, previous_lines: int
) -> None:
    pod = cluster.add_pod("falco", "falco-a")
    cluster.append(pod, *numbered(0, previous_lines))
    recorder = Recorder()
    if previous_lines:  # otherwise it is the first answer of all
        async with following(server, recorder, tmp_path, patience=HASTY):
            await recorder.until_read("falco-a", numbered(0, previous_lines))
    cluster.append(pod, *numbered(previous_lines, 20))
    faults = [server.faults.text_in_log("falco-a", body) for _ in range(3)]
    async with following(server, recorder, tmp_path, patience=HASTY):
        await recorder.until_read("falco-a", numbered(0, 20))
        assert all(fault.struck for fault in faults)
        cluster.append(pod, *numbered(20, 30))
        await recorder.until_read("falco-a", numbered(0, 30))
    assert recorder.gaps == []


async def test_half_a_line_waits_for_its_other_half(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path
) -> None:
    pod = cluster.add_pod("falco", "falco-a")
    other = cluster.add_pod("falco", "falco-b")
    recorder = Recorder()
    async with following(server, recorder, tmp_path, patience=HASTY):
        cluster.append(pod, b"one")
        cluster.log(pod).append_partial(b"first half, ", cluster.clock_ns())
        cluster.append(other, b"beside it")
        await recorder.until_read("falco-b", [b"beside it"])
        await recorder.until_read("falco-a", [b"one"])
        server.cut("falco-a/log", abort=True)
        cluster.append(other, b"again")
        await recorder.until_read("falco-b", [b"beside it", b"again"])
        cluster.append(pod, b"second half", b"two")
        await recorder.until_read("falco-a", [b"one", b"first half, second half", b"two"])
    assert recorder.gaps == []


async def test_a_line_of_100_megabytes_leaves_its_neighbours_whole(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path
) -> None:
    pod = cluster.add_pod("falco", "falco-a")
    recorder = Recorder()
    size = 100_000_000
    cluster.append(pod, b"before", b"x" * size, b"behind")
    for count in (3, 4):
        async with following(server, recorder, tmp_path):
            await recorder.until(lambda: len(recorder.lines.get("falco-a", [])) >= count, seconds=60)  # noqa: B023
        cluster.append(pod, b"later")
    lines = recorder.lines["falco-a"]
    assert [lines[0], *lines[2:]] == [b"before", b"behind", b"later"]
    assert len(lines[1]) < 65_536
    (oversize,) = recorder.oversize
    assert oversize.original_bytes == size + 31  # with its time
    assert recorder.gaps == []


async def test_a_half_open_stream_is_replaced(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path
) -> None:
    pod = cluster.add_pod("falco", "falco-a")
    cluster.append(pod, *numbered(0, 5))
    recorder = Recorder()
    async with following(server, recorder, tmp_path, patience=HASTY):
        await recorder.until_read("falco-a", numbered(0, 5))
        assert server.hang("/log") >= 1
        cluster.append(pod, *numbered(5, 9))
        await recorder.until_read("falco-a", numbered(0, 9))
    assert recorder.gaps == []


async def test_a_pod_made_behind_a_half_open_watch_is_found(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path
) -> None:
    cluster.append(cluster.add_pod("falco", "falco-a"), b"one")
    recorder = Recorder()
    async with following(server, recorder, tmp_path, watch_seconds=1.0):
        await recorder.until_read("falco-a", [b"one"])
        assert server.hang("watch") == 2
        cluster.append(cluster.add_pod("falco", "falco-b"), b"two")
        await recorder.until_read("falco-b", [b"two"])
