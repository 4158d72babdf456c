"""The log endpoint of the nodes: a small program around the kubelet's own reader (go/kubernetes/kubelet)."""

import shutil
import tempfile
from pathlib import Path
from typing import Self

from tests.testbed import parts
from tests.testbed.certs import Authority
from tests.testbed.process import Process, accepts, free_port


class Kubelet:
    """One endpoint, for as many nodes as name its port. Logs and port outlive kill(); close() ends it all.

    `write_timeout_seconds` is the hard limit of every response, 4 h in a cluster.
    """

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

    def stop(self) -> None:
        """End it (SIGTERM); a kubelet, too, cuts its streams."""
        self.process.stop(seconds=5)

    def kill(self) -> None:
        """End it as a crash does (SIGKILL)."""
        self.process.kill()

    def freeze(self) -> None:
        """Stop it where it stands (SIGSTOP), as on a hung node."""
        self.process.freeze()

    def resume(self) -> None:
        """Let a frozen one go on."""
        self.process.resume()

    def close(self) -> None:
        """End it and remove all logs."""
        self.process.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

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
