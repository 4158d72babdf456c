"""A publisher in memory: Kafka as a shard knows it, which fails as it is told to.

`tests/contract/test_publisher.py` holds it to the same suite as the real one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum, auto

from streamer.flow.publishing import BatchRefused, Fenced, PublishError, PublishFailed, RecordsRefused
from streamer.model import Publication, Reason, Record


class Fault(Enum):
    """What happens to one transaction."""

    NONE = auto()
    BEFORE_COMMIT = auto()  # nothing of it is written
    ANSWER_LOST = auto()  # all of it is committed, but the publisher hears nothing
    EXPIRED = auto()  # the broker ends it for its age, which looks like being fenced
    BATCH_REFUSED = auto()  # a topic refuses what is well one by one


class Away(PublishError):  # noqa: N818 - the name says what is
    """Kafka cannot be reached."""


@dataclass
class MemoryShard:
    """What Kafka has of one shard: its state, and every publication that was committed."""

    epoch: int = 0
    state: dict[str, bytes] = field(default_factory=dict)
    commits: list[Publication] = field(default_factory=list)


class MemoryKafka:
    """Records, states and epochs of all shards, and the script of what goes wrong.

    `faults` befall the next transactions, one each; the next `away` opens fail. A topic in `largest_bytes` refuses
    records of more; with `foreseen` the publisher knows that beforehand, and its producer survives the refusal. A topic
    in `forbidden` may not be written.
    """

    def __init__(self) -> None:
        self.records: list[Record] = []
        """As a read_committed consumer sees them."""
        self.shards: dict[int, MemoryShard] = {}
        self.faults: deque[Fault] = deque()
        self.away = 0
        self.largest_bytes: dict[str, int] = {}
        self.refusal = Reason.RECORD_TOO_LARGE
        self.foreseen = False
        self.forbidden: set[str] = set()
        self.most_records: int | None = None
        """A quota, or a thin line: what is more does not come through in time."""
        self.opened = 0
        self.attempts = 0
        self._serving = asyncio.Event()
        self._serving.set()

    def shard(self, index: int = 0) -> MemoryShard:
        return self.shards.setdefault(index, MemoryShard())

    def publisher(self, index: int = 0) -> MemoryPublisher:
        return MemoryPublisher(self, index)

    def values(self, topic: str) -> list[bytes]:
        return [record.value for record in self.records if record.topic == topic]

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Let every transaction wait before its commit."""
        self._serving.clear()
        try:
            yield
        finally:
            self._serving.set()

    async def served(self) -> None:
        await self._serving.wait()


class MemoryPublisher:
    """One owner of one shard: `streamer.flow.publishing.Publisher` on a MemoryKafka."""

    def __init__(self, kafka: MemoryKafka, index: int) -> None:
        self._kafka = kafka
        self._shard = kafka.shard(index)
        self._epoch = 0
        self.closed = False

    @property
    def ready(self) -> bool:
        return self._epoch > 0

    async def open(self) -> list[tuple[str, bytes]]:
        self._kafka.opened += 1
        self._epoch = 0
        await asyncio.sleep(0)
        if self._kafka.away > 0:
            self._kafka.away -= 1
            raise Away("cannot reach memory:9092: it is away")
        self._shard.epoch += 1
        self._epoch = self._shard.epoch
        return list(self._shard.state.items())

    async def publish(self, publication: Publication, *, isolate: frozenset[str] = frozenset()) -> None:
        if not self.ready:
            raise PublishFailed("the shard's publisher is not open")
        self._kafka.attempts += 1
        epoch, self._epoch = self._epoch, 0  # whatever happens now, even a cancellation, ends it
        if self._kafka.foreseen and (refused := self._refused(publication)):
            self._epoch = epoch
            raise RecordsRefused(refused, self._kafka.refusal)
        await self._kafka.served()
        fault = self._kafka.faults.popleft() if self._kafka.faults else Fault.NONE
        self._fail_before_commit(publication, epoch, fault, isolate)
        self._commit(publication)
        await asyncio.sleep(0)
        if fault is Fault.ANSWER_LOST:
            raise PublishFailed("no answer to the commit")
        self._epoch = epoch

    async def close(self) -> None:
        self._epoch = 0
        self.closed = True

    def _fail_before_commit(
        self, publication: Publication, epoch: int, fault: Fault, isolate: frozenset[str]
    ) -> None:
        if epoch != self._shard.epoch:
            raise Fenced("another publisher has opened the shard")
        if fault is Fault.EXPIRED:
            raise Fenced("the broker ended the transaction for its age")
        most = self._kafka.most_records
        if most is not None and len(publication.records) > most:
            raise PublishFailed("no acknowledgement within 12 s")
        if fault is Fault.BEFORE_COMMIT:
            raise PublishFailed("the connection broke")
        if forbidden := self._kafka.forbidden.intersection(record.topic for record in publication.records):
            raise PublishFailed(f"we may not use the topic {', '.join(forbidden)}")
        together = {topic for topic in _several(publication) if topic not in isolate}
        if fault is Fault.BATCH_REFUSED and together:
            raise BatchRefused(frozenset(together), self._kafka.refusal)
        if refused := self._refused(publication):
            if hidden := refused.keys() & together:
                raise BatchRefused(frozenset(hidden), self._kafka.refusal)
            raise RecordsRefused(refused, self._kafka.refusal)

    def _refused(self, publication: Publication) -> Mapping[str, frozenset[str]]:
        refused: dict[str, set[str]] = {}
        for record in publication.records:
            if len(record.value) > self._kafka.largest_bytes.get(record.topic, len(record.value)):
                refused.setdefault(record.topic, set()).add(record.id)
        return {topic: frozenset(ids) for topic, ids in refused.items()}

    def _commit(self, publication: Publication) -> None:
        self._kafka.records += publication.records
        for key, value in publication.changes:
            if value is None:
                self._shard.state.pop(key, None)
            else:
                self._shard.state[key] = value
        self._shard.commits.append(publication)


def _several(publication: Publication) -> set[str]:
    topics = [record.topic for record in publication.records]
    return {topic for topic in topics if topics.count(topic) > 1}
