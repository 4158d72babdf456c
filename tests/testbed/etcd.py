"""A real etcd, alone and on loopback, for the API server to keep its objects in."""

from pathlib import Path

from tests.testbed.process import Process, accepts, free_port


class Etcd:
    """One member; its data and ports outlive kill(), so that start() is a restart."""

    def __init__(self, program: Path, folder: Path) -> None:
        self.port, peers = free_port(), free_port()
        client, peer = self.url, f"http://127.0.0.1:{peers}"
        command = [
            str(program),
            "--name=testbed",
            f"--data-dir={folder / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=testbed={peer}",
            "--unsafe-no-fsync",  # the data need not survive the machine, only the process
            "--log-level=warn",
        ]
        self.process = Process("etcd", command, folder / "etcd.log")

    @property
    def url(self) -> str:
        """The client URL."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it and wait until it serves: it opens the client port when it has joined."""
        self.process.spawn()
        self.process.wait_until(lambda: accepts(self.port), seconds=30)
