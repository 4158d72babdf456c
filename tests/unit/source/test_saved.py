"""Saved logs and log files of nodes, as the log API would have served their lines."""

from __future__ import annotations

import gzip
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.model import LogBatch
from streamer.source.files import FileReader
from streamer.source.saved import SavedLines
from streamer.transform.read import LineReader, StampedLines
from streamer.transform.stamp import to_rfc3339
from tests.testbed.crilog import record
from tests.unit.transform.samples import SECOND_NS, START_NS, alert, stamped

CASES = Path(__file__).with_name("saved")
PART_BYTES = 16384
ALERT = alert(START_NS)
STAMPED = stamped(ALERT, START_NS)
MOST = 786_432


def read(content: bytes, chunk_bytes: int = 0) -> list[tuple[bytes, int | None]]:
    """The lines with their times, of a file that comes in chunks."""
    saved = SavedLines(MOST)
    step = chunk_bytes or len(content) or 1
    runs = [run for at in range(0, len(content), step) for run in saved.feed(content[at : at + step])]
    runs += [*saved.end_file(), *saved.finish()]
    return [
        (line, run.times_ns[index] if isinstance(run, StampedLines) else None)
        for run in runs
        for index, line in enumerate(run.lines)
    ]


def lines_of(content: bytes) -> list[bytes]:
    return [line for line, _ in read(content)]


def batches(name: Path) -> list[LogBatch]:
    reader = FileReader(MOST)
    reader.examine([str(name)])
    return list(reader.read(str(name)))


@pytest.mark.parametrize(
    ("case", "alerts"), [("cut-head-timestamps.log", 5), ("cri-file.log", 2), ("bom.jsonl", 2)]
)
def test_files_as_people_have_them_lose_no_alert(case: str, alerts: int) -> None:
    found = [
        line[line.index(b" {") + 1 :] if batch.stamped else line
        for batch in batches(CASES / case)
        for line in batch.lines
    ]
    assert len([line for line in found if line.startswith(b"{") and orjson.loads(line)["rule"]]) == alerts


@pytest.mark.parametrize(
    "odd",
    [
        b'Defaulted container "falco" out of: falco, falcoctl-artifact-follow',
        b'amespace":"shop"}}',
        b"",
        b"2026-11-20T10:0",
        b"failed to create fsnotify watcher: too many open files",
    ],
)
@pytest.mark.parametrize("at", [0, 1, 3])
def test_an_odd_line_costs_nothing_but_itself(odd: bytes, at: int) -> None:
    lines = [stamped(ALERT, START_NS + n) for n in range(3)]
    lines.insert(at, odd)
    found = read(b"".join(line + b"\n" for line in lines))
    assert [line for line, _ in found] == lines
    assert [time for _, time in found] == [
        None if line is odd else START_NS + lines.index(line) - (lines.index(line) > at) for line in lines
    ]


def test_a_file_may_have_lines_with_and_without_timestamps() -> None:
    found = read(ALERT + b"\n" + STAMPED + b"\n" + ALERT + b"\n")
    assert found == [(ALERT, None), (STAMPED, START_NS), (ALERT, None)]


@pytest.mark.parametrize(
    ("written", "served"),
    [
        (b"2026-11-20T10:00:00.123456789Z", b"2026-11-20T10:00:00.123456789Z"),
        (b"2026-11-20T10:00:00.1234+00:00", b"2026-11-20T10:00:00.123400000Z"),
        (b"2026-11-20T12:00:00.1+02:00", b"2026-11-20T12:00:00.100000000+02:00"),
        (b"2026-11-20T04:30:00-05:30", b"2026-11-20T04:30:00.000000000-05:30"),
    ],
)
def test_a_runtimes_time_is_written_as_the_kubelet_serves_it(written: bytes, served: bytes) -> None:
    assert lines_of(written + b" stdout F " + ALERT + b"\n") == [served + b" " + ALERT]


@pytest.mark.parametrize("tag", [b"F", b"F:tag", b"F:a:b"])
def test_tags_may_follow(tag: bytes) -> None:
    assert lines_of(b"2026-11-20T10:00:00.000000000Z stdout " + tag + b" " + ALERT + b"\n") == [STAMPED]


def test_parts_are_joined_until_the_last_one_and_stderr_does_not_get_between() -> None:
    text = b"Fri Nov 20 10:00:00 2026: a rule is slow"
    content = (
        record(ALERT[:10], at=START_NS, tag="P")
        + record(text[:5], at=START_NS + 1, stream="stderr", tag="P")
        + record(ALERT[10:50], at=START_NS + 2, tag="P")
        + record(text[5:], at=START_NS + 3, stream="stderr")
        + record(ALERT[50:], at=START_NS + 4)
    )
    assert read(content) == [(stamped(text, START_NS + 1), START_NS + 1), (STAMPED, START_NS)]


def test_an_empty_record_is_an_empty_line() -> None:
    assert (
        lines_of(b"2026-11-20T10:00:00Z stdout F \n2026-11-20T10:00:00Z stdout F\n")
        == [b"2026-11-20T10:00:00.000000000Z "] * 2
    )


def test_what_has_no_last_part_is_a_line_at_the_end() -> None:
    assert lines_of(record(ALERT[:10], at=START_NS, tag="P")) == [stamped(ALERT[:10], START_NS)]


def docker(text: str, at: int, stream: str = "stdout") -> bytes:
    return orjson.dumps({"log": text, "stream": stream, "time": to_rfc3339(at)}) + b"\n"


