"""A real node on this machine: Kubernetes' own kubelet, containerd and runc, with an API server of its own.

Kubelet and containerd run in a process and a mount namespace: what they start, mount and write below /run and
/var/log ends with these namespaces, also when the tests are killed. An address on the loopback interface (a
kubelet refuses 127.0.0.1), the pods' cgroups and the folder are outside of them; close() removes these, or the next
start, if the tests were killed. The machine's limits for inotify are raised and stay so.
"""

import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Self

from tests.testbed import parts
from tests.testbed.apiserver import KubeApiServer
from tests.testbed.log_keeper import LogKeeper
from tests.testbed.node_config import PAUSE_IMAGE, PRINTER_IMAGE, containerd_config, kubelet_config
from tests.testbed.node_machine import (
    FOLDER,
    accepts_at,
    add_address,
    check_machine,
    own,
    raise_inotify_limits,
    remove,
    remove_left_behind,
    until,
)
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


class Node:
    """One node and its API server. Everything is started by entering it and gone when it is left."""

    def __init__(self) -> None:
        check_machine()
        programs = [each() for each in (parts.node_kubelet, parts.containerd, parts.shim, parts.ctr)]
        kubelet, containerd, shim, self._ctr = programs
        printer = parts.printer()
        self.server = KubeApiServer()
        self.folder = Path(tempfile.mkdtemp(prefix=FOLDER))
        self.pods = self.folder / "pods"
        """What is /var/log/pods on other nodes."""
        self.pods.mkdir()
        self.name = self.folder.name.replace("_", "x")  # a DNS label
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
        """Start everything, which takes about 4 s; StartError if something does not."""
        remove_left_behind()
        raise_inotify_limits()
        own(self.folder, self.address)
        add_address(self.address)
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
        self.kubelet.wait_until(lambda: accepts_at(self.address, self.port), seconds=60)

    def kill_kubelet(self) -> None:
        """End the kubelet as a crash does, and wait until its port is free."""
        self.kubelet.kill()
        until(lambda: not accepts_at(self.address, self.port))

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
        remove(self.folder, self.address)

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
