"""The node of the test bed itself: a test that fails, or is killed, leaves nothing of it behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.testbed.client import KubeApi
from tests.testbed.node import Node
from tests.testbed.node_cluster import NodeCluster
from tests.testbed.node_machine import remove_left_behind

pytestmark = [pytest.mark.real, pytest.mark.node]

_RUNS_UNTIL_KILLED = """
import sys, time
from tests.testbed.node import Node
with Node() as node:
    print(node.folder, flush=True)
    time.sleep(600)
"""


async def test_a_node_with_running_pods_is_closed_without_a_trace(node: Node) -> None:
    """`node` is another one: what is its own stays."""
    with Node() as other:
        async with KubeApi(other.server.kubeconfig) as api:
            cluster = NodeCluster(api, other)
            await cluster.__aenter__()
            await cluster.add_pod("falco", "-rate=10")
        assert _processes_of(other.folder)
        assert _traces_of(other)
    _until(lambda: not _processes_of(other.folder))
    assert not _traces_of(other)
    assert not other.folder.exists()
    assert _processes_of(node.folder)
    assert _traces_of(node)


def test_a_node_whose_tests_are_killed_leaves_no_process_and_the_next_one_removes_the_rest(
    node: Node,
) -> None:
    command = [sys.executable, "-c", _RUNS_UNTIL_KILLED]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path.cwd()) as tests:
        assert tests.stdout is not None
        folder = Path(tests.stdout.readline().strip())
        assert _processes_of(folder)
        tests.send_signal(signal.SIGKILL)
    _until(lambda: not _processes_of(folder))
    assert not _mounts_of(folder)
    remove_left_behind()  # as the next node's start does
    assert not folder.exists()
    assert not any(Path("/sys/fs/cgroup").glob(f"*/{folder.name}"))


def _processes_of(folder: Path) -> list[str]:
    """The kubelet, containerd, shims and whatever runs in their pods: all are in the node's namespaces."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            inside = str(folder) in os.readlink(process / "root") or str(folder) in command
        except OSError:  # it has ended
            continue
        if inside:
            found.append(command)
    return found


def _traces_of(node: Node) -> list[str]:
    addresses = subprocess.run(["ip", "address"], capture_output=True, text=True, check=True).stdout
    cgroups = [*Path("/sys/fs/cgroup").glob(f"*/{node.folder.name}/*/cgroup.procs")]
    return [
        *(line for line in addresses.splitlines() if f"{node.address}/" in line),
        *map(str, cgroups),
        *_mounts_of(node.folder),
    ]


def _mounts_of(folder: Path) -> list[str]:
    return [line for line in Path("/proc/self/mounts").read_text().splitlines() if str(folder) in line]


def _until(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it does not come to pass"
        time.sleep(0.05)
