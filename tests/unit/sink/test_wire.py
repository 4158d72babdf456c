"""Our batches are Kafka's: byte for byte what aiokafka's builder makes, and readable in every codec."""

import pytest
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from hypothesis import given
from hypothesis import strategies as st

from streamer.model import Record, RecordKind, SharedHeaders
from streamer.sink.record_batch import RecordBatch
from streamer.sink.wire import SharedEncoder, change_body, prefixed, record_body, varint

shared_headers = st.lists(st.tuples(st.text(max_size=20), st.binary(max_size=200)), max_size=20).map(
    lambda headers: SharedHeaders(RecordKind.ALERT, headers)
)
values = st.one_of(st.binary(max_size=300), st.integers(8_000, 20_000).map(bytes))
records = st.builds(
    Record,
    st.just("topic"),
    st.binary(max_size=200),
    values,
    st.text(max_size=30),
    shared_headers,
    st.integers(0, 2**42),
    st.text(max_size=60),
)
batches = st.lists(records, min_size=1, max_size=12)


def sample(value: bytes) -> Record:
    shared = SharedHeaders(RecordKind.ALERT, [("rule", b"rule")])
    return Record("topic", b"key", value, "2026-01-01T00:00:00Z", shared, 1, "id")


def batch_of(
    records: list[Record], *, compression: str | None = None, transactional: bool = True
) -> RecordBatch:
    shared = SharedEncoder()
    first_ms = records[0].timestamp_ms
    parts: list[bytes] = []
    for offset, one in enumerate(records):
        body = record_body(
            offset, one.timestamp_ms - first_ms, prefixed(one.key), one, shared.encode(one.shared)
        )
        parts.append(prefixed(body))
    return RecordBatch(
        parts,
        count=len(records),
        first_ms=first_ms,
        last_ms=max(one.timestamp_ms for one in records),
        compression=compression,
        transactional=transactional,
    )


@given(batches)
def test_a_batch_is_what_aiokafkas_builder_makes(records: list[Record]) -> None:
    theirs = DefaultRecordBatchBuilder(2, 0, True, 7, 3, 11, 10**9)
    for offset, one in enumerate(records):
        theirs.append(offset, one.timestamp_ms, one.key, one.value, one.headers)
    ours = batch_of(records)
    ours._set_producer_state(7, 3, 11)
    assert ours._build() == bytes(theirs.build())


@pytest.mark.parametrize("compression", ["zstd", "gzip", "snappy", "lz4", None])
@given(records=batches)
def test_every_codec_reads_back(compression: str | None, records: list[Record]) -> None:
    batch = batch_of(records, compression=compression, transactional=False)
    size = batch.size()
    built = batch._build()
    assert len(built) == size
    read = DefaultRecordBatch(built)
    assert read.validate_crc()
    found = [
        (one.timestamp, one.key, one.value, [(name, value) for name, value in one.headers]) for one in read
    ]
    assert found == [(one.timestamp_ms, one.key, one.value, one.headers) for one in records]


def test_compression_shrinks_what_repeats_and_never_grows_what_does_not() -> None:
    assert batch_of([sample(b"the same " * 100)], compression="zstd").size() < 200
    short = [sample(b"x")]
    assert batch_of(short, compression="zstd").size() == batch_of(short).size()


@given(st.integers(0, 200), st.binary(max_size=40), st.one_of(st.none(), st.binary(max_size=300)))
def test_a_change_of_state_is_a_record_without_headers(offset: int, key: bytes, value: bytes | None) -> None:
    theirs = DefaultRecordBatchBuilder(2, 0, True, 7, 3, 11, 10**9)
    for n in range(offset):
        theirs.append(n, 5, b"", b"", [])
    theirs.append(offset, 5, key, value, [])
    assert bytes(theirs.build()).endswith(prefixed(change_body(offset, key, value)))


@given(st.lists(shared_headers, max_size=30))
def test_what_is_remembered_of_headers_never_reaches_another_record(found: list[SharedHeaders]) -> None:
    remembering = SharedEncoder()
    for one in [*found, *found]:
        assert remembering.encode(one) == SharedEncoder().encode(one)


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
