"""The mock broker, the spacing of refreshes, sinks for replay, topics where nobody can be asked to make them."""

import asyncio
import importlib.util
import io

import pytest
from aiokafka.client import AIOKafkaClient

from streamer.config import Settings
from streamer.sink import Connection, TopicReader, TopicsUnfit, prepare_topics, replay_sink
from streamer.sink.client import drop, learn_topics, space_metadata_refreshes
from streamer.sink.mock_broker import MockBroker, MockBrokerMissing
from streamer.sink.replay_sink import NullSink, StdoutSink
from tests.unit.sink.samples import publication, read, record


def test_a_missing_wheel_is_one_line_that_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MockBrokerMissing, match=r"^[^\n]*pip install 'falco-streamer\[demo\]'[^\n]*$"):
        MockBroker()


async def test_the_mock_brokers_topics_have_the_partitions_asked_for(
    broker: MockBroker, where: Connection
) -> None:
    broker.create_topic("later", 9)
    async with TopicReader(where, ["later", "wide"]) as reader:
        counts = [partition.topic for partition in reader._partitions]
    assert (counts.count("later"), counts.count("wide")) == (9, 6)
    with pytest.raises(OSError, match="topic later was not made"):
        broker.create_topic("later", 9)


def test_a_mock_broker_may_be_closed_twice() -> None:
    broker = MockBroker()
    broker.close()
    broker.close()


async def test_refreshes_of_metadata_are_spaced_and_nobody_waits_in_vain(
    broker: MockBroker, caplog: pytest.LogCaptureFixture
) -> None:
    client = AIOKafkaClient(bootstrap_servers=broker.bootstrap)
    space_metadata_refreshes(client, 0.1)
    await client.bootstrap()
    loop = asyncio.get_running_loop()
    caplog.set_level("DEBUG", "aiokafka")
    started, turns = loop.time(), 0
    while loop.time() - started < 0.55:
        assert await client.force_metadata_update()
        turns += 1
    asked = [one for one in caplog.records if one.message.startswith("Sending metadata request")]
    assert len(asked) == turns <= 7
    assert await learn_topics(client, ["alerts", "wide"]) == []
    await drop(client)


async def test_all_topics_are_learnt_by_one_request(
    broker: MockBroker, caplog: pytest.LogCaptureFixture
) -> None:
    client = AIOKafkaClient(bootstrap_servers=broker.bootstrap)
    space_metadata_refreshes(client)
    await client.bootstrap()
    caplog.set_level("DEBUG", "aiokafka")
    assert await learn_topics(client, ["alerts", "wide", "state"]) == []
    assert await learn_topics(client, ["wide"]) == []
    assert len([one for one in caplog.records if one.message.startswith("Sending metadata request")]) == 1
    await drop(client)


async def test_a_topic_is_never_made_by_asking_about_it(broker: MockBroker) -> None:
    client = AIOKafkaClient(bootstrap_servers=broker.bootstrap)
    space_metadata_refreshes(client, 0.05)
    await client.bootstrap()
    assert await learn_topics(client, ["alerts", "nowhere"], patience_seconds=0.2) == ["nowhere"]
    await drop(client)


async def test_a_topic_that_is_just_being_made_is_waited_for(broker: MockBroker) -> None:
    client = AIOKafkaClient(bootstrap_servers=broker.bootstrap)
    space_metadata_refreshes(client, 0.05)
    await client.bootstrap()
    async with asyncio.TaskGroup() as tasks:
        learning = tasks.create_task(learn_topics(client, ["alerts", "late"], patience_seconds=10))
        assert await learn_topics(client, ["late"], patience_seconds=0.1) == ["late"]
        broker.create_topic("late", 3)
    assert learning.result() == []
    await drop(client)


async def test_standard_output_gets_the_values_one_a_line() -> None:
    out = io.BytesIO()
    sink = StdoutSink(out)
    await sink.publish(
        publication([record("a", "one", size=3), record("b", "two", size=3)], {"position": b"x"})
    )
    await sink.publish(publication())
    assert out.getvalue() == b"one\ntwo\n"


async def test_nowhere_counts() -> None:
    sink = NullSink()
    for _ in range(2):
        await sink.publish(publication([record("a", "1"), record("a", "2")]))
    assert sink.records == 4


async def test_a_replay_to_kafka_writes_no_state(broker: MockBroker) -> None:
    settings = Settings.model_validate(
        {"kafka": {"bootstrap_servers": [broker.bootstrap]}, "topics": {"create": True}}
    )
    async with replay_sink("kafka", settings) as sink:
        await sink.publish(publication([record("falco.health", "1")], {"position": b"x"}))
    where = Connection(settings.kafka)
    assert [one.header("ce_id") for one in await read(where, "falco.health")] == [b"1"]
    there = settings.topics.model_copy(update={"create": False})
    with pytest.raises(TopicsUnfit, match=r"missing topics: falco-streamer\.local\.state; "):
        await prepare_topics(where, settings.model_copy(update={"topics": there}))


async def test_a_broker_that_makes_topics_at_use_needs_no_administrator(broker: MockBroker) -> None:
    settings = Settings.model_validate(
        {"kafka": {"bootstrap_servers": [broker.bootstrap], "shards": 4}, "topics": {"create": True}}
    )
    assert await prepare_topics(Connection(settings.kafka), settings) == {}
    eight = settings.model_copy(update={"kafka": settings.kafka.model_copy(update={"shards": 8})})
    with pytest.raises(TopicsUnfit, match=r"has 4 partitions, but kafka\.shards is 8"):
        await prepare_topics(Connection(eight.kafka), eight)
