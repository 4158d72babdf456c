import datetime as dt
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.simulator.logs import RECORD_BYTES, ContainerLog, LogReader

NOON = 1_770_000_000_000_000_000  # 2026-02-02T02:40:00Z
SECOND = 1_000_000_000


@dataclass(frozen=True)
class Record:
    text: bytes
    whole: bool
    time_ns: int


TEXTS = st.binary(min_size=1, max_size=40).map(lambda text: text.replace(b"\n", b"."))
TIMES = st.integers(NOON - 3 * SECOND, NOON + 3 * SECOND)
RECORDS = st.lists(st.builds(Record, TEXTS, st.booleans(), TIMES), max_size=12)


def write(log: ContainerLog, record: Record) -> None:
    if record.whole:
        log.append(record.text, record.time_ns)
    else:
        log.append_partial(record.text, record.time_ns)


def stamp(time_ns: int) -> bytes:
    second, nanosecond = divmod(time_ns, SECOND)
    at = dt.datetime.fromtimestamp(second, dt.UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{nanosecond:09d}Z ".encode()


def shown(records: list[Record], *, timestamps: bool = True, since_ns: int | None = None) -> bytes:
    """What the kubelet's reader makes of records: a stamp where the record before has ended its line."""
    body, inside = b"", False
    for record in records:
        if since_ns is None or record.time_ns >= since_ns:
            if timestamps and not inside:
                body += stamp(record.time_ns)
            body += record.text + (b"\n" if record.whole else b"")
        inside = not record.whole
    return body


def read_all(reader: LogReader, max_bytes: int = 1 << 18) -> bytes:
    body = b""
    while chunk := reader.read(max_bytes):
        body += chunk
    return body


@given(
    records=RECORDS,
    timestamps=st.booleans(),
    since_ns=st.none() | TIMES,
    tail=st.none() | st.integers(0, 14),
    max_bytes=st.integers(1, 300),
)
def test_a_request_shows_what_the_kubelets_reader_shows(
    records: list[Record], timestamps: bool, since_ns: int | None, tail: int | None, max_bytes: int
) -> None:
    log = ContainerLog()
    for record in records:
        write(log, record)
    reader = LogReader(log, timestamps=timestamps, since_ns=since_ns, tail_lines=tail)
    wanted = records if tail is None else records[len(records) - min(tail, len(records)) :]
    assert read_all(reader, max_bytes) == shown(wanted, timestamps=timestamps, since_ns=since_ns)
    assert reader.finished


@given(
    steps=st.lists(
        st.builds(Record, TEXTS, st.booleans(), TIMES) | st.sampled_from(["rotate", "read"]), max_size=25
    ),
    timestamps=st.booleans(),
    max_bytes=st.integers(1, 300),
)
def test_a_follower_reads_every_record_once_over_any_rotations(
    steps: list[Record | str], timestamps: bool, max_bytes: int
) -> None:
    log = ContainerLog()
    reader = LogReader(log, follow=True, timestamps=timestamps)
    body = b""
    current: list[Record] = []
    for step in steps:
        if isinstance(step, Record):
            write(log, step)
            current.append(step)
        elif step == "rotate":
            log.rotate()
            current = []
        else:
            body += reader.read(max_bytes)
    finished_before = reader.finished
    log.end()
    body += read_all(reader, max_bytes)
    assert (finished_before, reader.finished) == (False, True)
    assert body == shown([step for step in steps if isinstance(step, Record)], timestamps=timestamps)
    assert read_all(LogReader(log)) == shown(current)


@given(records=RECORDS, limit=st.integers(1, 400), timestamps=st.booleans())
def test_limit_bytes_cuts_what_would_be_shown(records: list[Record], limit: int, timestamps: bool) -> None:
    log = ContainerLog()
    for record in records:
        write(log, record)
    reader = LogReader(log, timestamps=timestamps, limit_bytes=limit)
    assert read_all(reader, 50) == shown(records, timestamps=timestamps)[:limit]
    assert reader.finished


def test_a_read_takes_many_lines_and_no_half_ones() -> None:
    log = ContainerLog()
    for n in range(10_000):
        log.append(b"x" * 100, NOON + n)
    chunk = LogReader(log).read(65_536)
    assert 65_536 - 132 < len(chunk) <= 65_536
    assert chunk.endswith(b"x\n")


def test_a_line_larger_than_the_read_comes_nevertheless() -> None:
    log = ContainerLog()
    log.append(b"x" * 1000, NOON)
    log.append(b"y", NOON)
    reader = LogReader(log, timestamps=False)
    assert reader.read(10) == b"x" * 1000 + b"\n"
    assert reader.read(10) == b"y\n"


def test_a_long_line_is_stored_in_records_of_containerds_size() -> None:
    log = ContainerLog()
    log.append(b"x" * (2 * RECORD_BYTES + 1), NOON)
    assert len(log.current.starts) == 3
    assert read_all(LogReader(log, tail_lines=1)) == stamp(NOON) + b"x\n"


def test_a_log_is_rotated_when_it_has_grown_to_its_size() -> None:
    log = ContainerLog(rotate_bytes=1000)
    for n in range(100):
        log.append(b"%090d" % n, NOON)
    assert log.rotations == 11
    assert len(log.current.data) <= 1000
    assert read_all(LogReader(log)).endswith(b"99\n")


def test_the_stamp_shows_the_nodes_zone() -> None:
    assert ContainerLog(utc_offset_minutes=330).stamp(NOON + 7) == b"2026-02-02T08:10:00.000000007+05:30 "
    assert ContainerLog(utc_offset_minutes=-210).stamp(NOON) == b"2026-02-01T23:10:00.000000000-03:30 "


def test_a_follower_in_another_zone_joins_a_line_over_a_rotation() -> None:
    log = ContainerLog(utc_offset_minutes=60)
    log.append_partial(b"head ", NOON)
    reader = LogReader(log, follow=True)
    assert reader.read() == b"2026-02-02T03:40:00.000000000+01:00 head "
    log.rotate()
    log.append(b"tail", NOON + 1)
    assert reader.read() == b"tail\n"


@pytest.mark.parametrize("text", [b"two\nlines", b"\n"])
def test_a_line_feed_inside_a_line_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match="part of one line"):
        ContainerLog().append(text, NOON)


