"""Records become batches: in their partition, in their order, no larger than their topic takes."""

from collections.abc import Mapping, Sequence

import pytest
from aiokafka.record.default_records import DefaultRecordBatch
from hypothesis import given
from hypothesis import strategies as st

from streamer.flow.publishing import RecordsRefused
from streamer.model import Change, Reason, Record
from streamer.sink import TopicLimits
from streamer.sink.packing import MAX_BATCH_BYTES, Batch, Packer
from tests.unit.sink.samples import incompressible, now_ms, record

# Of Kafka's own test of Utils.murmur2.
JAVA = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


def pack(
    records: Sequence[Record],
    partitions: int = 1,
    *,
    limits: Mapping[str, TopicLimits] | None = None,
    alone: frozenset[str] = frozenset(),
    compression: str | None = None,
) -> list[list[Batch]]:
    counts = {one.topic: partitions for one in records}
    packer = Packer(compression=compression, transactional=True)
    return packer.pack(records, counts, limits=limits or {}, alone=alone, now_ms=now_ms())


def values(batch: Batch) -> list[bytes | None]:
    return [one.value for one in DefaultRecordBatch(batch.encoded._build())]


@pytest.mark.parametrize(("key", "murmur2"), JAVA.items())
@pytest.mark.parametrize("partitions", [1, 3, 12, 50])
def test_the_partition_is_the_one_that_javas_producer_takes(
    key: bytes, murmur2: int, partitions: int
) -> None:
    [[batch]] = pack([record("t", "1", key=key)], partitions)
    assert batch.partition == (murmur2 & 0x7FFF_FFFF) % partitions


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from([b"x", b"y", b"z", b"w"])), max_size=60))
def test_the_order_of_a_key_is_kept_in_each_topic(rows: list[tuple[str, bytes]]) -> None:
    records = [record(topic, f"{n:04}", key=key, size=4) for n, (topic, key) in enumerate(rows)]
    lanes = pack(records, 3, limits={"a": TopicLimits(500), "b": TopicLimits(400)})
    packed: dict[tuple[str, bytes | None], list[bytes | None]] = {}
    for lane in lanes:
        for batch in lane:
            for one in DefaultRecordBatch(batch.encoded._build()):
                packed.setdefault((batch.topic, one.key), []).append(one.value)
    wanted: dict[tuple[str, bytes | None], list[bytes | None]] = {}
    for one in records:
        wanted.setdefault((one.topic, one.key), []).append(one.value)
    assert packed == wanted


def test_batches_are_filled_up_to_their_size() -> None:
    [lane] = pack([record("t", str(n), size=1500) for n in range(1000)])
    sizes = [batch.encoded.size() for batch in lane]
    assert max(sizes) <= MAX_BATCH_BYTES
    assert all(size > MAX_BATCH_BYTES - 2000 for size in sizes[:-1])
    assert sum(len(batch.ids) for batch in lane) == 1000


def test_a_batch_fits_its_topic_even_if_nothing_can_be_compressed() -> None:
    [lane] = pack([incompressible("t", str(n), 3000) for n in range(100)], limits={"t": TopicLimits(50_000)})
    assert max(batch.encoded.size() for batch in lane) <= 50_000


def test_records_alone_are_alone_and_in_their_place() -> None:
    [lane] = pack([record("t", str(n), size=1) for n in range(6)], alone=frozenset({"2", "3"}))
    assert [batch.ids for batch in lane] == [["0", "1"], ["2"], ["3"], ["4", "5"]]
    assert [values(batch) for batch in lane] == [[b"0", b"1"], [b"2"], [b"3"], [b"4", b"5"]]


def test_exactly_the_records_larger_than_their_topic_takes_are_refused() -> None:
    small = [record("t", str(n), size=1000) for n in range(1000)]
    records = [
        *small[:400],
        incompressible("t", "large", 60_000),
        *small[400:],
        incompressible("t", "fits", 49_000),
    ]
    with pytest.raises(RecordsRefused) as refused:
        pack(records, limits={"t": TopicLimits(50_000)}, compression="zstd")
    assert refused.value.records == {"t": frozenset({"large"})}
    assert refused.value.reason is Reason.RECORD_TOO_LARGE


def test_what_compresses_to_what_the_topic_takes_is_not_refused() -> None:
    [[batch]] = pack([record("t", "1", size=60_000)], limits={"t": TopicLimits(50_000)}, compression="zstd")
    assert batch.encoded.size() < 1000


def test_a_topic_whose_limit_is_unknown_gets_the_record() -> None:
    [[batch]] = pack([incompressible("t", "1", 2_000_000)])
    assert batch.encoded.size() > 2_000_000


def test_a_record_of_the_far_future_is_refused_only_where_the_topic_says_so() -> None:
    records = [record("a", "soon", ahead_ms=1_000_000), record("a", "late", ahead_ms=7_200_000)]
    with pytest.raises(RecordsRefused) as refused:
        pack(records, limits={"a": TopicLimits(timestamp_after_max_ms=3_600_000)})
    assert refused.value.records == {"a": frozenset({"late"})}
    assert refused.value.reason is Reason.INVALID_TIMESTAMP
    assert len(pack(records)) == 1


def test_changes_of_state_are_cut_at_the_limit_and_a_tombstone_has_no_value() -> None:
    packer = Packer(compression=None, transactional=True)
    changes = [Change("gone", None), *(Change(f"position/{n}", b"v" * 700) for n in range(1000))]
    batches = packer.pack_changes(changes, "state", 5, limit=MAX_BATCH_BYTES, now_ms=1)
    assert [batch.partition for batch in batches] == [5] * len(batches)
    assert max(batch.encoded.size() for batch in batches) <= MAX_BATCH_BYTES
    stored = [(one.key, one.value) for batch in batches for one in DefaultRecordBatch(batch.encoded._build())]
    assert stored == [(change.key.encode(), change.value) for change in changes]
    assert packer.pack_changes([], "state", 5, limit=MAX_BATCH_BYTES, now_ms=1) == []
