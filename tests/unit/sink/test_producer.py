"""What a shard's producer makes of Kafka's answers; the broker is librdkafka's mock, which gives any answer."""

import asyncio
import gc
import logging

import pytest
from aiokafka.client import AIOKafkaClient

from streamer.flow.publishing import BatchRefused, Fenced, PublishFailed, RecordsRefused
from streamer.model import Reason
from streamer.sink import Connection, KafkaUnavailable, ShardProducer, TopicLimits
from streamer.sink.mock_broker import (
    ADD_PARTITIONS_TO_TXN,
    END_TXN,
    INIT_PRODUCER_ID,
    PRODUCE,
    TRANSPORT,
    MockBroker,
)
from tests.unit.sink.samples import (
    at_least_once,
    connection,
    incompressible,
    publication,
    read,
    record,
    shard,
)

MESSAGE_TOO_LARGE = 10
NOT_LEADER = 6
TOPIC_AUTHORIZATION = 29
INVALID_TIMESTAMP = 32
OUT_OF_ORDER = 45
PRODUCER_FENCED = 47
INVALID_TXN_STATE = 48
ID_MAPPING = 49
ID_AUTHORIZATION = 53


async def test_alerts_and_state_are_written(where: Connection) -> None:
    producer = shard(where, "state", "alerts", "wide", index=1)
    assert await producer.open() == []
    records = [record("wide", str(n), key=b"key%d" % (n % 5)) for n in range(300)]
    await producer.publish(publication(records, {"position/a": b"1", "ledger": b"7"}))
    await producer.close()
    unchecked = Connection(where.kafka, check_crcs=False)  # the mock broker's commit markers have no checksum
    found = await read(unchecked, "wide")
    assert sorted(one.value or b"" for one in found) == sorted(one.value for one in records)
    assert {one.header("ce_id") for one in found} == {one.id.encode() for one in records}
    stored = await read(unchecked, "state")
    assert [(one.partition, one.key, one.value) for one in stored] == [
        (1, b"position/a", b"1"),
        (1, b"ledger", b"7"),
    ]


