"""A shard's producer on a real Kafka: exactly once, whoever else is there and whatever ends it."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from streamer.config.kafka import Kafka as KafkaSettings
from streamer.flow.publishing import Fenced, PublishError, PublishFailed
from streamer.model import Publication
from streamer.sink import (
    Connection,
    KafkaUnavailable,
    ShardProducer,
    StateBlocked,
    TopicReader,
    glance,
    preflight,
)
from streamer.sink.changelog import load_changelog
from streamer.sink.delivery import Delivery
from streamer.sink.guarded import GuardedProducer
from streamer.sink.packing import Packer
from tests.testbed.fixtures import parts_or_skip
from tests.testbed.kafka import Kafka
from tests.testbed.topics import create_topic
from tests.unit.sink.samples import connection, now_ms, publication, read, record, shard

pytestmark = pytest.mark.real

COMPACT = {"cleanup.policy": "compact"}


@pytest.fixture
def where(kafka: Kafka) -> Connection:
    return connection(kafka.bootstrap)


@pytest.fixture
async def alerts(kafka: Kafka) -> str:
    return await create_topic(kafka.bootstrap, partitions=3)


@pytest.fixture
async def state(kafka: Kafka) -> str:
    return await create_topic(kafka.bootstrap, partitions=2, config=COMPACT)


async def delete_topic(bootstrap: str, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.delete_topics([topic])
    await admin.close()


async def begin_without_end(where: Connection, name: str, left: Publication, state: str) -> GuardedProducer:
    """A transaction with everything sent and acknowledged, and no commit: what a crash leaves behind."""
    producer = GuardedProducer(where, "crashing", name)
    await producer.start()
    packer = Packer(compression="zstd", transactional=True)
    topics = {one.topic for one in left.records}
    await producer.learn([*topics, state])
    lanes = packer.pack(left.records, producer.partitions(topics), limits={}, now_ms=now_ms())
    changes = packer.pack_changes(left.changes, state, 0, limit=100_000, now_ms=now_ms())
    await producer.begin()
    assert await Delivery(producer).run([*lanes, changes])
    return producer


async def test_alerts_and_state_are_committed_together(where: Connection, alerts: str, state: str) -> None:
    producer = shard(where, state, alerts, index=1)
    assert await producer.open() == []
    records = [record(alerts, str(n), key=b"ns/pod%d" % (n % 20)) for n in range(2000)]
    await producer.publish(publication(records, {"position/a": b"1"}))
    await producer.close()
    found = await read(where, alerts)
    assert {one.value for one in found} == {one.value for one in records}
    assert len(found) == len(records)
    assert [(one.partition, one.key, one.value) for one in await read(where, state)] == [
        (1, b"position/a", b"1")
    ]


async def test_the_order_of_a_key_is_kept_over_transactions_and_owners(
    where: Connection, alerts: str, state: str
) -> None:
    for owner in range(2):
        producer = shard(where, state, alerts)
        await producer.open()
        for turn in range(10):
            first = (owner * 10 + turn) * 100
            records = [record(alerts, f"{first + n:06}", key=b"pod%d" % (n % 7)) for n in range(100)]
            await producer.publish(publication(records))
        await producer.close()
    by_key: dict[bytes | None, list[bytes]] = {}
    for one in await read(where, alerts):
        by_key.setdefault(one.key, []).append(one.header("ce_id") or b"")
    assert sum(map(len, by_key.values())) == 2000
    assert all(ids == sorted(ids) for ids in by_key.values())


async def test_a_second_owner_fences_the_first(where: Connection, alerts: str, state: str) -> None:
    first, second = shard(where, state, alerts), shard(where, state, alerts)
    await first.open()
    await first.publish(publication([record(alerts, "before")], {"owner": b"first"}))
    assert await second.open() == [("owner", b"first")]
    with pytest.raises(Fenced):
        await first.publish(publication([record(alerts, "zombie")], {"owner": b"zombie"}))
    await second.publish(publication([record(alerts, "after")], {"owner": b"second"}))
    assert [one.header("ce_id") for one in await read(where, alerts)] == [b"before", b"after"]
    assert await second.open() == [("owner", b"second")]
    await second.close()


async def test_another_shard_or_cluster_fences_nobody(where: Connection, alerts: str, state: str) -> None:
    producer = shard(where, state, alerts, cluster="a")
    await producer.open()
    for other in (
        shard(where, state, alerts, cluster="a", index=1),
        shard(where, state, alerts, cluster="b"),
    ):
        await other.open()
        await other.close()
    await producer.publish(publication([record(alerts, "1")]))
    await producer.close()


async def test_a_crash_before_the_commit_leaves_nothing(where: Connection, alerts: str, state: str) -> None:
    producer = shard(where, state, alerts, cluster=state)
    await producer.open()
    await producer.publish(publication([record(alerts, "1")], {"position": b"old"}))
    await producer.close()
    lost = publication([record(alerts, "2"), record(alerts, "3")], {"position": b"new"})
    crashed = await begin_without_end(where, f"falco-streamer.{state}-0", lost, state)
    await crashed.drop()
    assert len(await read(where, alerts, isolation="read_uncommitted")) == 3

    successor = shard(where, state, alerts, cluster=state)
    assert await successor.open() == [("position", b"old")]
    await successor.publish(publication(lost.records, {"position": b"new"}))
    assert [one.header("ce_id") for one in await read(where, alerts)] == [b"1", b"2", b"3"]
    assert await successor.open() == [("position", b"new")]
    await successor.close()


async def test_a_strangers_open_transaction_is_named(where: Connection, alerts: str, state: str) -> None:
    open_one = await begin_without_end(where, f"stranger-{state}", publication(changes={"a": b"1"}), state)
    with pytest.raises(
        StateBlocked, match=rf"topic {state}, partition 0 cannot be read beyond offset 0 of 1"
    ):
        await load_changelog(where, state, 0, patience_seconds=1.0)
    await open_one.drop()


async def test_a_glance_at_the_state_waits_for_nobody(where: Connection, alerts: str, state: str) -> None:
    assert await glance(where, state, "ledger") is None
    producer = shard(where, state, alerts, index=1)
    await producer.open()
    await producer.publish(publication(changes={"ledger": b"first", "position/a": b"1"}))
    assert await glance(where, state, "ledger") == b"first"
    open_one = await begin_without_end(
        where, f"dead-{state}", publication(changes={"ledger": b"open"}), state
    )
    async with asyncio.timeout(5):  # the load of this shard would wait for the broker to end it
        assert await glance(where, state, "ledger") == b"open"
    await open_one.drop()
    await producer.close()


async def test_an_open_transaction_is_not_waited_for_without_end(
    where: Connection, alerts: str, state: str
) -> None:
    open_one = await begin_without_end(where, f"stranger-{state}", publication([record(alerts, "1")]), state)
    async with asyncio.timeout(10), TopicReader(where, [alerts]) as reader:
        assert [one async for one in reader.until_end(patience_seconds=0.5)] == []
    await open_one.drop()


async def test_the_state_loads_after_many_transactions_and_tombstones(
    where: Connection, alerts: str, state: str
) -> None:
    producer = shard(where, state, alerts)
    await producer.open()
    expected: dict[str, bytes | None] = {}
    for turn in range(150):
        changes: dict[str, bytes | None] = {f"position/{(turn * 7 + n) % 40}": b"%d" % turn for n in range(5)}
        changes |= {f"position/{(turn * 3) % 40}": None, "ledger": b"%d" % turn}
        expected |= changes
        await producer.publish(publication([record(alerts, str(turn))], changes))
    loaded = await producer.open()
    assert dict(loaded) == {key: value for key, value in expected.items() if value is not None}
    assert len(dict(loaded)) == len(loaded)
    await producer.close()


async def test_a_load_ends_where_tombstones_and_markers_do(
    where: Connection, alerts: str, state: str
) -> None:
    producer = shard(where, state, alerts)
    await producer.open()
    await producer.publish(publication(changes={"a": b"1", "b": b"1"}))
    await producer.publish(publication(changes={"a": None, "b": None}))
    aborted = await begin_without_end(
        where, f"falco-streamer.{state}-0", publication(changes={"a": b"2"}), state
    )
    await aborted.drop()
    assert await producer.open() == []
    await producer.close()


async def test_one_failed_future_keeps_the_transaction_from_being_committed(
    where: Connection, kafka: Kafka, alerts: str, state: str
) -> None:
    """aiokafka's commit would succeed: it commits what is left."""
    picky = await create_topic(kafka.bootstrap, config={"message.timestamp.after.max.ms": "1000"})
    producer = shard(where, state, alerts, picky)
    await producer.open()
    records = [record(alerts, "good"), record(picky, "bad", ahead_ms=60_000)]
    with pytest.raises(Exception, match="invalid_timestamp"):
        await producer.publish(publication(records, {"position": b"1"}))
    assert await producer.open() == []
    assert await read(where, alerts, picky) == []
    await producer.close()


