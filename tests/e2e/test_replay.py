"""`falco-streamer replay` on files as people have them."""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import subprocess
from pathlib import Path
from typing import Any

import orjson
import pytest

from streamer.simulator import AlertGenerator
from streamer.sink.mock_broker import MockBroker
from streamer.source.files import FileError, FileReader
from tests.e2e.program import COMMAND, environment, run
from tests.testbed.crilog import record
from tests.unit.sink.samples import connection, read
from tests.unit.transform.samples import SECOND_NS, START_NS, stamped

GENERATOR = AlertGenerator(3, sources=("syscall", "k8s_audit"))
TIMES = [START_NS + n * SECOND_NS for n in range(200)]
ALERTS = [GENERATOR.alert(time_ns, "node-1") for time_ns in TIMES]
PRINTED = b"".join(alert + b"\n" for alert in ALERTS)
LOG = b"".join(stamped(alert, at) + b"\n" for at, alert in zip(TIMES, ALERTS, strict=True))

WHOLE = ("--set", "dedupe.enabled=false", "--set", "limits.enabled=false")
"""Every alert passes, so that what comes out can be compared byte for byte."""


def ledger_of(stderr: bytes) -> dict[str, Any]:
    """The last line on stderr."""
    return dict(orjson.loads(stderr.splitlines()[-1]))


def test_values_are_printed_byte_for_byte_whatever_the_file_is(tmp_path: Path) -> None:
    contents = [PRINTED, LOG, gzip.compress(PRINTED), gzip.compress(LOG)]
    files = [tmp_path / f"falco-{n}.log" for n in range(len(contents))]
    for file, content in zip(files, contents, strict=True):
        file.write_bytes(content)
    done = run("replay", *WHOLE, *files)
    assert done.stdout == PRINTED * len(files)
    assert done.returncode == 0
    assert ledger_of(done.stderr)["published"] == len(ALERTS) * len(files)


@pytest.mark.parametrize("content", [PRINTED, gzip.compress(LOG)], ids=["alerts", "packed pod log"])
def test_standard_input_is_a_file_like_any_other(content: bytes) -> None:
    done = run("replay", *WHOLE, "--to", "stdout", "-", stdin=content)
    assert done.stdout == PRINTED
    assert done.returncode == 0


def test_json_has_topic_key_headers_and_the_value() -> None:
    done = run("replay", *WHOLE, "-o", "json", "-", stdin=PRINTED)
    assert done.returncode == 0, done.stderr
    shown = [orjson.loads(line) for line in done.stdout.splitlines()]
    assert [one["value"] for one in shown] == [orjson.loads(alert) for alert in ALERTS]
    for one in shown:
        assert one["topic"] == f"falco.alerts.{one['headers']['priority']}"
        assert one["headers"]["rule"] == one["value"]["rule"]
        assert (one["partition"], one["offset"]) == (None, None)
        assert one["headers"]["ce_id"]


def test_json_is_for_standard_output() -> None:
    done = run("replay", "--to", "null", "-o", "json", "-", stdin=PRINTED)
    assert done.returncode == 2
    assert b"json is for --to stdout" in done.stderr


def test_the_drops_of_each_filter_are_shown_before_the_ledger(tmp_path: Path) -> None:
    settings = tmp_path / "streamer.yaml"
    settings.write_text(
        """
min_priority: debug
filters:
  - {name: audit, action: drop, match: 'source = "k8s_audit"', reason: r}
  - {name: mine, action: keep, match: 'rule =~ "x.*"', reason: r}
  - {action: drop, match: 'rule = "no such rule"', reason: r}
"""
    )
    done = run("replay", *WHOLE, "--config", settings, "-", stdin=PRINTED)
    dropped = sum(orjson.loads(alert)["source"] == "k8s_audit" for alert in ALERTS)
    assert 0 < dropped < len(ALERTS) == 200
    *_, first, second, ledger = done.stderr.decode().splitlines()
    assert first == f"filter audit dropped {dropped} of 200 alerts ({dropped / 200:.1%})"
    assert second == "filter filters[2] dropped 0 of 200 alerts (0.0%)"
    assert orjson.loads(ledger)["filtered"] == dropped
    assert "mine" not in done.stderr.decode()


