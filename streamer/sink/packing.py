"""From records to batches by partition: everything that is encoded before a transaction begins."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from aiokafka.partitioner import murmur2

from streamer.flow.publishing import RecordsRefused
from streamer.model import Change, Reason, Record
from streamer.sink.wire import HEADER_BYTES, HeaderEncoder, RecordBatch, encode_record

MAX_BATCH_BYTES: Final = 262_144
"""Of a batch before compression. Well below any broker's default limit (1 MiB), and 16 KiB, aiokafka's default,
costs a quarter more."""

_REMEMBERED_KEYS: Final = 10_000
_INT64_MAX: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class TopicLimits:
    """What a topic takes, as its configuration says."""

    max_message_bytes: int = 2**31 - 1
    """Of a batch as sent, compressed: `max.message.bytes`."""
    timestamp_after_max_ms: int = _INT64_MAX
    """How far ahead of the broker's clock a record may be: `message.timestamp.after.max.ms`."""
    timestamp_before_max_ms: int = _INT64_MAX


@dataclass(slots=True)
class Batch:
    """One batch for one partition, with the ids of its records."""

    topic: str
    partition: int
    encoded: RecordBatch
    ids: list[str]


@dataclass(slots=True)
class _Lane:
    """The records of one partition that wait to become its next batch."""

    topic: str
    partition: int
    limit: int
    encoded: list[bytes] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    size: int = HEADER_BYTES
    first_ms: int = 0
    last_ms: int = 0
    batches: list[Batch] = field(default_factory=list)


class Packer:
    """Packs one producer's records, remembering from one publication to the next what many have in common."""

    def __init__(self, *, compression: str | None, transactional: bool) -> None:
        self._compression = compression
        self._transactional = transactional
        self._headers = HeaderEncoder()
        self._hashes: dict[bytes, int] = {}

    def pack(
        self,
        records: Iterable[Record],
        partitions: Mapping[str, int],
        *,
        limits: Mapping[str, TopicLimits],
        alone: Collection[str] = (),
        now_ms: int,
    ) -> list[list[Batch]]:
        """The batches of each partition, in the records' order.

        Records whose id is in `alone` get a batch for themselves. Raises RecordsRefused for those that the
        topics' limits exclude, whatever else is in the publication.
        """
        lanes: dict[tuple[str, bytes], _Lane] = {}
        by_partition: dict[tuple[str, int], _Lane] = {}
        encode_headers = self._headers.encode
        late = {
            topic: (now_ms - limit.timestamp_before_max_ms, now_ms + limit.timestamp_after_max_ms)
            for topic, limit in limits.items()
        }
        untimely: dict[str, set[str]] = {}
        for record in records:
            topic, key, value, headers, timestamp_ms, identity = record
            lane = lanes.get((topic, key))
            if lane is None:
                partition = self._hash(key) % partitions[topic]
                lane = by_partition.get((topic, partition))
                if lane is None:
                    limit = limits[topic].max_message_bytes if topic in limits else MAX_BATCH_BYTES
                    lane = by_partition[topic, partition] = _Lane(
                        topic, partition, min(limit, MAX_BATCH_BYTES)
                    )
                lanes[topic, key] = lane
            if topic in late:
                earliest, latest = late[topic]
                if not earliest <= timestamp_ms <= latest:
                    untimely.setdefault(topic, set()).add(identity)
            wire_headers = encode_headers(headers)
            encoded = encode_record(len(lane.encoded), timestamp_ms - lane.first_ms, key, value, wire_headers)
            isolated = identity in alone
            if not lane.encoded or isolated or lane.size + len(encoded) > lane.limit:
                self._close(lane)
                lane.first_ms = lane.last_ms = timestamp_ms
                encoded = encode_record(0, 0, key, value, wire_headers)
            elif timestamp_ms > lane.last_ms:
                lane.last_ms = timestamp_ms
            lane.encoded.append(encoded)
            lane.ids.append(identity)
            lane.size += len(encoded)
            if isolated:
                self._close(lane)
        for lane in by_partition.values():
            self._close(lane)
        if untimely:
            raise RecordsRefused({t: frozenset(ids) for t, ids in untimely.items()}, Reason.INVALID_TIMESTAMP)
        packed = [lane.batches for lane in by_partition.values()]
        self._judge_sizes(packed, limits)
        return packed

    def pack_changes(
        self, changes: Sequence[Change], topic: str, partition: int, *, limit: int, now_ms: int
    ) -> list[Batch]:
        """The batches of a shard's changes of state; `limit` is in bytes before compression."""
        lane = _Lane(topic, partition, limit)
        for name, value in changes:
            encoded = encode_record(len(lane.encoded), 0, name.encode(), value)
            if lane.encoded and lane.size + len(encoded) > limit:
                self._close(lane)
                encoded = encode_record(0, 0, name.encode(), value)
            lane.first_ms = lane.last_ms = now_ms
            lane.encoded.append(encoded)
            lane.ids.append(name)
            lane.size += len(encoded)
        self._close(lane)
        return lane.batches

    def _close(self, lane: _Lane) -> None:
        if not lane.encoded:
            return
        encoded = RecordBatch(
            lane.encoded,
            first_ms=lane.first_ms,
            last_ms=lane.last_ms,
            compression=self._compression,
            transactional=self._transactional,
        )
        lane.batches.append(Batch(lane.topic, lane.partition, encoded, lane.ids))
        lane.encoded, lane.ids, lane.size = [], [], HEADER_BYTES

    @staticmethod
    def _judge_sizes(lanes: Iterable[list[Batch]], limits: Mapping[str, TopicLimits]) -> None:
        """Only a batch of one record can be too large: others were closed before they were."""
        refused: dict[str, set[str]] = {}
        for batches in lanes:
            limit = limits.get(batches[0].topic)
            if limit is None:
                continue
            for batch in batches:
                if batch.encoded.size() > limit.max_message_bytes:
                    refused.setdefault(batch.topic, set()).update(batch.ids)
        if refused:
            raise RecordsRefused({t: frozenset(ids) for t, ids in refused.items()}, Reason.RECORD_TOO_LARGE)

    def _hash(self, key: bytes) -> int:
        """The hash that Java's default partitioner takes: consumers may join by partition."""
        known = self._hashes.get(key)
        if known is None:
            if len(self._hashes) >= _REMEMBERED_KEYS:
                self._hashes.clear()
            known = self._hashes[key] = murmur2(key) & 0x7FFF_FFFF
        return known