@pytest.mark.parametrize("seed", [1, 2])
async def test_whoever_is_cut_off_at_any_moment_finds_out_where_things_stand(
    where: Connection, alerts: str, state: str, seed: int
) -> None:
    chance = Random(seed)
    producer = shard(where, state, alerts)
    await producer.open()
    cut = committed = 0
    while committed < 40 or cut <= 5:
        wanted = publication(
            [record(alerts, f"{committed}-{n}", key=b"%d" % n) for n in range(20)],
            {"n": b"%d" % (committed + 1)},
        )
        try:
            async with asyncio.timeout(chance.uniform(0.0, 0.03)):
                await producer.publish(wanted)
        except TimeoutError:
            cut += 1
            assert not producer.ready
            known = dict(await producer.open())
            assert int(known.get("n", b"0")) in {committed, committed + 1}
            committed = int(known.get("n", b"0"))
        else:
            committed += 1
    await producer.close()
    found = [one.header("ce_id") for one in await read(where, alerts)]
    assert len(found) == len(set(found)) == committed * 20


async def test_a_deleted_topic_is_missed(kafka: Kafka, where: Connection, state: str) -> None:
    topic = await create_topic(kafka.bootstrap)
    producer = shard(where, state, topic, operation_seconds=3.0)
    await producer.open()
    await delete_topic(kafka.bootstrap, topic)
    with pytest.raises(PublishFailed):
        await producer.publish(publication([record(topic, "1")]))
    await producer.open()
    with pytest.raises(PublishFailed, match=f"topic {topic} does not exist; create it"):
        await producer.publish(publication([record(topic, "1")]))
    await producer.close()


