"""A real Kafka refuses one record of many: it is found, named, and the rest comes through."""

from collections.abc import Mapping

import pytest

from streamer.flow.publishing import BatchRefused, RecordsRefused
from streamer.model import Reason
from streamer.sink import Connection, ShardProducer, TopicLimits
from streamer.sink.admin import read_limits
from tests.testbed.kafka import Kafka
from tests.testbed.topics import change_topic, create_topic
from tests.unit.sink.samples import connection, incompressible, publication, read, record, shard

pytestmark = pytest.mark.real

SMALL = {"max.message.bytes": "50000"}
HOUR_MS = 3_600_000


@pytest.fixture
def where(kafka: Kafka) -> Connection:
    return connection(kafka.bootstrap)


async def opened(
    kafka: Kafka, where: Connection, topic: str, limits: Mapping[str, TopicLimits] | None = None
) -> ShardProducer:
    state = await create_topic(kafka.bootstrap, config={"cleanup.policy": "compact"})
    producer = shard(where, state, topic, limits=dict(limits or {}))
    await producer.open()
    return producer


async def test_the_one_that_is_too_large_is_named_among_a_thousand(kafka: Kafka, where: Connection) -> None:
    topic = await create_topic(kafka.bootstrap, config=SMALL)
    producer = await opened(kafka, where, topic)  # knows nothing of the limit
    records = [incompressible(topic, str(n), 200) for n in range(1000)]
    records[500] = incompressible(topic, "large", 60_000)

    with pytest.raises(BatchRefused) as batch:
        await producer.publish(publication(records, {"position": b"1"}))
    assert batch.value.topics == {topic}
    assert batch.value.reason is Reason.RECORD_TOO_LARGE
    assert await producer.open() == []

    with pytest.raises(RecordsRefused) as refused:
        await producer.publish(publication(records, {"position": b"1"}), isolate=batch.value.topics)
    assert refused.value.records == {topic: frozenset({"large"})}
    assert refused.value.reason is Reason.RECORD_TOO_LARGE
    assert await producer.open() == []

    del records[500]
    await producer.publish(publication(records, {"position": b"1"}), isolate=batch.value.topics)
    assert [one.value for one in await read(where, topic)] == [one.value for one in records]
    await producer.close()


async def test_isolation_names_it_where_the_limits_may_not_be_read(
    kafka: Kafka, where: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = await create_topic(kafka.bootstrap, config=SMALL)
    producer = await opened(kafka, where, topic)
    records = [incompressible(topic, str(n), 200) for n in range(300)]
    records[100] = incompressible(topic, "large", 60_000)
    with pytest.raises(BatchRefused):
        await producer.publish(publication(records))
    producer._doubted.clear()  # as if the broker would not say
    await producer.open()
    with pytest.raises(RecordsRefused) as refused:
        await producer.publish(publication(records), isolate=frozenset({topic}))
    assert refused.value.records == {topic: frozenset({"large"})}
    assert not producer.ready


async def test_a_topic_that_shrinks_in_mid_run_costs_one_more_round(kafka: Kafka, where: Connection) -> None:
    topic = await create_topic(kafka.bootstrap, config=SMALL)
    producer = await opened(kafka, where, topic, {topic: TopicLimits(1_000_000)})  # what it was at the start
    records = [incompressible(topic, str(n), 2000) for n in range(200)]
    with pytest.raises(BatchRefused):
        await producer.publish(publication(records))
    await producer.open()
    await producer.publish(publication(records), isolate=frozenset({topic}))
    assert len(await read(where, topic)) == 200
    await producer.close()


async def test_limits_known_from_the_start_cost_nothing(kafka: Kafka, where: Connection) -> None:
    topic = await create_topic(kafka.bootstrap, config=SMALL)
    limits = await read_limits(where, [topic])
    assert limits[topic].max_message_bytes == 50_000
    assert limits[topic].timestamp_after_max_ms == HOUR_MS
    producer = await opened(kafka, where, topic, limits)
    records = [
        record(topic, "1"),
        incompressible(topic, "large", 60_000),
        record(topic, "late", ahead_ms=2 * HOUR_MS),
    ]
    for _ in range(2):
        with pytest.raises(RecordsRefused) as refused:
            await producer.publish(publication(records))
        (gone,) = refused.value.records[topic]
        records = [one for one in records if one.id != gone]
        assert producer.ready
    await producer.publish(publication(records))
    assert [one.header("ce_id") for one in await read(where, topic)] == [b"1"]
    await producer.close()


async def test_a_limit_that_was_raised_takes_effect_while_we_run(kafka: Kafka, where: Connection) -> None:
    topic = await create_topic(kafka.bootstrap, config=SMALL)
    producer = await opened(kafka, where, topic, await read_limits(where, [topic]))
    await change_topic(kafka.bootstrap, topic, {"max.message.bytes": "1000000"})
    with pytest.raises(RecordsRefused):
        await producer.publish(publication([incompressible(topic, "large", 60_000)]))
    await producer.open()
    await producer.publish(publication([incompressible(topic, "next", 60_000)]))
    assert [one.header("ce_id") for one in await read(where, topic)] == [b"next"]
    await producer.close()


async def test_a_record_just_below_the_limit_comes_through(kafka: Kafka, where: Connection) -> None:
    topic = await create_topic(kafka.bootstrap, config=SMALL)
    producer = await opened(kafka, where, topic, await read_limits(where, [topic]))
    records = [incompressible(topic, "just", 49_800), incompressible(topic, "too", 49_950)]
    with pytest.raises(RecordsRefused) as refused:
        await producer.publish(publication(records))
    assert refused.value.records == {topic: frozenset({"too"})}
    await producer.publish(publication(records[:1]))
    assert [one.header("ce_id") for one in await read(where, topic)] == [b"just"]
    await producer.close()


async def test_the_time_that_kafka_refuses_is_named(kafka: Kafka, where: Connection) -> None:
    topic = await create_topic(kafka.bootstrap)
    producer = await opened(kafka, where, topic)
    records = [record(topic, str(n)) for n in range(50)]
    records[20] = record(topic, "late", ahead_ms=2 * HOUR_MS)
    with pytest.raises(BatchRefused) as batch:
        await producer.publish(publication(records))
    assert batch.value.reason is Reason.INVALID_TIMESTAMP
    await producer.open()
    with pytest.raises(RecordsRefused) as refused:
        await producer.publish(publication(records), isolate=batch.value.topics)
    assert refused.value.records == {topic: frozenset({"late"})}
    assert refused.value.reason is Reason.INVALID_TIMESTAMP
    await producer.open()
    del records[20]
    await producer.publish(publication(records))
    assert len(await read(where, topic)) == 49
    await producer.close()
