"""What a shard relies on of its publisher: one suite for the one in memory and for Kafka's.

What the flow tests prove of shards holds on Kafka only as far as these two behave alike.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from streamer.config.kafka import Kafka
from streamer.flow.publishing import BatchRefused, Fenced, Publisher, PublishFailed, RecordsRefused
from streamer.model import Reason, Record
from streamer.sink import Connection, ShardProducer
from tests.flow.publishers import MemoryKafka
from tests.integration.conftest import kafka
from tests.integration.oracle import oracle
from tests.testbed.kafka import Kafka as Broker
from tests.testbed.topics import create_topic
from tests.unit.sink.samples import incompressible, publication, record

__all__ = ["kafka"]

LARGEST_BYTES = 20_000
"""What the topic `narrow` takes at most."""


@dataclass
class Place:
    """Topics of one test, and the publishers of a shard that writes to them."""

    alerts: str = "alerts"
    narrow: str = "narrow"
    opened: list[Publisher] = field(default_factory=list)

    def publisher(self) -> Publisher:
        """Another owner of the one shard."""
        made = self._make()
        self.opened.append(made)
        return made

    def _make(self) -> Publisher:
        raise NotImplementedError

    async def values(self, topic: str) -> list[bytes]:
        """What a read_committed consumer finds."""
        raise NotImplementedError


@dataclass
class MemoryPlace(Place):
    kafka: MemoryKafka = field(default_factory=MemoryKafka)

    def __post_init__(self) -> None:
        self.kafka.largest_bytes[self.narrow] = LARGEST_BYTES

    def _make(self) -> Publisher:
        return self.kafka.publisher()

    async def values(self, topic: str) -> list[bytes]:
        return self.kafka.values(topic)


@dataclass
class RealPlace(Place):
    bootstrap: str = ""
    state: str = ""
    name: str = field(default_factory=lambda: uuid.uuid4().hex[:8])

    def _make(self) -> Publisher:
        return ShardProducer(
            Connection(Kafka(bootstrap_servers=(self.bootstrap,), compression="none")),
            cluster=f"contract-{self.name}",
            shard=0,
            state_topic=self.state,
            topics=[self.alerts, self.narrow],
        )

    async def values(self, topic: str) -> list[bytes]:
        async with oracle(self.bootstrap, [topic]) as seen:
            await seen.read_to_end()
            return [record.value for record in seen.records]


async def real_place(broker: Broker) -> RealPlace:
    alerts = await create_topic(broker.bootstrap)
    narrow = await create_topic(broker.bootstrap, config={"max.message.bytes": str(LARGEST_BYTES)})
    state = await create_topic(broker.bootstrap, config={"cleanup.policy": "compact"})
    return RealPlace(alerts=alerts, narrow=narrow, bootstrap=broker.bootstrap, state=state)


@pytest.fixture(params=["memory", pytest.param("kafka", marks=pytest.mark.real)])
async def place(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    made: Place
    if request.param == "memory":
        made = MemoryPlace()
    else:
        made = await real_place(request.getfixturevalue("kafka"))
    yield made
    for publisher in made.opened:
        await publisher.close()


def records(topic: str, *identities: str) -> list[Record]:
    return [record(topic, identity) for identity in identities]


async def test_a_new_shard_is_empty(place: Place) -> None:
    assert await place.publisher().open() == []


async def test_what_was_committed_is_loaded_by_the_next_owner(place: Place) -> None:
    first = place.publisher()
    await first.open()
    await first.publish(publication(records(place.alerts, "1"), {"ledger": b"1", "position/a": b"a1"}))
    await first.publish(publication(records(place.alerts, "2"), {"ledger": b"2", "position/b": b"b1"}))
    await first.close()
    found = await place.publisher().open()
    assert sorted(found) == [("ledger", b"2"), ("position/a", b"a1"), ("position/b", b"b1")]
    values = [one.value for one in records(place.alerts, "1", "2")]
    assert await place.values(place.alerts) == values


async def test_a_key_without_a_value_is_forgotten(place: Place) -> None:
    publisher = place.publisher()
    await publisher.open()
    await publisher.publish(publication(changes={"ledger": b"1", "position/a": b"a1"}))
    await publisher.publish(publication(changes={"ledger": b"2", "position/a": None, "never/seen": None}))
    assert await publisher.open() == [("ledger", b"2")]


async def test_the_same_owner_may_open_again(place: Place) -> None:
    publisher = place.publisher()
    await publisher.open()
    await publisher.publish(publication(records(place.alerts, "1"), {"ledger": b"1"}))
    assert await publisher.open() == [("ledger", b"1")]
    await publisher.publish(publication(records(place.alerts, "2"), {"ledger": b"2"}))
    assert await publisher.open() == [("ledger", b"2")]
    assert len(await place.values(place.alerts)) == 2


async def test_only_who_has_opened_may_publish(place: Place) -> None:
    publisher = place.publisher()
    ready = [publisher.ready]
    with pytest.raises(PublishFailed):
        await publisher.publish(publication(records(place.alerts, "1")))
    await publisher.open()
    ready.append(publisher.ready)
    await publisher.close()
    ready.append(publisher.ready)
    assert ready == [False, True, False]
    assert await place.values(place.alerts) == []


async def test_the_owner_before_is_fenced_and_leaves_no_trace(place: Place) -> None:
    first, second = place.publisher(), place.publisher()
    await first.open()
    await first.publish(publication(records(place.alerts, "1"), {"ledger": b"1"}))
    assert await second.open() == [("ledger", b"1")]
    with pytest.raises(Fenced):
        await first.publish(publication(records(place.alerts, "of the first"), {"ledger": b"first"}))
    assert not first.ready
    await second.publish(publication(records(place.alerts, "2"), {"ledger": b"2"}))
    assert await place.publisher().open() == [("ledger", b"2")]
    assert await place.values(place.alerts) == [one.value for one in records(place.alerts, "1", "2")]


async def test_who_was_fenced_may_take_the_shard_back(place: Place) -> None:
    first, second = place.publisher(), place.publisher()
    await first.open()
    await second.open()
    await second.publish(publication(changes={"ledger": b"second"}))
    assert await first.open() == [("ledger", b"second")]
    with pytest.raises(Fenced):
        await second.publish(publication(changes={"ledger": b"again"}))
    await first.publish(publication(changes={"ledger": b"first"}))
    assert await second.open() == [("ledger", b"first")]


async def test_of_a_refused_publication_nothing_is_written(place: Place) -> None:
    publisher = place.publisher()
    await publisher.open()
    large = incompressible(place.narrow, "large", 2 * LARGEST_BYTES)
    wanted = publication([*records(place.alerts, "1"), large], {"ledger": b"1"})
    with pytest.raises(RecordsRefused) as refused:
        await publisher.publish(wanted)
    assert refused.value.records == {place.narrow: frozenset({"large"})}
    assert refused.value.reason is Reason.RECORD_TOO_LARGE
    assert await publisher.open() == []
    assert await place.values(place.alerts) == []
    assert await place.values(place.narrow) == []


async def test_one_refused_among_many_is_found_by_isolation_and_the_others_go_through(place: Place) -> None:
    publisher = place.publisher()
    await publisher.open()
    good = records(place.narrow, *(f"good{n}" for n in range(5)))
    large = [incompressible(place.narrow, f"large{n}", 2 * LARGEST_BYTES) for n in range(2)]
    wanted = publication([*good[:3], large[0], *good[3:], large[1]], {"ledger": b"1"})
    found: set[str] = set()
    isolate: frozenset[str] = frozenset()
    for _ in range(4):  # a large record may already stand alone in its batch, a small one beside it
        try:
            await publisher.publish(wanted, isolate=isolate)
            break
        except BatchRefused as error:
            isolate |= error.topics
        except RecordsRefused as error:
            found |= error.records[place.narrow]
            wanted.records = [one for one in wanted.records if one.id not in found]
        if not publisher.ready:
            assert await publisher.open() == []
    assert found == {"large0", "large1"}
    assert isolate <= {place.narrow}
    assert await place.values(place.narrow) == [one.value for one in good]


async def test_small_records_that_are_refused_together_are_named_one_by_one(place: Place) -> None:
    publisher = place.publisher()
    await publisher.open()
    # 15 that fit, and one that does not: no batch of several is larger than a batch may be.
    several = [record(place.narrow, str(n), size=100) for n in range(15)]
    large = incompressible(place.narrow, "large", LARGEST_BYTES + 1000)
    wanted = publication([*several, large], {"ledger": b"1"})
    with pytest.raises(BatchRefused) as batch:
        await publisher.publish(wanted)
    assert batch.value.topics == {place.narrow}
    assert not publisher.ready
    assert await publisher.open() == []
    with pytest.raises(RecordsRefused) as refused:
        await publisher.publish(wanted, isolate=batch.value.topics)
    assert refused.value.records == {place.narrow: frozenset({"large"})}


async def test_a_cancelled_publication_leaves_the_publisher_to_be_opened_again(place: Place) -> None:
    publisher = place.publisher()
    await publisher.open()
    publishing = asyncio.create_task(
        publisher.publish(publication(records(place.alerts, "1"), {"ledger": b"1"}))
    )
    await asyncio.sleep(0)
    publishing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await publishing
    assert not publisher.ready
    state = await publisher.open()  # all of it, or nothing
    assert len(await place.values(place.alerts)) == len(state)


async def test_closing_twice_is_well(place: Place) -> None:
    publisher = place.publisher()
    await publisher.open()
    await publisher.close()
    await publisher.close()
    assert not publisher.ready
