"""From records to batches by partition: everything that is encoded before a transaction begins."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from aiokafka.partitioner import murmur2

from streamer.flow.publishing import RecordsRefused
from streamer.model import Change, Reason, Record
from streamer.sink.record_batch import HEADER_BYTES, RecordBatch
from streamer.sink.wire import SharedEncoder, change_body, prefixed, record_body, varint

MAX_BATCH_BYTES: Final = 262_144
"""Of a batch before compression. Well below any broker's default limit (1 MiB), and 16 KiB, aiokafka's default,
costs a quarter more."""

_REMEMBERED_KEYS: Final = 10_000
_LENGTH_BYTES: Final = 5
"""The most that a record's length takes before it."""

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
    """One partition's batches, and the records that wait to become the next one."""

    topic: str
    partition: int
    limit: int
    earliest_ms: int = -_INT64_MAX
    latest_ms: int = _INT64_MAX
    parts: list[bytes] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    size: int = HEADER_BYTES
    first_ms: int = 0
    last_ms: int = 0
    batches: list[Batch] = field(default_factory=list)

    def append(self, body: bytes, identity: str) -> None:
        """Add a record, which has room."""
        length = varint(len(body))
        self.parts += (length, body)
        self.ids.append(identity)
        self.size += len(length) + len(body)


class Packer:
    """Packs one producer's records, remembering from one publication to the next what many have in common."""

    def __init__(self, *, compression: str | None, transactional: bool) -> None:
        self._compression = compression
        self._transactional = transactional
        self._shared = SharedEncoder()
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
        by_partition: dict[tuple[str, int], _Lane] = {}
        lanes: dict[tuple[str, bytes], tuple[_Lane, bytes]] = {}
        untimely: dict[str, set[str]] = {}
        shared_headers = self._shared.encode
        for record in records:
            topic, key, _, _, shared, timestamp_ms, identity = record
            found = lanes.get((topic, key))
            if found is None:
                place = (topic, self._hash(key) % partitions[topic])
                if place not in by_partition:
                    by_partition[place] = _lane(*place, limits.get(topic), now_ms)
                found = lanes[topic, key] = (by_partition[place], prefixed(key))
            lane, wire_key = found
            if not lane.earliest_ms <= timestamp_ms <= lane.latest_ms:
                untimely.setdefault(topic, set()).add(identity)
            isolated = identity in alone
            if isolated:
                self._close(lane)
            headers = shared_headers(shared)
            if lane.ids:
                body = record_body(len(lane.ids), timestamp_ms - lane.first_ms, wire_key, record, headers)
                if lane.size + len(body) + _LENGTH_BYTES > lane.limit:
                    self._close(lane)
            if not lane.ids:
                lane.first_ms = lane.last_ms = timestamp_ms
                body = record_body(0, 0, wire_key, record, headers)
            elif timestamp_ms > lane.last_ms:
                lane.last_ms = timestamp_ms
            lane.append(body, identity)
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
        lane = _Lane(topic, partition, limit, first_ms=now_ms, last_ms=now_ms)
        for name, value in changes:
            key = name.encode()
            body = change_body(len(lane.ids), key, value)
            if lane.ids and lane.size + len(body) + _LENGTH_BYTES > limit:
                self._close(lane)
                body = change_body(0, key, value)
            lane.append(body, name)
        self._close(lane)
        return lane.batches

    def _close(self, lane: _Lane) -> None:
        if not lane.ids:
            return
        encoded = RecordBatch(
            lane.parts,
            count=len(lane.ids),
            first_ms=lane.first_ms,
            last_ms=lane.last_ms,
            compression=self._compression,
            transactional=self._transactional,
        )
        lane.batches.append(Batch(lane.topic, lane.partition, encoded, lane.ids))
        lane.parts, lane.ids, lane.size = [], [], HEADER_BYTES

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


def _lane(topic: str, partition: int, limits: TopicLimits | None, now_ms: int) -> _Lane:
    if limits is None:
        return _Lane(topic, partition, MAX_BATCH_BYTES)
    return _Lane(
        topic,
        partition,
        min(limits.max_message_bytes, MAX_BATCH_BYTES),
        now_ms - limits.timestamp_before_max_ms,
        now_ms + limits.timestamp_after_max_ms,
    )
