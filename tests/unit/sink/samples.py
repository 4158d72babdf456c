"""Records and publications for tests of the sink, and a shard's producer with its own topics."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from streamer.config.kafka import Kafka
from streamer.model import Change, Publication, Record, RecordKind, SharedHeaders
from streamer.sink import Connection, Message, ShardProducer, TopicReader

_SHARED = SharedHeaders(RecordKind.ALERT, [("kind", b"alert")])


def connection(bootstrap: str, **kafka: Any) -> Connection:
    return Connection(Kafka(bootstrap_servers=(bootstrap,), **kafka))


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def record(topic: str, identity: str, *, key: bytes = b"ns/pod", size: int = 20, ahead_ms: int = 0) -> Record:
    value = identity.encode().ljust(size, b".")
    return Record(topic, key, value, "2026-01-01T00:00:00Z", _SHARED, now_ms() + ahead_ms, identity)


def incompressible(topic: str, identity: str, size: int) -> Record:
    """A record that no codec makes smaller, as a hash's output is."""
    noise = bytearray()
    state = int.from_bytes(identity.encode(), "big") | 1
    while len(noise) < size:
        state = state * 6364136223846793005 % 2**64 + 1442695040888963407
        noise += (state >> 16 & 0xFFFF_FFFF_FFFF).to_bytes(6, "big")
    return record(topic, identity)._replace(value=bytes(noise[:size]))


def publication(
    records: Iterable[Record] = (), changes: Mapping[str, bytes | None] | None = None
) -> Publication:
    return Publication(
        records=list(records), changes=[Change(key, value) for key, value in (changes or {}).items()]
    )


def shard(where: Connection, state_topic: str, *topics: str, index: int = 0, **more: Any) -> ShardProducer:
    cluster = more.pop("cluster", state_topic)
    return ShardProducer(where, cluster=cluster, shard=index, state_topic=state_topic, topics=topics, **more)


async def read(where: Connection, *topics: str, **how: Any) -> list[Message]:
    """All that is there."""
    async with TopicReader(where, topics, **how) as reader:
        return [message async for message in reader.until_end()]


def at_least_once(where: Connection) -> Connection:
    return replace(where, kafka=where.kafka.model_copy(update={"delivery": "at_least_once"}))
