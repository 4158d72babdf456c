"""The viewer's feed on a real Kafka: counts as an independent reader has them, and brokers that go and come."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import orjson
import pytest
from aiokafka import AIOKafkaConsumer

from streamer.config import Settings, load
from streamer.model import Record, RecordKind, SharedHeaders
from streamer.simulator import AlertGenerator
from streamer.sink import Connection
from streamer.view.feed import Feed, FeedState
from streamer.view.query import Query
from streamer.view.store import Store
from streamer.view.viewer import topics_of
from tests.testbed.kafka import Kafka
from tests.testbed.topics import create_topic
from tests.unit.sink.samples import publication, shard

pytestmark = pytest.mark.real

CLASSES = ("alerts.warning", "alerts.notice", "overflow", "summaries", "health")


class Viewed:
    """Topics of one prefix, what is written to them, and a feed that reads them."""

    def __init__(self, kafka: Kafka) -> None:
        self.kafka = kafka
        self.prefix = f"view-{uuid.uuid4().hex[:8]}"
        self.settings: Settings = load(
            None,
            [
                f"cluster={self.prefix}",
                f"topics.prefix={self.prefix}",
                f"kafka.bootstrap_servers={kafka.bootstrap}",
            ],
            {},
        )
        self.connection = Connection(self.settings.kafka)
        self.state = f"falco-streamer.{self.prefix}.state"
        self.store = Store(time.time_ns() // 1_000_000)
        self.changed = asyncio.Event()
        self.feed = self.made(self.store)

    def made(self, store: Store, start_ms: int | None = None) -> Feed:
        since_ms = time.time_ns() // 1_000_000 - 3_600_000
        start = since_ms if start_ms is None else start_ms
        topics = topics_of(self.settings)
        return Feed(self.connection, topics, store, start=start, on_change=self.changed.set)

    async def create(self, *classes: str, partitions: int = 3) -> None:
        for name in classes:
            await create_topic(self.kafka.bootstrap, f"{self.prefix}.{name}", partitions=partitions)

    def alert(
        self, number: int, topic: str = "alerts.warning", *, age_seconds: float = 0, **headers: str
    ) -> Record:
        value = orjson.dumps({"rule": f"Rule {number % 7}", "priority": "Warning", "output_fields": {}})
        identity = f"{self.prefix}-{number}"
        given = {
            "kind": "alert",
            "cluster": f"c{number % 2}",
            "priority": "warning",
            **headers,
        }
        at_ms = round((time.time() - age_seconds) * 1000)
        shared = SharedHeaders(RecordKind.ALERT, [(name, text.encode()) for name, text in given.items()])
        key = f"ns/pod-{number % 5}".encode()
        return Record(f"{self.prefix}.{topic}", key, value, "", shared, at_ms, identity)

    async def write(self, *records: Record) -> None:
        producer = shard(self.connection, self.state, cluster=self.prefix)
        await producer.open()
        await producer.publish(publication(records))
        await producer.close()

    @property
    def published(self) -> int:
        overview = self.store.overview(Query.parse([("range", "24h")]), time.time_ns() // 1_000_000)
        return int(overview.as_dict()["totals"]["published"])

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.feed.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def until(self, state: FeedState, published: int = 0, seconds: float = 30) -> None:
        async with asyncio.timeout(seconds):
            while self.feed.status.state is not state or self.published < published:
                self.changed.clear()
                await self.changed.wait()
        assert not published or self.published == published


@pytest.fixture
async def viewed(kafka: Kafka) -> Viewed:
    made = Viewed(kafka)
    await create_topic(kafka.bootstrap, made.state)
    await made.create(*CLASSES)
    return made


async def test_counts_are_those_of_an_independent_reader(viewed: Viewed) -> None:
    generator = AlertGenerator(4, sources=("syscall", "k8s_audit"))
    records = []
    for number in range(100_000):
        value = generator.alert(time.time_ns(), f"node-{number % 9}")
        topic = "overflow" if number % 50 == 0 else "alerts.warning"
        limited = {"limited_by": "workload"} if topic == "overflow" else {}
        node = {"node": f"node-{number % 9}"}
        records.append(
            viewed.alert(number, topic, age_seconds=number / 50, **limited, **node)._replace(value=value)
        )
    for start in range(0, len(records), 10_000):
        await viewed.write(*records[start : start + 10_000])
    producer = shard(viewed.connection, viewed.state, cluster=viewed.prefix)
    await producer.open()
    guarded = producer._producer
    assert guarded is not None
    await guarded.begin()
    [[batch]] = await producer._pack(guarded, [viewed.alert(99_999)], frozenset())
    await (await guarded.send(batch))
    await producer.open()  # ends the transaction without a commit: nobody may see its record
    await producer.close()
    # Without any of the viewer's code.
    counted: Counter[tuple[str, str, str]] = Counter()
    topics = [f"{viewed.prefix}.{name}" for name in CLASSES]
    consumer = AIOKafkaConsumer(
        *topics,
        bootstrap_servers=viewed.kafka.bootstrap,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
    )
    await consumer.start()
    while fetched := await consumer.getmany(timeout_ms=2000):
        for message in (each for messages in fetched.values() for each in messages):
            alert, headers = orjson.loads(message.value), dict(message.headers)
            kind = "overflow" if "limited_by" in headers else "published"
            counted["rule", alert["rule"], kind] += 1
            counted["priority", alert["priority"].lower(), kind] += 1
            counted["cluster", headers["cluster"].decode(), kind] += 1
    await consumer.stop()
    async with viewed.running():
        await viewed.until(FeedState.LIVE, 98_000)
        now_ms = time.time_ns() // 1_000_000
        assert (
            viewed.store.overview(Query.parse([("range", "24h")]), now_ms).as_dict()["totals"]["overflow"]
            == 2_000
        )
        for name, wanted, kind in counted:
            found = viewed.store.overview(Query.parse([("range", "24h"), (name, wanted)]), now_ms)
            assert found.as_dict()["totals"][kind] == counted[name, wanted, kind], (name, wanted, kind)


async def test_it_begins_by_time(viewed: Viewed) -> None:
    await viewed.write(viewed.alert(1, age_seconds=7200), viewed.alert(2, age_seconds=60), viewed.alert(3))
    async with viewed.running():
        await viewed.until(FeedState.LIVE, 2)
        await viewed.write(viewed.alert(4))
        await viewed.until(FeedState.LIVE, 3)


async def test_a_topic_that_is_made_later_is_read_from_its_beginning(kafka: Kafka) -> None:
    viewed = Viewed(kafka)
    async with viewed.running():
        await viewed.until(FeedState.AWAY)
        assert viewed.feed.status.why.startswith(
            f"there is no topic {viewed.prefix}.alerts.emergency, nor any other of 11"
        )
        await create_topic(kafka.bootstrap, viewed.state)
        await viewed.create("alerts.warning")
        await viewed.write(viewed.alert(1))
        await viewed.until(FeedState.LIVE, 1)
        assert len(viewed.feed.status.missing) == 10
        await viewed.create("alerts.notice")
        await viewed.write(viewed.alert(2, "alerts.notice"), viewed.alert(3))
        await viewed.until(FeedState.LIVE, 3)


async def test_a_broker_that_is_killed_and_comes_back_costs_no_record_and_doubles_none(
    private_kafka: Kafka,
) -> None:
    viewed = Viewed(private_kafka)
    await create_topic(private_kafka.bootstrap, viewed.state)
    await viewed.create(*CLASSES)
    await viewed.write(*(viewed.alert(number) for number in range(500)))
    async with viewed.running():
        await viewed.until(FeedState.LIVE, 500)
        await asyncio.to_thread(private_kafka.kill)
        await viewed.until(FeedState.AWAY)
        assert "connection refused" in viewed.feed.status.why
        await asyncio.to_thread(private_kafka.start)
        await viewed.write(*(viewed.alert(number) for number in range(500, 700)))
        await viewed.until(FeedState.LIVE, 700, seconds=60)
    # Another connection goes on where this one was.
    await viewed.write(viewed.alert(700))
    async with viewed.running():
        await viewed.until(FeedState.LIVE, 701, seconds=60)
