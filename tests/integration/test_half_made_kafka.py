"""Clusters on which no record can be written, though each broker answers: named within seconds, with the way out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from streamer.config import Settings
from streamer.model import Finding, Verdict
from streamer.sink import Connection, KafkaUnavailable, examine_kafka, prepare_topics
from tests.e2e.program import Program
from tests.testbed.fixtures import parts_or_skip
from tests.testbed.kafka import Kafka, compiled
from tests.testbed.planted.brokers import UNMAKEABLE, UNWRITABLE
from tests.testbed.topics import create_topic

pytestmark = pytest.mark.real

NO_COORDINATOR = (
    "no transaction coordinator: Kafka has not created its topic __transaction_state; "
    "transaction.state.log.replication.factor is above the number of brokers (1)"
)
ANY_KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: nowhere
contexts: [{name: nowhere, context: {cluster: nowhere, user: nobody}}]
clusters: [{name: nowhere, cluster: {server: "http://127.0.0.1:1"}}]
users: [{name: nobody, user: {}}]
"""
JAVA = Path(__file__).parents[1] / "testbed" / "java"


@contextmanager
def broker(properties: Mapping[str, str], **more: Any) -> Iterator[Kafka]:
    with parts_or_skip(), Kafka(extra_properties=properties, **more) as kafka:
        yield kafka


@pytest.fixture(scope="module")
def unmakeable() -> Iterator[Kafka]:
    """A single broker with Kafka's own defaults: its internal topics want three."""
    with broker(UNMAKEABLE) as kafka:
        yield kafka


@pytest.fixture(scope="module")
def serverless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """It refuses what MSK Serverless refuses."""
    with parts_or_skip():
        classes = compiled(JAVA / "ServerlessPolicy.java", tmp_path_factory.mktemp("classes"))
    policy = {"create.topic.policy.class.name": "ServerlessPolicy"}
    with broker(policy, classes=[classes]) as kafka:
        yield kafka


def settings(kafka: Kafka, **topics: Any) -> Settings:
    return Settings.model_validate(
        {
            "cluster": "half-made",
            "kafka": {"bootstrap_servers": [kafka.bootstrap], "shards": 2},
            "topics": {"create": True, **topics},
        }
    )


async def found(one: Settings) -> list[Finding]:
    return [finding async for finding in examine_kafka(one) if finding.verdict is not Verdict.FINE]


async def test_doctor_names_the_setting_that_keeps_kafka_from_having_coordinators(unmakeable: Kafka) -> None:
    [finding] = await found(settings(unmakeable))
    assert (finding.check, finding.verdict) == ("kafka.coordinator", Verdict.FAULT)
    assert finding.what == NO_COORDINATOR
    assert finding.fix == (
        "set transaction.state.log.replication.factor to 1 on the brokers, or start more of them"
    )


async def test_without_transactions_it_is_the_group_that_has_none(unmakeable: Kafka) -> None:
    one = settings(unmakeable)
    plain = one.model_copy(update={"kafka": one.kafka.model_copy(update={"delivery": "at_least_once"})})
    [finding] = await found(plain)
    assert finding.what.startswith(
        "no group coordinator: Kafka has not created its topic __consumer_offsets; "
    )
    assert "offsets.topic.replication.factor" in finding.fix


def test_run_says_so_before_any_timeout(unmakeable: Kafka, tmp_path: Path) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(ANY_KUBECONFIG)
    values = {
        "cluster": "half-made",
        "kafka.bootstrap_servers": unmakeable.bootstrap,
        "kubernetes.kubeconfig": str(kubeconfig),
        "topics.create": "true",
        "http.port": "0",
    }
    with Program("run", *(part for item in values.items() for part in ("--set", "=".join(item)))) as worker:
        worker.until("kafka_unavailable")
        assert NO_COORDINATOR in worker.text


async def test_a_transaction_log_that_cannot_be_written() -> None:
    with broker(UNWRITABLE) as kafka:
        with pytest.raises(KafkaUnavailable) as refused:
            await prepare_topics(Connection(settings(kafka).kafka), settings(kafka))
        assert refused.value.cause == (
            "the transaction coordinator cannot write: Kafka's topic __transaction_state has 1 of 1 replicas in sync, "
            "but min.insync.replicas is 2"
        )
        assert "--entity-name __transaction_state --add-config min.insync.replicas=1`" in refused.value.fix
        [finding] = await found(settings(kafka))
        assert (finding.check, finding.what) == ("kafka.coordinator", refused.value.cause)


async def test_a_topic_that_takes_no_record_for_want_of_replicas(kafka: Kafka) -> None:
    one = Settings.model_validate(
        {
            "cluster": "half-made",
            "kafka": {"bootstrap_servers": [kafka.bootstrap], "shards": 2},
            "topics": {"create": True, "prefix": "half-made"},
        }
    )
    topic = await create_topic(kafka.bootstrap, one.topic_names.overflow, config={"min.insync.replicas": "2"})
    told = f"topic {topic} has 1 of 1 replicas in sync, but min.insync.replicas is 2: it takes no record"
    with pytest.raises(KafkaUnavailable) as refused:
        await prepare_topics(Connection(one.kafka), one)
    assert refused.value.cause == told
    assert [finding.what for finding in await found(one)] == [told]


async def test_topics_are_created_without_the_settings_that_a_service_refuses(serverless: Kafka) -> None:
    one = settings(serverless)
    [warning] = await found(one)
    assert (warning.check, warning.verdict) == ("kafka.topics.settings", Verdict.WARNING)
    assert warning.what.startswith(f"{one.topic_names.state}: Kafka refuses to set segment.bytes, ")
    limits = await prepare_topics(Connection(one.kafka), one)
    assert set(limits) == {spec.name for spec in one.topic_specs}
    assert await found(one) == []


async def test_a_setting_of_ones_own_that_is_refused_is_a_fault_with_its_place(serverless: Kafka) -> None:
    one = settings(serverless, prefix="mine", config={"health": {"segment.bytes": "1048576"}})
    [finding] = await found(one)
    assert (finding.check, finding.verdict) == ("kafka.topics.missing", Verdict.FAULT)
    assert finding.what == (
        "Kafka refuses to create the topic mine.health: Topic configuration segment.bytes cannot be set"
    )
    assert finding.fix == (
        "set what it names to another value, or to null, in topics.config.health; or create the topics yourself"
    )
