"""The log endpoint of the nodes: a small program around the kubelet's own reader (go/kubernetes/kubelet)."""

import tempfile
from pathlib import Path
from typing import ClassVar

from tests.testbed import parts
from tests.testbed.certs import Authority
from tests.testbed.process import Process, accepts, free_port
from tests.testbed.served import Served


class Kubelet(Served):
    """One endpoint, for as many nodes as name its port. Logs and port outlive kill(); close() ends it all.

    `write_timeout_seconds` is the hard limit of every response, 4 h in a cluster. stop(), too, cuts its streams.
    """

    STOP_SECONDS: ClassVar[float] = 5

    def __init__(self, authority: Authority, *, write_timeout_seconds: float = 4 * 3600) -> None:
        program = parts.kubelet()
        self.folder = Path(tempfile.mkdtemp(prefix="falco-streamer-kubelet-"))
        self.root = self.folder / "pods"
        self.root.mkdir()
        self.port = free_port()
        serving = authority.server(f"kubelet-{self.port}")
        command = [
            str(program),
            f"--root={self.root}",
            f"--listen=127.0.0.1:{self.port}",
            f"--tls-cert-file={serving.public}",
            f"--tls-private-key-file={serving.key}",
            f"--client-ca-file={authority.certificate}",
            f"--write-timeout={write_timeout_seconds}s",
        ]
        self.process = Process("kubelet", command, self.folder / "kubelet.log")

    def start(self) -> None:
        """Start it and wait until it accepts; StartError if it does not."""
        self.process.spawn()
        self.process.wait_until(lambda: accepts(self.port), seconds=15)