async def test_a_broker_that_knows_no_brokers_yet_is_an_outage(
    where: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kafka after a freeze: it answers, but names no broker until its own session is renewed. aiokafka asserts."""
    producer = shard(where, "state", "alerts")
    client = AIOKafkaClient.get_random_node
    monkeypatch.setattr(AIOKafkaClient, "get_random_node", lambda _: None)
    with pytest.raises(KafkaUnavailable, match="bootstrap"):
        await producer.open()
    monkeypatch.setattr(AIOKafkaClient, "get_random_node", client)
    assert await producer.open() == []
    await producer.close()


async def test_nothing_to_publish_asks_nothing_of_kafka(where: Connection, broker: MockBroker) -> None:
    producer = shard(where, "state", "alerts")
    await producer.open()
    broker.set_down()
    await producer.publish(publication())
    assert producer.ready
    await producer.close()


class TestAtLeastOnce:
    async def test_the_state_is_loaded_again_without_what_was_deleted(self, where: Connection) -> None:
        producer = shard(at_least_once(where), "state", "alerts")
        assert await producer.open() == []
        await producer.publish(publication([record("alerts", "1")], {"a": b"1", "b": b"1"}))
        await producer.publish(publication([record("alerts", "2")], {"a": b"2", "b": None}))
        assert await producer.open() == [("a", b"2")]
        await producer.close()

    async def test_a_state_of_one_record_is_loaded(self, where: Connection) -> None:
        producer = shard(at_least_once(where), "state")
        await producer.open()
        await producer.publish(publication(changes={"a": b"1"}))
        assert await producer.open() == [("a", b"1")]
        await producer.close()

    async def test_the_state_waits_for_the_alerts(self, where: Connection, broker: MockBroker) -> None:
        producer = shard(at_least_once(where), "state", "alerts")
        await producer.open()
        broker.push_request_errors(PRODUCE, [TOPIC_AUTHORIZATION])
        with pytest.raises(PublishFailed, match="we may not use the topic alerts; grant WRITE on it"):
            await producer.publish(publication([record("alerts", "1")], {"a": b"1"}))
        assert await producer.open() == []
        await producer.close()

    async def test_the_changes_of_state_are_one_batch(self, where: Connection, broker: MockBroker) -> None:
        producer = shard(at_least_once(where), "state", "alerts")
        await producer.open()
        # The second request is refused: were the state two batches, the first half of it would be there.
        broker.push_request_errors(PRODUCE, [0, TOPIC_AUTHORIZATION])
        changes = {f"position/{n}": b"%d" % n * 300 for n in range(800)}
        await producer.publish(publication(changes=dict(changes)))
        assert dict(await producer.open()) == changes
        await producer.close()


class TestRefusals:
    @pytest.mark.parametrize(
        ("code", "reason"),
        [(MESSAGE_TOO_LARGE, Reason.RECORD_TOO_LARGE), (INVALID_TIMESTAMP, Reason.INVALID_TIMESTAMP)],
    )
    async def test_a_refused_batch_names_its_topic(
        self, where: Connection, broker: MockBroker, code: int, reason: Reason
    ) -> None:
        wanted = publication([record("alerts", str(n)) for n in range(5)])
        producer = shard(where, "state", "alerts")
        await producer.open()
        broker.push_request_errors(PRODUCE, [code])
        with pytest.raises(BatchRefused) as batch:
            await producer.publish(wanted)
        assert batch.value.topics == {"alerts"}
        assert batch.value.reason is reason
        assert not producer.ready

    @pytest.mark.parametrize(
        ("code", "words"),
        [
            (
                76,
                "[Error 76] UNSUPPORTED_COMPRESSION_TYPE; Kafka may not take zstd: set kafka.compression",
            ),
            (43, "; Kafka may not take zstd: set kafka.compression to none"),
            (999, "alerts/0 was not written: [Error 999] UNKNOWN_CODE"),
        ],
    )
    async def test_a_code_that_aiokafka_does_not_know_is_named(
        self, where: Connection, broker: MockBroker, code: int, words: str
    ) -> None:
        producer = shard(where, "state", "alerts")
        await producer.open()
        broker.push_request_errors(PRODUCE, [code])
        with pytest.raises(PublishFailed) as failed:
            await producer.publish(publication([record("alerts", "1")]))
        assert words in str(failed.value)

    async def test_only_the_suspects_travel_alone(self, where: Connection, broker: MockBroker) -> None:
        producer = shard(where, "state", "alerts", "wide")
        await producer.open()
        broker.push_request_errors(PRODUCE, [MESSAGE_TOO_LARGE])
        suspects = [record("alerts", f"suspect{n}") for n in range(3)]
        with pytest.raises(BatchRefused) as batch:
            await producer.publish(publication(suspects))
        more = [record("alerts", f"new{n}") for n in range(3)]
        await reopen(producer, where)
        broker.push_request_errors(PRODUCE, [0, MESSAGE_TOO_LARGE])
        with pytest.raises(RecordsRefused) as refused:
            await producer.publish(publication([*suspects, *more]), isolate=batch.value.topics)
        assert refused.value.records == {"alerts": frozenset({"suspect1"})}

    async def test_a_record_known_to_be_too_large_costs_nothing(
        self, where: Connection, broker: MockBroker
    ) -> None:
        producer = shard(where, "state", "alerts", limits={"alerts": TopicLimits(1000)})
        await producer.open()
        broker.push_request_errors(PRODUCE, [TOPIC_AUTHORIZATION])  # would fail whatever was sent
        with pytest.raises(RecordsRefused) as refused:
            await producer.publish(publication([record("alerts", "1"), incompressible("alerts", "2", 2000)]))
        assert refused.value.records == {"alerts": frozenset({"2"})}
        assert producer.ready
        await producer.close()

    async def test_a_state_topic_that_takes_too_little_is_said(
        self, where: Connection, broker: MockBroker
    ) -> None:
        producer = shard(where, "state", "alerts")
        await producer.open()
        broker.push_request_errors(PRODUCE, [MESSAGE_TOO_LARGE])
        with pytest.raises(PublishFailed, match=r"the state topic state refuses .* max\.message\.bytes"):
            await producer.publish(publication(changes={"a": b"1"}))


class TestFailures:
    @pytest.mark.parametrize(
        ("api", "code", "error"),
        [
            (PRODUCE, PRODUCER_FENCED, Fenced),
            (PRODUCE, OUT_OF_ORDER, PublishFailed),
            (PRODUCE, TOPIC_AUTHORIZATION, PublishFailed),
            (ADD_PARTITIONS_TO_TXN, PRODUCER_FENCED, Fenced),
            (ADD_PARTITIONS_TO_TXN, ID_MAPPING, PublishFailed),
            (ADD_PARTITIONS_TO_TXN, TOPIC_AUTHORIZATION, PublishFailed),
            (ADD_PARTITIONS_TO_TXN, ID_AUTHORIZATION, PublishFailed),
            (END_TXN, PRODUCER_FENCED, Fenced),
            (END_TXN, INVALID_TXN_STATE, PublishFailed),
            (END_TXN, -1, PublishFailed),
        ],
    )
    async def test_after_a_failure_the_producer_is_gone_and_the_next_one_works(
        self,
        where: Connection,
        broker: MockBroker,
        caplog: pytest.LogCaptureFixture,
        api: int,
        code: int,
        error: type[Exception],
    ) -> None:
        producer = shard(where, "state", "alerts", operation_seconds=5.0)
        await producer.open()
        broker.push_request_errors(api, [code])
        with pytest.raises(error):
            await producer.publish(publication([record("alerts", "1")], {"a": b"1"}))
        assert not producer.ready
        with pytest.raises(PublishFailed, match="not open"):
            await producer.publish(publication([record("alerts", "1")]))
        await reopen(producer, where)
        await producer.publish(publication([record("alerts", "2")], {"a": b"2"}))
        await producer.close()
        gc.collect()  # asyncio reports an exception that nobody looked at when its future goes
        assert not [one for one in caplog.records if "never retrieved" in one.message]

    async def test_an_answer_that_never_comes_has_a_limit(
        self, where: Connection, broker: MockBroker
    ) -> None:
        producer = shard(where, "state", "alerts", operation_seconds=0.5)
        await producer.open()
        broker.set_delay(5_000)
        with pytest.raises(PublishFailed, match="no acknowledgement of alerts/0, state/0 within"):
            async with asyncio.timeout(3):
                await producer.publish(publication([record("alerts", "1")], {"a": b"1"}))

    async def test_who_is_cancelled_leaves_nothing_behind(
        self, where: Connection, broker: MockBroker
    ) -> None:
        producer = shard(where, "state", "alerts")
        await producer.open()
        broker.set_delay(5_000)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await producer.publish(publication([record("alerts", "1")]))
        assert not producer.ready

    async def test_a_missing_leader_is_waited_for_at_leisure(
        self, where: Connection, broker: MockBroker, caplog: pytest.LogCaptureFixture
    ) -> None:
        producer = shard(where, "state", "alerts", operation_seconds=1.5)
        await producer.open()
        broker.set_leader("alerts", 0, -1)
        broker.push_request_errors(PRODUCE, [NOT_LEADER])
        with (
            caplog.at_level(logging.DEBUG, "aiokafka"),
            pytest.raises(PublishFailed, match="alerts/0"),
        ):
            await producer.publish(publication([record("alerts", "1")]))
        asked = [one for one in caplog.records if one.message.startswith("Sending metadata request")]
        assert 2 <= len(asked) <= 8  # every quarter of a second

    @pytest.mark.parametrize("api", [ADD_PARTITIONS_TO_TXN, END_TXN])
    async def test_a_repeated_request_of_the_transaction_renews_the_producer(
        self, where: Connection, broker: MockBroker, api: int
    ) -> None:
        producer = shard(where, "state", "alerts")
        await producer.open()
        await producer.publish(publication([record("alerts", "1")]))
        assert (producer.renew_needed, producer.ready) == (False, True)
        broker.push_request_errors(api, [TRANSPORT])
        await producer.publish(publication([record("alerts", "2")]))
        assert (producer.renew_needed, producer.ready) == (True, False)
        await reopen(producer, where)
        assert (producer.renew_needed, producer.ready) == (False, True)
        await producer.close()


class TestOpening:
    async def test_what_forbids_the_transactional_id_is_said(
        self, where: Connection, broker: MockBroker
    ) -> None:
        broker.push_request_errors(INIT_PRODUCER_ID, [ID_AUTHORIZATION])
        with pytest.raises(
            KafkaUnavailable, match=r"transactional id falco-streamer\.prod-0; grant WRITE on it"
        ):
            await shard(where, "state", cluster="prod").open()

    async def test_a_missing_state_topic_is_said(self, where: Connection) -> None:
        with pytest.raises(KafkaUnavailable, match="topic state has no partition 7"):
            await shard(where, "state", index=7).open()

    async def test_a_broker_that_is_away_is_named(self, where: Connection, broker: MockBroker) -> None:
        broker.set_down()
        with pytest.raises(KafkaUnavailable, match=f"cannot reach {broker.bootstrap}: connection refused"):
            await shard(where, "state").open()

    async def test_a_start_that_is_cut_off_while_it_asks_leaves_no_socket(
        self, where: Connection, broker: MockBroker
    ) -> None:
        broker.set_delay(300)  # the first answer comes in time, the second does not
        with pytest.raises(KafkaUnavailable, match="did not serve: no answer in time"):
            await shard(where, "state", operation_seconds=0.45).open()
        gc.collect()  # a connection that nobody closed complains now

    async def test_a_frozen_broker_has_a_limit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("streamer.sink.diagnosis._PREFLIGHT_SECONDS", 0.2)
        silent = await asyncio.start_server(lambda _, writer: held.append(writer), "127.0.0.1", 0)
        held: list[asyncio.StreamWriter] = []
        port = silent.sockets[0].getsockname()[1]
        producer = shard(connection(f"127.0.0.1:{port}"), "state", operation_seconds=0.3)
        with pytest.raises(KafkaUnavailable, match=f"cannot reach 127.0.0.1:{port}: no answer"):
            async with asyncio.timeout(3):
                await producer.open()
        for writer in held:
            writer.close()
        silent.close()
        await silent.wait_closed()


async def reopen(producer: ShardProducer, where: Connection) -> None:
    """Open a producer again; its state is read without checksums, for the mock broker's markers have none."""
    producer._connection = Connection(where.kafka, check_crcs=False)
    await producer.open()