def test_dockers_records_are_the_lines_that_they_hold() -> None:
    body = alert(START_NS, output="<é>\u2028 & more").decode()
    escaped = docker(body + "\n", START_NS).replace(b"<", b"\\u003c").replace(b"&", b"\\u0026")
    attributes = b'{"log":"x\\n","stream":"stderr","attrs":{"a":"b"},"time":"2026-11-20T10:00:00.5Z"}\n'
    parts = (
        docker(body[:9], START_NS)
        + docker("oops\n", START_NS + 1, "stderr")
        + docker(body[9:] + "\n", START_NS + 2)
    )
    assert lines_of(escaped + attributes + parts) == [
        stamped(body.encode(), START_NS),
        b"2026-11-20T10:00:00.500000000Z x",
        stamped(b"oops", START_NS + 1),
        stamped(body.encode(), START_NS),
    ]


@pytest.mark.parametrize(
    "line",
    [
        b'{"log":"cut',
        b'{"log":"x\\n","stream":"stdout"}',
        b'{"log":1,"stream":"stdout","time":"2026-11-20T10:00:00Z"}',
        b'{"log":"x\\n","stream":"stdout","time":"yesterday"}',
        b'{"log":"x\\n","stream":"stdout","time":"\xc3\xa9"}',
    ],
)
def test_what_only_looks_like_dockers_stays_as_it_is(line: bytes) -> None:
    assert lines_of(line + b"\n") == [line]


@given(
    texts=st.lists(
        st.tuples(st.binary(max_size=40).filter(lambda t: b"\n" not in t), st.booleans()), max_size=8
    ),
    part_bytes=st.integers(1, 20),
    chunk_bytes=st.integers(1, 200),
)
def test_any_log_in_any_parts_and_chunks_is_what_the_api_serves(
    texts: list[tuple[bytes, bool]], part_bytes: int, chunk_bytes: int
) -> None:
    content, expected = b"", []
    for number, (text, is_stderr) in enumerate(texts):
        at = START_NS + number * SECOND_NS
        parts = [text[i : i + part_bytes] for i in range(0, len(text), part_bytes)] or [b""]
        stream = "stderr" if is_stderr else "stdout"
        for part in parts[:-1]:
            content += record(part, at=at, stream=stream, tag="P")
        content += record(parts[-1], at=at, stream=stream)
        expected.append((stamped(text, at), at))
    assert read(content, chunk_bytes) == expected


def test_a_joined_line_that_is_too_long_is_known_as_live() -> None:
    body = b"x" * (PART_BYTES * 4)
    parts = [body[i : i + PART_BYTES] for i in range(0, len(body), PART_BYTES)]
    content = b"".join(record(part, at=START_NS, tag="P") for part in parts) + record(b"end", at=START_NS)
    saved, live = SavedLines(40_000), LineReader(40_000)
    (run,) = saved.feed(content)
    served = live.feed(stamped(body + b"end", START_NS) + b"\n")
    assert (run.lines, run.oversize) == (served.lines, served.oversize)
    assert run.oversize


POD = "falco_falco-x7k2p_0d2b4c1e-5f60-4f6e-9a51-7e1d2c3b4a59/falco"


def test_rotated_files_of_one_container_are_one_log(tmp_path: Path) -> None:
    folder = tmp_path / POD
    folder.mkdir(parents=True)
    second = alert(START_NS + SECOND_NS)
    older = record(ALERT, at=START_NS) + record(second[:20], at=START_NS + SECOND_NS, tag="P")
    (folder / "0.log.20261120-100000.gz").write_bytes(gzip.compress(older))
    (folder / "0.log.20261120-100500").write_bytes(record(second[20:], at=START_NS + SECOND_NS + 5))
    (folder / "0.log").write_bytes(
        record(second, at=START_NS + 9 * SECOND_NS) + record(b"cut", at=START_NS, tag="P")
    )
    (folder / "1.log").write_bytes(record(ALERT, at=START_NS + 10 * SECOND_NS))
    reader = FileReader(MOST, node="node-1")
    names = reader.examine(sorted(map(str, folder.iterdir())))
    assert [Path(name).name for name in names] == [
        "0.log.20261120-100000.gz",
        "0.log.20261120-100500",
        "0.log",
        "1.log",
    ]
    found = [
        batch
        for name, following in zip(names, [*names[1:], ""], strict=True)
        for batch in reader.read(name, following=following)
    ]
    assert [line for batch in found for line in batch.lines] == [
        STAMPED,
        stamped(second, START_NS + SECOND_NS),
        stamped(second, START_NS + 9 * SECOND_NS),
        stamped(b"cut", START_NS),
        stamped(ALERT, START_NS + 10 * SECOND_NS),
    ]
    assert {batch.target.id for batch in found} == {
        "falco/falco-x7k2p/0d2b4c1e-5f60-4f6e-9a51-7e1d2c3b4a59/falco"
    }
    assert {batch.target.node for batch in found} == {"node-1"}


def test_the_link_to_a_log_says_whose_it_is(tmp_path: Path) -> None:
    pods, containers = tmp_path / "pods" / POD, tmp_path / "containers"
    pods.mkdir(parents=True)
    containers.mkdir()
    (pods / "0.log").write_bytes(record(ALERT, at=START_NS))
    link = containers / "falco-x7k2p_falco_falco-0123.log"
    link.symlink_to(pods / "0.log")
    (batch,) = batches(link)
    assert batch.target.pod_name == "falco/falco-x7k2p"


def test_what_a_container_prints_as_if_docker_had_costs_no_buffer_for_each_name() -> None:
    """An attacker chooses the text of a line: a part without an end would be kept for each name of a stream."""
    lines = [b'{"log":"x","stream":"s%d","time":"2026-11-20T10:00:00Z"}' % n for n in range(1000)]
    saved = SavedLines(MOST)
    found = [line for run in saved.feed(b"\n".join(lines) + b"\n") for line in run.lines]
    assert found == lines
    assert not saved._streams