def test_odd_files_lose_nothing(tmp_path: Path) -> None:
    contents = {
        "CRLF": PRINTED.replace(b"\n", b"\r\n"),
        "a log with CRLF": LOG.replace(b"\n", b"\r\n"),
        "no last newline": PRINTED[:-1],
        "a log without one": LOG[:-1],
        "empty": b"",
        "an empty line": b"\n",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    done = run("replay", *WHOLE, *(tmp_path / name for name in contents))
    assert done.stdout.replace(b"\r\n", b"\n") == PRINTED * 4
    assert done.returncode == 0
    found = ledger_of(done.stderr)
    assert (found["lines"], found["log_lines"], found["balanced"]) == (801, 1, True)


def test_a_ledger_is_written_and_is_that_of_all_files(tmp_path: Path) -> None:
    one, other, ledger = tmp_path / "one", tmp_path / "other.gz", tmp_path / "ledger.json"
    one.write_bytes(PRINTED + b"Fri Nov 20 10:00:00 2026: Loading rules from:\n" + b'{"broken\n' * 3)
    other.write_bytes(gzip.compress(LOG))
    done = run("replay", *WHOLE, "--to", "null", "--ledger", ledger, one, other)
    assert (done.returncode, done.stdout) == (0, b"")
    found = orjson.loads(ledger.read_bytes())
    assert found == ledger_of(done.stderr)
    assert found["balanced"] is True
    assert (found["lines"], found["published"], found["log_lines"], found["invalid"]) == (404, 400, 1, 3)


def test_a_file_without_an_alert_is_told_of(tmp_path: Path) -> None:
    contents = {
        "empty": b"",
        "words": b"hello\n" * 3,
        "text": b"10:00:00.1: Warning Shell (user=root)\n",
        "good": PRINTED,
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    done = run("replay", "--to", "null", *(tmp_path / name for name in contents))
    assert done.returncode == 0
    fix = "replay reads what Falco prints with json_output: true"
    assert done.stderr.decode().splitlines()[:-1] == [
        f"warning: {tmp_path}/empty: it is empty",
        f"warning: {tmp_path}/words: none of its 3 lines is an alert; {fix}",
        f"warning: {tmp_path}/text: none of its 1 lines is an alert; {fix}",
    ]
    nothing = run("replay", "--to", "null", "-")
    assert nothing.stderr.decode().splitlines()[:-1] == ["warning: standard input: it is empty"]


@pytest.mark.parametrize(
    ("packed", "by", "unpack"),
    [
        (bz2.compress(PRINTED), "bzip2", "bzcat"),
        (lzma.compress(PRINTED), "xz", "xzcat"),
        (bytes.fromhex("28b52ffd") + b"x" * 100, "zstd", "zstdcat"),
        (b"PK\x03\x04" + b"x" * 100, "zip", "unzip -p"),
    ],
    ids=["bzip2", "xz", "zstd", "zip"],
)
def test_what_is_packed_otherwise_is_one_line_with_the_way_to_read_it(
    packed: bytes, by: str, unpack: str, tmp_path: Path
) -> None:
    file = tmp_path / "falco.log"
    file.write_bytes(packed)
    done = run("replay", "--to", "null", file)
    assert done.returncode == 1
    said = f"error: {file}: it is packed by {by}: {unpack} {file} | falco-streamer replay -\n"
    assert done.stderr.decode() == said


CASES = Path(__file__).parents[1] / "unit" / "source" / "saved"


@pytest.mark.parametrize(
    ("case", "published", "invalid"),
    [("cut-head-timestamps.log", 5, 1), ("cri-file.log", 2, 0), ("bom.jsonl", 2, 0)],
)
def test_saved_logs_as_people_have_them_lose_no_alert(case: str, published: int, invalid: int) -> None:
    done = run("replay", *WHOLE, "--to", "null", CASES / case)
    assert done.returncode == 0
    found = ledger_of(done.stderr)
    assert (found["published"], found["invalid"], found["balanced"]) == (published, invalid, True)


def test_a_nodes_files_are_printed_as_falco_wrote_them(tmp_path: Path) -> None:
    records = [record(alert, at=at) for at, alert in zip(TIMES, ALERTS, strict=True)]
    text = record(b"Fri Nov 20 10:00:00 2026: Loading rules", at=TIMES[0], stream="stderr")
    docker = [
        orjson.dumps({"log": alert.decode() + "\n", "stream": "stdout", "time": "2026-11-20T10:00:00.1Z"})
        for alert in ALERTS
    ]
    cri, packed, json_file = (
        tmp_path / "0.log",
        tmp_path / "0.log.20261120-100000.gz",
        tmp_path / "id-json.log",
    )
    cri.write_bytes(text + b"".join(records))
    packed.write_bytes(gzip.compress(b"".join(records)))
    json_file.write_bytes(b"\n".join(docker) + b"\n")
    done = run("replay", *WHOLE, cri, packed, json_file)
    assert done.returncode == 0
    assert done.stdout == PRINTED * 3
    assert (ledger_of(done.stderr)["log_lines"], ledger_of(done.stderr)["invalid"]) == (1, 0)
    # Copied away from where they were, they do not say whose log they are.
    warned = [line for line in done.stderr.splitlines() if b"give --target" in line]
    assert [line.split(b": ")[1] for line in warned] == [bytes(path) for path in (cri, packed, json_file)]
    done = run("replay", *WHOLE, "--target", "falco/falco-a/uid/falco", cri)
    assert done.stdout == PRINTED
    assert b"warning" not in done.stderr


def test_what_is_refused_is_one_line_before_anything_is_printed(tmp_path: Path) -> None:
    good, array, text = tmp_path / "good.log", tmp_path / "array.json", tmp_path / "text.log"
    good.write_bytes(PRINTED)
    array.write_bytes(b"[" + b",".join(ALERTS) + b"]")
    text.write_bytes(b"10:00:00.123456789: Warning Shell (user=root)\n" * 300)
    for files, said in (
        ([good, array], f"{array}: an array in JSON: jq -c '.[]' {array} | falco-streamer replay -"),
        (
            [good, text],
            f"{text}: 100 of its first 100 lines are invalid: alerts printed as text: set json_output: true in Falco",
        ),
    ):
        done = run("replay", *files)
        assert (done.returncode, done.stdout, done.stderr.decode()) == (1, b"", f"error: {said}\n")
    piped = run("replay", "-", stdin=array.read_bytes())
    assert piped.returncode == 1
    assert piped.stderr == b"error: standard input: an array in JSON: put jq -c '.[]' before it\n"


@pytest.mark.parametrize("target", ["falco", "a/b/c", "a/b/c/d/e", "a//b/c"])
def test_a_target_that_is_none_is_a_usage_error(target: str, tmp_path: Path) -> None:
    done = run("replay", "--target", target, tmp_path)
    assert done.returncode == 2
    assert b"expected NAMESPACE/POD/UID/CONTAINER" in done.stderr


def test_a_gap_file_without_gaps_is_a_usage_error(tmp_path: Path) -> None:
    file = tmp_path / "gaps.jsonl"
    file.write_bytes(PRINTED)
    done = run("replay", "--gap", file, file)
    assert done.returncode == 2
    assert b"there is no gap record in it" in done.stderr


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    done = run("replay", tmp_path / "nothing.log")
    assert done.returncode == 1
    assert done.stderr.decode() == f"error: {tmp_path}/nothing.log: No such file or directory\n"


def test_a_gzip_that_was_cut_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "cut.gz"
    file.write_bytes(gzip.compress(PRINTED)[:2000])
    done = run("replay", "--to", "null", file)
    assert done.returncode == 1
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith(f"error: {file}: ")


@pytest.mark.parametrize("kept", [2, 3, 9, 11, 40, -9, -4, -1])
def test_a_gzip_cut_anywhere_is_no_shorter_file(kept: int, tmp_path: Path) -> None:
    file = tmp_path / "cut.gz"
    file.write_bytes(gzip.compress(PRINTED)[:kept])
    with pytest.raises(FileError, match=re.escape(str(file))):
        list(FileReader(786_432).read(str(file)))


def test_a_ledger_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "falco.log"
    file.write_bytes(PRINTED)
    done = run("replay", *WHOLE, "--to", "null", "--ledger", tmp_path / "no" / "ledger.json", file)
    assert done.returncode == 1
    assert done.stderr.decode().splitlines()[-1].startswith("error: the ledger cannot be written to ")
    assert b"Traceback" not in done.stderr


def test_whoever_has_seen_enough_may_close_the_pipe(tmp_path: Path) -> None:
    file = tmp_path / "long.log"
    file.write_bytes(PRINTED * 300)
    with subprocess.Popen(
        [*COMMAND, "replay", str(file)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == ALERTS[0] + b"\n"
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=20) == 1


async def test_the_same_file_gives_the_same_records_each_time(tmp_path: Path) -> None:
    file = tmp_path / "falco.log"
    file.write_bytes(LOG + stamped(b'{"broken', TIMES[-1]) + b"\n")
    found = []
    for _ in range(2):
        with MockBroker() as broker:
            done = run(
                "replay", "--to", "kafka", "--set", f"kafka.bootstrap_servers={broker.bootstrap}",
                "--set", "topics.create=true", "--set", "topics.prefix=r", file,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr.decode()
            topics = [f"r.alerts.{name}" for name in ("critical", "error", "warning", "notice")]
            seen = await read(connection(broker.bootstrap), *topics, "r.dead-letter")
        found.append(sorted((one.topic, one.key, one.value, one.header("ce_id")) for one in seen))
    assert found[0] == found[1]
    assert len({identity for *_, identity in found[0]}) == len(found[0]) > 100
    assert [topic for topic, *_ in found[0] if topic == "r.dead-letter"] == ["r.dead-letter"]


def test_kafka_away_is_told_in_a_line_and_by_69(tmp_path: Path) -> None:
    file = tmp_path / "falco.log"
    file.write_bytes(PRINTED)
    done = run("replay", "--to", "kafka", "--set", "kafka.bootstrap_servers=127.0.0.1:1", file)
    assert done.returncode == 69
    assert b"cannot reach 127.0.0.1:1: connection refused" in done.stderr
    assert b"Traceback" not in done.stderr