def test_with_the_kubelets_bugs_a_rotation_during_the_first_pass_silences_the_stream() -> None:
    log = ContainerLog()
    log.append(b"old", NOON)
    reader = LogReader(log, follow=True, timestamps=False, rotation_bugs=True)
    log.rotate()
    log.append(b"new", NOON)
    assert reader.read() == b"old\n"
    assert reader.read() == b""
    log.append(b"newer", NOON)
    assert reader.read() == b""
    log.rotate()
    log.append(b"newest", NOON)
    assert reader.read() == b"newest\n"


def test_with_the_kubelets_bugs_two_rotations_lose_the_middle_and_double_the_last() -> None:
    log = ContainerLog()
    reader = LogReader(log, follow=True, timestamps=False, rotation_bugs=True)
    assert reader.read() == b""
    for text in (b"first", b"middle", b"last"):
        log.append(text, NOON)
        if text != b"last":
            log.rotate()
    assert read_all(reader) == b"first\nlast\nlast\n"


def test_with_the_kubelets_bugs_one_rotation_of_a_follower_that_keeps_up_is_harmless() -> None:
    log = ContainerLog()
    reader = LogReader(log, follow=True, timestamps=False, rotation_bugs=True)
    assert reader.read() == b""
    log.append(b"first", NOON)
    log.rotate()
    log.append(b"second", NOON)
    assert read_all(reader) == b"first\nsecond\n"


WHOLE = st.lists(st.builds(Record, TEXTS, st.just(True), TIMES), max_size=6)


@given(
    history=WHOLE,
    records=RECORDS,
    timestamps=st.booleans(),
    since_ns=st.none() | TIMES,
    tail_lines=st.none() | st.integers(0, 14),
    max_bytes=st.integers(1, 200),
)
def test_a_log_that_begins_with_another_reads_as_one_that_holds_all_of_it(
    history: list[Record],
    records: list[Record],
    timestamps: bool,
    since_ns: int | None,
    tail_lines: int | None,
    max_bytes: int,
) -> None:
    before, log, plain = ContainerLog(), ContainerLog(), ContainerLog()
    for record in history:
        write(before, record)
    log.begin_with(before)
    for record in history + records:
        write(plain, record)
    for record in records:
        write(log, record)
    made = [
        read_all(LogReader(each, timestamps=timestamps, since_ns=since_ns, tail_lines=tail_lines), max_bytes)
        for each in (log, plain)
    ]
    assert made[0] == made[1]
