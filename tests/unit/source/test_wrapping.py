"""Files that hold no lines of Falco's are refused by their beginning, with the command that makes lines of them."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import threading
from pathlib import Path

import orjson
import pytest

from streamer.source.files import FileError, FileReader
from tests.unit.transform.samples import SECOND_NS, START_NS, alert, stamped

ALERTS = [alert(START_NS + n * SECOND_NS) for n in range(20)]
VALUES = [orjson.loads(one) for one in ALERTS]
PRINTED = b"".join(one + b"\n" for one in ALERTS)
TEXT = b"10:00:00.123456789: Warning Shell opened (user=root)\n"
MOST = 786_432


def hit(value: object) -> dict[str, object]:
    return {"_index": "falco", "_id": "1", "_score": None, "_source": value}


def prefixed(prefix: bytes, *, times: bool = False) -> bytes:
    return b"".join(prefix + (stamped(one, START_NS) if times else one) + b"\n" for one in ALERTS)


HITS = {"took": 3, "timed_out": False, "hits": {"total": {"value": 20}, "hits": [hit(one) for one in VALUES]}}
KUBECTL = b"[pod/falco-x7k2p/falco] "
WRAPPED = {
    "kubectl logs --prefix": (prefixed(KUBECTL), "sed"),
    "kubectl logs --prefix --timestamps": (prefixed(KUBECTL, times=True), "sed"),
    "one odd line, then a prefix": (b"Defaulted container\n" + prefixed(KUBECTL), "sed"),
    "stern": (prefixed(b"falco-x7k2p falco "), "sed"),
    "stern of all namespaces": (prefixed(b"falco falco-x7k2p falco "), "sed"),
    "stern in colour": (prefixed(b"\x1b[32mfalco-x7k2p\x1b[0m \x1b[33mfalco\x1b[0m "), "sed"),
    "stern as JSON": (
        b"".join(orjson.dumps({"message": one.decode(), "nodeName": "n"}) + b"\n" for one in ALERTS),
        "jq",
    ),
    "docker compose": (prefixed(b"falco-1  | "), "sed"),
    "syslog": (prefixed(b"Nov 20 10:00:00 node-1 falco[1]: "), "sed"),
    "an array": (orjson.dumps(VALUES), "jq"),
    "an array of several lines": (b"[\n" + b",\n".join(ALERTS) + b"\n]\n", "jq"),
    "an array, indented": (json.dumps(VALUES, indent=2).encode(), "jq"),
    "an array longer than the head": (orjson.dumps(VALUES * 200), "jq"),
    "Elasticsearch": (orjson.dumps(HITS), "jq"),
    "Elasticsearch, indented": (json.dumps(HITS, indent=2).encode(), "jq"),
    "Elasticsearch, longer than the head": (
        orjson.dumps({"took": 1, "hits": {"hits": [hit(one) for one in VALUES * 200]}}),
        "jq",
    ),
    "hits, one a line": (b"".join(orjson.dumps(hit(one)) + b"\n" for one in VALUES), "jq"),
    "pretty-printed": (b"\n".join(json.dumps(one, indent=2).encode() for one in VALUES), "jq"),
    "pretty-printed by tabs": (b"\n".join(json.dumps(one, indent="\t").encode() for one in VALUES), "jq"),
    "a shipper's records": (
        b"".join(
            orjson.dumps({"@timestamp": "x", "log": one.decode(), "kubernetes": {}}) + b"\n" for one in ALERTS
        ),
        "jq",
    ),
    "a shipper's that look like Docker's": (
        b"".join(
            orjson.dumps({"log": one.decode(), "stream": "stdout", "time": "2026-11-20T10:00:00Z"}) + b"\n"
            for one in ALERTS
        ),
        "jq",
    ),
    "a key that jq must quote": (b"".join(orjson.dumps({"a-b": {"c": one}}) + b"\n" for one in VALUES), "jq"),
    "UTF-16": (PRINTED.decode().encode("utf-16"), "iconv"),
    "UTF-16 with CR LF": (PRINTED.replace(b"\n", b"\r\n").decode().encode("utf-16"), "iconv"),
    "UTF-16, big end first": (b"\xfe\xff" + PRINTED.decode().encode("utf-16-be"), "iconv"),
    "UTF-16 without a mark": (PRINTED.decode().encode("utf-16-le"), "iconv"),
    "UTF-32": (PRINTED.decode().encode("utf-32"), "iconv"),
}


def refusal(file: Path) -> str:
    with pytest.raises(FileError) as raised:
        FileReader(MOST).examine([str(file)])
    return str(raised.value)


@pytest.mark.parametrize("kind", WRAPPED)
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_what_is_wrapped_is_refused_with_the_command_that_unwraps_it(
    kind: str, packed: bool, tmp_path: Path
) -> None:
    content, tool = WRAPPED[kind]
    file = tmp_path / "it's.log"
    file.write_bytes(gzip.compress(content) if packed else content)
    said = refusal(file)
    assert "\n" not in said
    assert said.endswith(" | falco-streamer replay -")
    unwrap = said[said.index(f" {'zcat' if packed else tool} ") : said.rindex(" | falco-streamer")]
    if shutil.which(tool) is None:
        pytest.skip(f"there is no {tool} here")
    done = subprocess.run(["bash", "-o", "pipefail", "-c", unwrap], capture_output=True, check=True)
    lines = [line[line.index(b"{") :] for line in done.stdout.splitlines() if b"{" in line]
    assert [orjson.loads(line) for line in lines] == VALUES * (len(lines) // len(VALUES))
    assert lines


def test_the_way_that_avoids_it_is_named_as_well(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_bytes(prefixed(KUBECTL))
    assert ": save it without --prefix, or: sed -E" in refusal(file)
    file.write_bytes(prefixed(b"falco-x7k2p falco "))
    assert ": run stern with --output raw, or: sed " in refusal(file)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (TEXT * 50, "50 of its first 50 lines are invalid: alerts printed as text: set json_output: true in Falco"),
        (TEXT, "its line is invalid: alerts printed as text"),
        (b"Fri Nov 20 10:00:00 2026: Falco\n" * 60 + TEXT * 60, "alerts printed as text"),
        (b'{"level":"info","msg":"x"}\n' * 200, '100 of its first 100 lines are invalid (not_an_alert: no "rule"'),
        (b'{"rule":"r","priority":"P1"}\n' * 5 + PRINTED[:0], "5 of its first 5 lines are invalid (unknown_priority"),
        (b'{"broken\n' * 300 + PRINTED, "100 of its first 100 lines are invalid (invalid_json"),
    ],
)  # fmt: skip
def test_a_file_of_which_nearly_all_is_invalid_is_refused(content: bytes, said: str, tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_bytes(content)
    assert said in refusal(file)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        PRINTED,
        PRINTED + TEXT * 100,
        b'{"broken\n' * 5 + PRINTED,
        b"Fri Nov 20 10:00:00 2026: Falco\n" * 20 + b'amespace":"shop"}}\n',
        b"hello\n" * 3,
        b"\xef\xbb\xbf" + PRINTED,
        ALERTS[0],
        ALERTS[0][:-1] + b',"more":[{"rule":"r","priority":"Debug"}]}',
        stamped(b"Fri Nov 20 10:00:00 2026: Falco {", START_NS),
        b"x" * 2_000_000,
    ],
)
def test_what_has_alerts_or_only_text_is_read(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_bytes(content)
    reader = FileReader(MOST)
    reader.examine([str(file)])
    assert sum(len(batch.lines) for batch in reader.read(str(file))) == len(content.splitlines())


def test_every_file_is_looked_at_before_any_is_read(tmp_path: Path) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.write_bytes(PRINTED)
    bad.write_bytes(TEXT)
    with pytest.raises(FileError, match=r"/bad: its line is invalid"):
        FileReader(MOST).examine([str(good), str(bad)])


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_a_pipe_is_looked_at_and_then_read_from_its_first_byte(pack: type[bytes], tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    content = PRINTED * 100
    writer = threading.Thread(target=lambda: pipe.write_bytes(pack(content)))
    writer.start()
    reader = FileReader(MOST)
    reader.examine([str(pipe)])
    assert [line for batch in reader.read(str(pipe)) for line in batch.lines] == content.splitlines()
    writer.join()
