"""The test bed's broker is a real one: transactions commit and abort, and what was committed survives a kill."""

import asyncio
from collections.abc import Sequence

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaConnectionError, ProducerFenced

from tests.testbed.fixtures import parts_or_skip
from tests.testbed.kafka import Kafka
from tests.testbed.topics import create_topic

pytestmark = pytest.mark.real

SECONDS = 30


async def committed(kafka: Kafka, topic: str) -> Sequence[bytes | None]:
    """What a read_committed consumer sees, up to the partition's end."""
    partition = TopicPartition(topic, 0)
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap, isolation_level="read_committed")
    await consumer.start()
    try:
        consumer.assign([partition])
        await consumer.seek_to_beginning(partition)
        end = (await consumer.end_offsets([partition]))[partition]
        values: list[bytes | None] = []
        async with asyncio.timeout(SECONDS):
            while await consumer.position(partition) < end:
                batches = await consumer.getmany(timeout_ms=200)
                values += [record.value for batch in batches.values() for record in batch]
        return values
    finally:
        await consumer.stop()


def producer(kafka: Kafka, transactional_id: str) -> AIOKafkaProducer:
    return AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, transactional_id=transactional_id)


async def test_a_committed_transaction_is_seen_and_an_aborted_one_is_not(kafka: Kafka) -> None:
    topic = await create_topic(kafka.bootstrap)
    async with asyncio.timeout(SECONDS), producer(kafka, topic) as sender:
        async with sender.transaction():
            await sender.send_and_wait(topic, b"kept")
        await sender.begin_transaction()
        await sender.send_and_wait(topic, b"dropped")
        await sender.abort_transaction()
        async with sender.transaction():
            await sender.send_and_wait(topic, b"kept too")
    assert await committed(kafka, topic) == [b"kept", b"kept too"]


async def test_a_second_owner_of_a_transactional_id_fences_the_first(kafka: Kafka) -> None:
    topic = await create_topic(kafka.bootstrap)
    async with asyncio.timeout(SECONDS), producer(kafka, topic) as first:
        await first.begin_transaction()
        await first.send_and_wait(topic, b"zombie")
        async with producer(kafka, topic):
            with pytest.raises(ProducerFenced):
                await first.commit_transaction()
    assert await committed(kafka, topic) == []


async def test_what_was_committed_survives_a_killed_broker(private_kafka: Kafka) -> None:
    topic = await create_topic(private_kafka.bootstrap)
    async with asyncio.timeout(SECONDS), producer(private_kafka, topic) as sender, sender.transaction():
        await sender.send_and_wait(topic, b"kept")
    private_kafka.kill()
    assert not private_kafka.process.running
    await asyncio.to_thread(private_kafka.start)
    assert await committed(private_kafka, topic) == [b"kept"]


async def test_a_frozen_broker_answers_again_when_it_is_resumed(private_kafka: Kafka) -> None:
    topic = await create_topic(private_kafka.bootstrap)
    async with (
        asyncio.timeout(SECONDS),
        AIOKafkaProducer(bootstrap_servers=private_kafka.bootstrap) as sender,
    ):
        await sender.send_and_wait(topic, b"before")
        private_kafka.freeze()
        sent = await sender.send(topic, b"meanwhile")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(sent), 0.5)
        private_kafka.resume()
        await sent
    assert await committed(private_kafka, topic) == [b"before", b"meanwhile"]


async def test_of_three_brokers_one_may_die(kafka_brokers: Sequence[Kafka]) -> None:
    first, second, _ = kafka_brokers
    topic = await create_topic(first.bootstrap)
    async with asyncio.timeout(SECONDS), producer(first, topic) as sender:
        async with sender.transaction():
            await sender.send_and_wait(topic, b"on all three")
        second.kill()
        async with sender.transaction():
            await sender.send_and_wait(topic, b"on two")
    assert await committed(first, topic) == [b"on all three", b"on two"]


async def test_properties_of_a_test_win_over_ours() -> None:
    """A broker that wants a password on its client listener, while it reaches itself without one."""
    login = "org.apache.kafka.common.security.plain.PlainLoginModule required user_alice='secret';"
    properties = {
        "listener.security.protocol.map": "CLIENT:SASL_PLAINTEXT,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "listener.name.client.sasl.enabled.mechanisms": "PLAIN",
        "listener.name.client.plain.sasl.jaas.config": login,
    }
    with parts_or_skip(), Kafka(extra_properties=properties) as broker:
        for password, welcome in (("secret", True), ("wrong", False)):
            sender = AIOKafkaProducer(
                bootstrap_servers=broker.bootstrap,
                security_protocol="SASL_PLAINTEXT",
                sasl_mechanism="PLAIN",
                sasl_plain_username="alice",
                sasl_plain_password=password,
            )
            try:
                await sender.start()
                assert welcome
            except KafkaConnectionError:
                assert not welcome
            finally:
                await sender.stop()