async def test_without_transactions_it_is_there_as_well(where: Connection, alerts: str, state: str) -> None:
    plain = replace(where, kafka=where.kafka.model_copy(update={"delivery": "at_least_once"}))
    producer = shard(plain, state, alerts)
    await producer.open()
    records = [record(alerts, str(n), key=b"%d" % (n % 10), size=1500) for n in range(3000)]
    await producer.publish(publication(records, {"a": b"1", "b": None}))
    assert await producer.open() == [("a", b"1")]
    assert len(await read(plain, alerts)) == 3000
    await producer.close()


async def test_a_reader_that_starts_at_the_end_sees_only_what_comes(
    where: Connection, alerts: str, state: str
) -> None:
    producer = shard(where, state, alerts)
    await producer.open()
    await producer.publish(publication([record(alerts, "old")]))
    async with asyncio.timeout(20), TopicReader(where, [alerts], start="end") as reader:
        await producer.publish(publication([record(alerts, "new")]))
        async for one in reader:
            assert one.header("ce_id") == b"new"
            break
    await producer.close()


@pytest.mark.parametrize("protocol", ["ssl", "sasl_plaintext"])
async def test_the_wrong_protocol_is_told(kafka: Kafka, protocol: str) -> None:
    sasl = {"username": "me", "password": "secret"} if protocol.startswith("sasl") else {}
    security = {"protocol": protocol, "sasl": sasl}
    where = Connection(
        KafkaSettings.model_validate({"bootstrap_servers": [kafka.bootstrap], "security": security})
    )
    with pytest.raises(KafkaUnavailable, match=r"kafka\.security"):
        await preflight(where)


