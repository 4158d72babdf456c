"""What a real node needs of this machine, and what it leaves on it outside of its own namespaces."""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.testbed.parts import PartMissing

FOLDER = "falco-streamer-node-"
"""How the names of nodes' folders begin, and those of their cgroups."""
_OWNER = "owner"
_INOTIFY = {"max_user_instances": 4096, "max_user_watches": 524_288}


def check_machine() -> None:
    """Raise PartMissing, with one line that says what to install, where no node can run."""
    needs = "the test bed's node runs containers"
    if os.geteuid() != 0:
        raise PartMissing(f"{needs}: run as root")
    programs = {"runc": "runc", "ip": "iproute2", "unshare": "util-linux", "nsenter": "util-linux"}
    missing = sorted({package for program, package in programs.items() if not shutil.which(program)})
    if missing:
        raise PartMissing(f"{needs}: install {', '.join(missing)}")
    tried = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "true"]
    if subprocess.run(tried, capture_output=True, check=False).returncode:
        raise PartMissing(f"{needs}: it needs the right to mount (a privileged container)")


def raise_inotify_limits() -> None:
    """Make room for the inotify instances of several kubelets: one for each log that is followed."""
    for name, wanted in _INOTIFY.items():
        limit = Path("/proc/sys/fs/inotify") / name
        if int(limit.read_text()) < wanted:
            limit.write_text(str(wanted))


@contextlib.contextmanager
def without_inotify_instances() -> Iterator[None]:
    """Let no process open another inotify instance, as on a node whose limit is reached; those open stay so."""
    limit = Path("/proc/sys/fs/inotify/max_user_instances")
    before = limit.read_text()
    limit.write_text("1")
    try:
        yield
    finally:
        limit.write_text(before)


def add_address(address: str) -> None:
    """Add an address to the loopback interface."""
    _address("add", address)


def _address(action: str, address: str) -> None:
    command = ["ip", "address", action, f"{address}/32", "dev", "lo"]
    subprocess.run(command, capture_output=True, check=True)


def own(folder: Path, address: str) -> None:
    """Write down whose a node's folder is, for remove_left_behind()."""
    (folder / _OWNER).write_text(f"{os.getpid()} {address}")


def remove_left_behind() -> None:
    """Remove what nodes have left whose tests were killed."""
    for owner in Path(tempfile.gettempdir()).glob(f"{FOLDER}*/{_OWNER}"):
        pid, address = owner.read_text().split()
        if not Path("/proc", pid).exists():
            remove(owner.parent, address)


def remove(folder: Path, address: str) -> None:
    """Remove what is outside of a node's namespaces, once its processes are being killed."""
    _remove_cgroups(folder.name)
    with contextlib.suppress(subprocess.CalledProcessError):  # it was never added
        _address("delete", address)

    def gone() -> bool:
        shutil.rmtree(folder, ignore_errors=True)  # a process that is being killed may still write
        return not folder.exists()

    until(gone)


def _remove_cgroups(name: str) -> None:
    def gone() -> bool:
        tops = [*Path("/sys/fs/cgroup").glob(name), *Path("/sys/fs/cgroup").glob(f"*/{name}")]
        for top in tops:
            for folder, _, _ in os.walk(top, topdown=False):
                with contextlib.suppress(OSError):  # its last process is not gone yet
                    Path(folder).rmdir()
        return not any(top.exists() for top in tops)

    until(gone)


def accepts_at(address: str, port: int) -> bool:
    """Say whether something listens on this port of an address."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((address, port)) == 0


def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    """Wait for a condition of processes that end."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the node's parts did not end in time"
        time.sleep(0.02)
