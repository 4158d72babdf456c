"""A Kafka Connect worker in standalone mode, with the file connector."""

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from tests.testbed import parts
from tests.testbed.process import Process
from tests.testbed.served import Served

_POM = parts.HERE / "connect" / "pom.xml"
_JVM = ["-Xms64m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
_LOGGING = ["-Dorg.apache.logging.log4j.level=INFO"]


def _copy(_part: parts.Part, into: Path) -> None:
    parts.java()
    parts.copy_jars(_POM, into)


def connect() -> str:
    """Return the class path of the worker."""
    pin = re.search(r"<artifactId>connect-runtime</artifactId>\s*<version>([^<]+)", _POM.read_text())
    assert pin, "connect/pom.xml does not pin Kafka Connect"
    part = parts.Part("connect", pin[1], inputs=[_POM], flags=[], takes="about 10 s", build=_copy)
    return f"{part.folder()}/*"


def changed(properties: str, changes: Mapping[str, str]) -> str:
    """Return the text of a properties file with other values of some keys, and with keys that it has not."""
    lines = [line for line in properties.splitlines() if line.partition("=")[0] not in changes]
    return "\n".join([*lines, *(f"{key}={value}" for key, value in changes.items()), ""])


class ConnectWorker(Served):
    """One worker with one connector, from the texts of their properties files."""

    STOP_SECONDS: ClassVar[float] = 30

    def __init__(self, worker: str, connector: str) -> None:
        classes = connect()
        self.folder = Path(tempfile.mkdtemp(prefix="falco-streamer-connect-"))
        files = [self.folder / "worker.properties", self.folder / "connector.properties"]
        for file, text in zip(files, (worker, connector), strict=True):
            file.write_text(text)
        command = [parts.java(), *_JVM, *_LOGGING, "-cp", classes]
        command += ["org.apache.kafka.connect.cli.ConnectStandalone", *map(str, files)]
        self.process = Process("Kafka Connect", command, self.folder / "connect.log")

    def start(self) -> None:
        """Start it and wait until its task has partitions to read (about 5 s)."""
        self.process.spawn()
        self.process.wait_until(lambda: self.process.has_said(r"Adding newly assigned"), seconds=60)
