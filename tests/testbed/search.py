"""A real Elasticsearch node, alone and on loopback: what the consumer examples write to."""

import json
import re
import tempfile
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.testbed import parts
from tests.testbed.process import Process, accepts, free_port
from tests.testbed.served import Served

_FOLDER = parts.HERE / "elasticsearch"
_POM = _FOLDER / "pom.xml"
_JVM = ["-Xms128m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]


def _copy(_part: parts.Part, into: Path) -> None:
    parts.java()
    parts.copy_jars(_POM, into)


def elasticsearch() -> str:
    """Return the class path of the node."""
    pin = re.search(r"<artifactId>elasticsearch</artifactId>\s*<version>([\d.]{5,})", _POM.read_text())
    assert pin, "elasticsearch/pom.xml does not pin Elasticsearch"
    part = parts.Part("elasticsearch", pin[1], inputs=[_POM], flags=[], takes="about 10 s", build=_copy)
    return f"{part.folder()}/*"


class Elasticsearch(Served):
    """One node; nobody needs a password."""

    def __init__(self) -> None:
        classes = elasticsearch()
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="falco-streamer-elasticsearch-"))
        # Java compiles the one file as it starts it.
        command = [parts.java(), *_JVM, "-cp", classes, str(_FOLDER / "SearchNode.java")]
        command += [str(self.folder), str(self.port)]
        self.process = Process("Elasticsearch", command, self.folder / "elasticsearch.log")

    def start(self) -> None:
        """Start it and wait until it serves (about 6 s): it opens the port when it has elected itself."""
        self.process.spawn()
        self.process.wait_until(lambda: accepts(self.port), seconds=90)

    def request(self, method: str, path: str, body: Any) -> Any:
        """Send a body and return the answer, both JSON. Raises `urllib.error.HTTPError` for a refusal."""
        return self._send(method, path, json.dumps(body).encode(), "application/json")

    def index(self, index: str, documents: Iterable[tuple[str, bytes]]) -> None:
        """Write documents under their ids, as the examples do, so that they can be found at once."""
        lines = [
            line
            for name, value in documents
            for line in (json.dumps({"create": {"_id": name}}).encode(), value)
        ]
        body = b"\n".join(lines) + b"\n"
        answer = self._send("POST", f"/{index}/_bulk?refresh=true", body, "application/x-ndjson")
        assert not answer["errors"], answer

    def _send(self, method: str, path: str, body: bytes, kind: str) -> Any:
        url = f"http://127.0.0.1:{self.port}{path}"
        request = urllib.request.Request(url, body, {"Content-Type": kind}, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)
