"""A real node on this machine: Kubernetes' own kubelet, containerd and runc, with an API server of its own.

Kubelet and containerd run in a process and a mount namespace: what they start, mount and write below /run and
/var/log ends with these namespaces, also when the tests are killed. An address on the loopback interface (a
kubelet refuses 127.0.0.1), the pods' cgroups and the folder are outside of them; close() removes these, or the next
start, if the tests were killed. The machine's limits for inotify are raised and stay so.
"""

import contextlib
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

from tests.testbed import parts
from tests.testbed.apiserver import KubeApiServer
from tests.testbed.log_keeper import LogKeeper
from tests.testbed.node_config import PAUSE_IMAGE, PRINTER_IMAGE, containerd_config, kubelet_config
from tests.testbed.oci import write_image
from tests.testbed.process import Process, free_port

# The first process of the node's namespaces: it mounts what is private, and reaps what nobody else waits for.
_INIT = """
import signal, subprocess
for where in ("/run", "/var/log"):
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", where], check=True)
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
print("ready", flush=True)
while True:
    signal.pause()
"""
_FOLDER, _OWNER = "falco-streamer-node-", "owner"
_INOTIFY = {"max_user_instances": 4096, "max_user_watches": 524_288}


class Node:
    """One node and its API server. Everything is started by entering it and gone when it is left."""

    def __init__(self) -> None:
        _check_machine()
        programs = [each() for each in (parts.node_kubelet, parts.containerd, parts.shim, parts.ctr)]
        kubelet, containerd, shim, self._ctr = programs
        printer = parts.printer()
        self.server = KubeApiServer()
        self.folder = Path(tempfile.mkdtemp(prefix=_FOLDER))
        self.pods = self.folder / "pods"
        """What is /var/log/pods on other nodes."""
        self.pods.mkdir()
        self.name = self.folder.name.replace("_", "-").lower()
        self.address = f"198.18.{random.randint(0, 255)}.{random.randint(1, 254)}"  # RFC 2544: for tests
        self.port = free_port()
        self._cgroup = f"/{self.folder.name}"
        self._images = self.folder / "images.tar"
        names = {PAUSE_IMAGE: ["/printer", "pause"], PRINTER_IMAGE: ["/printer"]}
        write_image(self._images, printer, names)
        serving = self.server.authority.server("node", address=self.address)
        (self.folder / "containerd.toml").write_text(containerd_config(self.folder))
        (self.folder / "kubelet.yaml").write_text(
            kubelet_config(self.folder, self.address, self.port, self._cgroup, self.server.authority, serving)
        )
        first = [sys.executable, "-I", "-S", "-c", _INIT]
        namespaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", *first]
        self._namespaces = Process("node", namespaces, self.folder / "node.log")
        path = f"PATH={shim.parent}:{os.environ['PATH']}"
        command = ["env", path, str(containerd), f"--config={self.folder / 'containerd.toml'}"]
        self._containerd_command = command
        self._kubelet_command = [
            str(kubelet),
            f"--config={self.folder / 'kubelet.yaml'}",
            f"--kubeconfig={self.server.kubeconfig_for('kubelet', ['system:masters'])}",
            f"--hostname-override={self.name}",
            f"--node-ip={self.address}",
            f"--root-dir={self.folder / 'kubelet'}",
            f"--cert-dir={self.folder / 'certificates'}",
        ]
        self.keeper = LogKeeper(self.pods, self.folder / "kept")

    def start(self) -> None:
        """Start everything, first time or again after close of a part (10 s); StartError if something does not."""
        remove_left_behind()
        _raise_inotify_limits()
        (self.folder / _OWNER).write_text(f"{os.getpid()} {self.address}")
        _address("add", self.address)
        self.server.start()
        self._namespaces.spawn()
        self._namespaces.wait_until(lambda: self._namespaces.has_said("ready"), seconds=10)
        self.containerd = self._inside("containerd", self._containerd_command)
        self.kubelet = self._inside("kubelet", self._kubelet_command)
        self.start_containerd()
        self._ctr_run("images", "import", str(self._images))
        self.keeper.start()
        self.start_kubelet()

    def start_containerd(self) -> None:
        """Start containerd, for the first time or again, and wait until it serves."""
        self.containerd.spawn()
        self.containerd.wait_until(self._ctr_answers, seconds=30)

    def start_kubelet(self) -> None:
        """Start the kubelet, for the first time or again, and wait until it accepts connections."""
        self.kubelet.spawn()
        self.kubelet.wait_until(lambda: _accepts(self.address, self.port), seconds=60)

    def kill_kubelet(self) -> None:
        """End the kubelet as a crash does, and wait until its port is free."""
        self.kubelet.kill()
        _until(lambda: not _accepts(self.address, self.port))

    def kill_containerd(self) -> None:
        """End containerd as a crash does; its shims and their containers run on."""
        self.containerd.kill()

    def kill_container(self, container_id: str) -> None:
        """End a container (SIGKILL), by the id that a pod's status has."""
        self._ctr_run("tasks", "kill", "--signal=SIGKILL", container_id.removeprefix("containerd://"))

    def collect_garbage(self, uid: str) -> list[int]:
        """Remove a pod's ended containers and their logs, as the kubelet does once a minute with those it may.

        Returns their restart counts. The log goes first, as in RemoveContainer of pkg/kubelet/kuberuntime.
        """
        for log in self.pods.glob(f"*_{uid}/*/*.log"):
            if int(log.stem) < max(int(other.stem) for other in log.parent.glob("*.log")):
                log.unlink()
        command = [str(parts.remove_container()), f"--endpoint=unix://{self._socket}", f"--pod-uid={uid}"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
        return sorted(map(int, done.stdout.split()))

    def has_logs(self, uid: str) -> bool:
        """Say whether the node has a log of this pod. (Its folder is removed later, within a minute.)"""
        return any(self.pods.glob(f"*_{uid}/*/*"))

    def close(self) -> None:
        """End everything and remove what it left: processes, mounts, cgroups, the address, the files."""
        self.keeper.stop()
        self._namespaces.kill()  # the kernel kills all that is inside
        for name in ("kubelet", "containerd"):
            if process := getattr(self, name, None):
                process.kill()
        self.server.close()
        _remove(self.folder, self.address)

    def __enter__(self) -> Self:
        """Start it."""
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def _inside(self, name: str, command: list[str]) -> Process:
        here = f"/proc/{self._namespaces.pid}/ns"
        enter = ["nsenter", f"--mount={here}/mnt", f"--pid={here}/pid_for_children", "--"]
        return Process(name, [*enter, *command], self.folder / f"{name}.log")

    @property
    def _socket(self) -> Path:
        return self.folder / "containerd.sock"

    def _ctr_answers(self) -> bool:
        try:
            self._ctr_run("version")
        except subprocess.CalledProcessError:
            return False
        return True

    def _ctr_run(self, *arguments: str) -> str:
        command = [str(self._ctr), "--address", str(self._socket), "--namespace", "k8s.io", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        return done.stdout


def _check_machine() -> None:
    needs = "the test bed's node runs containers"
    if os.geteuid() != 0:
        raise parts.PartMissing(f"{needs}: run as root")
    programs = {"runc": "runc", "ip": "iproute2", "unshare": "util-linux", "nsenter": "util-linux"}
    missing = sorted({package for program, package in programs.items() if not shutil.which(program)})
    if missing:
        raise parts.PartMissing(f"{needs}: install {', '.join(missing)}")
    tried = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "true"]
    if subprocess.run(tried, capture_output=True, check=False).returncode:
        raise parts.PartMissing(f"{needs}: it needs the right to mount (a privileged container)")


def _raise_inotify_limits() -> None:
    for name, wanted in _INOTIFY.items():
        limit = Path("/proc/sys/fs/inotify") / name
        if int(limit.read_text()) < wanted:
            limit.write_text(str(wanted))


def _address(action: str, address: str) -> None:
    command = ["ip", "address", action, f"{address}/32", "dev", "lo"]
    subprocess.run(command, capture_output=True, check=True)


def remove_left_behind() -> None:
    """Remove what nodes have left whose tests were killed."""
    for owner in Path(tempfile.gettempdir()).glob(f"{_FOLDER}*/{_OWNER}"):
        pid, address = owner.read_text().split()
        if not Path("/proc", pid).exists():
            _remove(owner.parent, address)


def _remove(folder: Path, address: str) -> None:
    _remove_cgroups(folder.name)
    with contextlib.suppress(subprocess.CalledProcessError):  # it was never added
        _address("delete", address)

    def remove() -> bool:
        shutil.rmtree(folder, ignore_errors=True)  # a process that is being killed may still write
        return not folder.exists()

    _until(remove)


def _remove_cgroups(name: str) -> None:
    def remove() -> bool:
        tops = [*Path("/sys/fs/cgroup").glob(name), *Path("/sys/fs/cgroup").glob(f"*/{name}")]
        for top in tops:
            for folder, _, _ in os.walk(top, topdown=False):
                with contextlib.suppress(OSError):  # its last process is not gone yet
                    Path(folder).rmdir()
        return not any(top.exists() for top in tops)

    _until(remove)


def _accepts(address: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((address, port)) == 0


def _until(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the node's parts did not end in time"
        time.sleep(0.02)
