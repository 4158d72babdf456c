"""Our batches are Kafka's: byte for byte what aiokafka's builder makes, and readable in every codec."""

import pytest
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from hypothesis import given
from hypothesis import strategies as st

from streamer.model.record import Headers
from streamer.sink.record_batch import RecordBatch
from streamer.sink.wire import HeaderEncoder, prefixed, record_body, varint

headers = st.lists(st.tuples(st.text(max_size=20), st.binary(max_size=200)), max_size=20)
values = st.one_of(st.none(), st.binary(max_size=300), st.integers(8_000, 20_000).map(bytes))
times = st.integers(0, 2**42)
rows = st.lists(st.tuples(times, st.binary(max_size=200), values, headers), min_size=1, max_size=12)

Row = tuple[int, bytes, bytes | None, Headers]


def batch_of(rows: list[Row], *, compression: str | None = None, transactional: bool = True) -> RecordBatch:
    encoder = HeaderEncoder()
    first = rows[0][0]
    parts: list[bytes] = []
    for offset, (ms, key, value, headers) in enumerate(rows):
        parts.append(prefixed(record_body(offset, ms - first, prefixed(key), value, encoder.encode(headers))))
    return RecordBatch(
        parts,
        count=len(rows),
        first_ms=first,
        last_ms=max(ms for ms, *_ in rows),
        compression=compression,
        transactional=transactional,
    )


@given(rows)
def test_a_batch_is_what_aiokafkas_builder_makes(rows: list[Row]) -> None:
    theirs = DefaultRecordBatchBuilder(2, 0, True, 7, 3, 11, 10**9)
    for offset, (ms, key, value, headers) in enumerate(rows):
        theirs.append(offset, ms, key, value, headers)
    ours = batch_of(rows)
    ours._set_producer_state(7, 3, 11)
    assert ours._build() == bytes(theirs.build())


@pytest.mark.parametrize("compression", ["zstd", "gzip", "snappy", "lz4", None])
@given(rows=rows)
def test_every_codec_reads_back(compression: str | None, rows: list[Row]) -> None:
    batch = batch_of(rows, compression=compression, transactional=False)
    size = batch.size()
    built = batch._build()
    assert len(built) == size
    read = DefaultRecordBatch(built)
    assert read.validate_crc()
    found = [
        (one.timestamp, one.key, one.value, [(name, value) for name, value in one.headers]) for one in read
    ]
    assert found == rows


def test_compression_shrinks_what_repeats_and_never_grows_what_does_not() -> None:
    repeating = batch_of([(1, b"key", b"the same " * 100, [])], compression="zstd")
    short = batch_of([(1, b"key", b"x", [])], compression="zstd")
    assert repeating.size() < 200
    assert short.size() == batch_of([(1, b"key", b"x", [])]).size()


@given(st.lists(headers, max_size=30))
def test_what_is_remembered_of_headers_never_reaches_another_record(lists: list[Headers]) -> None:
    remembering = HeaderEncoder()
    for one in [*lists, *lists]:
        assert remembering.encode(one) == HeaderEncoder().encode(list(one))


def test_a_changed_list_of_headers_is_encoded_anew() -> None:
    encoder = HeaderEncoder()
    rule = ("rule", b"a")
    before = encoder.encode([("ce_id", b"1"), ("ce_time", b"2"), rule, ("node", b"n1")])
    after = encoder.encode([("ce_id", b"1"), ("ce_time", b"2"), rule, ("node", b"n2")])
    assert before != after
    assert after.endswith(b"n2")


@pytest.mark.parametrize(
    ("number", "wire"),
    [
        (0, b"\0"),
        (-1, b"\x01"),
        (63, b"\x7e"),
        (64, b"\x80\x01"),
        (-65, b"\x81\x01"),
        (2**31, b"\x80\x80\x80\x80\x10"),
    ],
)
def test_numbers_are_zigzag(number: int, wire: bytes) -> None:
    assert varint(number) == wire
