"""The test bed's own promises: whole parts or none, one builder at a time, and no server left behind."""

import os
import select
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.testbed import PartMissing, StartError, parts
from tests.testbed.parts import Part
from tests.testbed.process import Process

SECONDS = 20


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FALCO_STREAMER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "testbed"


def test_a_failed_build_is_not_taken_for_a_part(empty_cache: Path) -> None:
    def half(_: Part, into: Path) -> None:
        (into / "half").touch()
        raise OSError("the disk is full")

    def whole(_: Part, into: Path) -> None:
        (into / "whole").touch()

    with pytest.raises(OSError, match="disk is full"):
        Part("thing", "v1", [], [], "no time", half).folder()
    assert [path.name for path in empty_cache.iterdir()] == ["thing.lock"]
    built = Part("thing", "v1", [], [], "no time", whole).folder()
    assert [path.name for path in built.iterdir()] == ["whole"]


def test_what_a_killed_build_left_is_removed(empty_cache: Path) -> None:
    part = Part("thing", "v1", [], [], "no time", lambda _, into: (into / "whole").touch())
    (empty_cache / "thing-v0-abc.building-xyz").mkdir(parents=True)
    built = part.folder()
    assert sorted(path.name for path in empty_cache.iterdir()) == [built.name, "thing.lock"]


def test_two_runs_build_a_part_once() -> None:
    builds: list[Path] = []
    began, go_on = threading.Event(), threading.Event()

    def slowly(_: Part, into: Path) -> None:
        builds.append(into)
        began.set()
        go_on.wait(SECONDS)

    part = Part("thing", "v1", [], [], "no time", slowly)
    runs = [threading.Thread(target=part.folder) for _ in range(2)]
    runs[0].start()
    assert began.wait(SECONDS)
    runs[1].start()
    go_on.set()
    for run in runs:
        run.join(SECONDS)
    assert len(builds) == 1


def test_other_inputs_are_another_part(tmp_path: Path) -> None:
    pins = tmp_path / "go.mod"
    part = Part("thing", "v1", [pins], [], "no time", lambda _, into: (into / "whole").touch())
    pins.write_text("one")
    first = part.folder()
    pins.write_text("two")
    assert part.folder() != first
    pins.write_text("one")
    assert part.folder() == first


def test_a_missing_toolchain_is_named_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    for part, tool in (
        (parts.kafka, "Java"),
        (parts.etcd, "Go"),
        (parts.apiserver, "Go"),
        (parts.kubelet, "Go"),
    ):
        with pytest.raises(PartMissing, match=rf"{tool} \d.*install") as raised:
            part()
        assert "\n" not in str(raised.value)


def test_a_server_that_ends_early_is_quoted(tmp_path: Path) -> None:
    server = Process("server", ["sh", "-c", "echo no such certificate; exit 3"], tmp_path / "log")
    server.spawn()
    with pytest.raises(StartError, match="ended before it was ready:\nno such certificate"):
        server.wait_until(lambda: False, seconds=SECONDS)


def test_a_server_that_is_never_ready_is_not_waited_for_longer_than_said(tmp_path: Path) -> None:
    server = Process("server", ["sleep", "600"], tmp_path / "log")
    server.spawn()
    with pytest.raises(StartError, match="not ready after 0 s"):
        server.wait_until(lambda: False, seconds=0.1)
    server.kill()
    assert not server.running


def test_a_frozen_server_can_be_killed_with_all_it_started(tmp_path: Path) -> None:
    server = Process("server", ["sh", "-c", "sleep 600 & echo started; wait"], tmp_path / "log")
    server.spawn()
    server.wait_until(lambda: server.has_said("started"), seconds=SECONDS)
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children")
    child = int(children.read_text().split()[0])
    server.freeze()
    server.kill()
    assert gone(child)


def test_servers_die_with_a_killed_test_run(tmp_path: Path) -> None:
    script = (
        "import pathlib, sys, threading\n"
        "from tests.testbed.process import Process\n"
        "server = Process('server', ['sleep', '600'], pathlib.Path(sys.argv[1]) / 'log')\n"
        # A thread that ends, as those of an event loop's executor do, is not the end of the run.
        "starter = threading.Thread(target=server.spawn); starter.start(); starter.join()\n"
        "print(server.pid, server.running, flush=True)\n"
        "threading.Event().wait()\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout
        pid, running = run.stdout.readline().split()
        assert running == "True"
        handle = os.pidfd_open(int(pid))
        run.send_signal(signal.SIGKILL)
    try:
        assert select.select([handle], [], [], SECONDS)[0], "the server outlived its run"
    finally:
        os.close(handle)


def gone(pid: int) -> bool:
    """Wait for the end of a process that is not our child."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], SECONDS)[0])
    finally:
        os.close(handle)