async def test_a_shard_that_was_quiet_until_the_broker_forgot_its_id_goes_on() -> None:
    """As after a week without an alert."""
    hasty = {
        "transactional.id.expiration.ms": "1000",
        "transaction.remove.expired.transaction.cleanup.interval.ms": "200",
    }
    with parts_or_skip(), Kafka(extra_properties=hasty) as kafka:
        await create_topic(kafka.bootstrap, "alerts")
        await create_topic(kafka.bootstrap, "state", config=COMPACT)
        producer = shard(connection(kafka.bootstrap), "state", "alerts")
        await producer.open()
        count, forgotten = 0, False
        while not forgotten:
            numbered = str(count)
            wanted = publication([record("alerts", numbered)], {"position": numbered.encode()})
            try:
                await producer.publish(wanted)
            except PublishError:
                forgotten = True
            else:
                count += 1
                assert count < 10, "the broker forgets nothing"
                await asyncio.sleep(3.0)  # its clock has to go on
        assert dict(await producer.open()) == {"position": str(count - 1).encode()}
        await producer.publish(publication([record("alerts", "last")], {"position": b"last"}))
        await producer.close()
        found = [one.header("ce_id") for one in await read(connection(kafka.bootstrap), "alerts")]
        assert found == [*(str(number).encode() for number in range(count)), b"last"]


class TestBrokerInTrouble:
    """These have a broker of their own, to freeze and to kill."""

    @pytest.fixture
    def where(self, private_kafka: Kafka) -> Connection:
        return connection(private_kafka.bootstrap)

    @pytest.fixture
    async def opened(self, private_kafka: Kafka, where: Connection) -> ShardProducer:
        await create_topic(private_kafka.bootstrap, "alerts", partitions=2)
        await create_topic(private_kafka.bootstrap, "state", config=COMPACT)
        producer = shard(where, "state", "alerts", operation_seconds=2.0)
        await producer.open()
        await producer.publish(publication([record("alerts", "1")], {"position": b"1"}))
        return producer

    @pytest.mark.parametrize("trouble", [(Kafka.freeze, Kafka.resume), (Kafka.kill, Kafka.start)])
    async def test_a_publication_is_given_up_in_time_and_made_good(
        self,
        private_kafka: Kafka,
        where: Connection,
        opened: ShardProducer,
        trouble: tuple[Callable[[Kafka], None], Callable[[Kafka], None]],
    ) -> None:
        begin, end = trouble
        begin(private_kafka)
        before = time.monotonic()
        wanted = publication([record("alerts", "2")], {"position": b"2"})
        with pytest.raises(PublishFailed):
            await opened.publish(wanted)
        assert time.monotonic() - before < 5
        end(private_kafka)
        async with asyncio.timeout(60):
            state = dict(await opened_again(opened))
            if state == {"position": b"1"}:
                await opened.publish(wanted)
        assert [one.header("ce_id") for one in await read(where, "alerts")] == [b"1", b"2"]
        assert await opened.open() == [("position", b"2")]
        await opened.close()

    async def test_a_broker_that_is_away_is_named(self, private_kafka: Kafka, opened: ShardProducer) -> None:
        await opened.close()
        private_kafka.stop()
        with pytest.raises(
            KafkaUnavailable, match=f"cannot reach {private_kafka.bootstrap}: connection refused"
        ):
            await opened.open()


async def opened_again(producer: ShardProducer) -> list[tuple[str, bytes]]:
    """Open until it works, as a shard does."""
    while True:
        try:
            return await producer.open()
        except KafkaUnavailable:
            await asyncio.sleep(0.1)
