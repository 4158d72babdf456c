"""Topics on a real Kafka: made, verified, and what is wrong with them said with its remedy."""

import shlex
import uuid
from typing import Any

import pytest
from structlog.testing import capture_logs

from streamer.config import Settings
from streamer.sink import Connection, KafkaUnavailable, TopicReader, TopicsUnfit, prepare_topics, replay_sink
from tests.testbed.kafka import Kafka
from tests.testbed.topics import create_topic
from tests.unit.sink.samples import connection, publication, read, record

pytestmark = pytest.mark.real


@pytest.fixture
def prefix() -> str:
    return f"t{uuid.uuid4().hex[:8]}"


def settings(
    kafka: Kafka, prefix: str, *, shards: int = 3, max_line_bytes: int = 786_432, **topics: Any
) -> Settings:
    return Settings.model_validate(
        {
            "cluster": prefix,
            "kubernetes": {"max_line_bytes": max_line_bytes},
            "kafka": {"bootstrap_servers": [kafka.bootstrap], "shards": shards},
            "topics": {"prefix": prefix, **topics},
        }
    )


async def prepare(one: Settings) -> list[str]:
    """The topics whose limits are known, or the problems."""
    try:
        return sorted(await prepare_topics(Connection(one.kafka), one))
    except TopicsUnfit as unfit:
        return unfit.problems


async def test_all_missing_topics_are_told_at_once_with_commands_that_make_them(
    kafka: Kafka, prefix: str
) -> None:
    config = {"alerts": {"max.message.bytes": "2000000"}}
    one = settings(kafka, prefix, partitions=4, replication_factor=1, config=config)
    [problem] = await prepare(one)
    head, *commands = problem.splitlines()
    assert head.startswith(f"missing topics: {prefix}.alerts.emergency, ")
    assert "topics.create: true" in head
    assert len(commands) == len(one.topic_specs) == 13
    for command, spec in zip(commands, one.topic_specs, strict=True):
        words = shlex.split(command)
        assert words[:4] == ["kafka-topics.sh", "--bootstrap-server", kafka.bootstrap, "--create"]
        assert words[words.index("--topic") + 1] == spec.name
        assert words[words.index("--partitions") + 1] == ("3" if spec.kind == "state" else "4")
        given = [words[at + 1] for at, word in enumerate(words) if word == "--config"]
        assert given == [f"{key}={value}" for key, value in sorted(spec.config.items())]


async def test_missing_topics_are_made_as_the_settings_say(kafka: Kafka, prefix: str) -> None:
    config = {"alerts": {"max.message.bytes": "2000000"}}
    one = settings(kafka, prefix, create=True, partitions=4, config=config)
    limits = await prepare_topics(Connection(one.kafka), one)
    assert set(limits) == {spec.name for spec in one.topic_specs}
    assert limits[f"{prefix}.alerts.notice"].max_message_bytes == 2_000_000
    async with TopicReader(
        connection(kafka.bootstrap), [f"{prefix}.alerts.debug", one.topic_names.state]
    ) as reader:
        counts = [partition.topic for partition in reader._partitions]
    assert counts.count(f"{prefix}.alerts.debug") == 4
    assert counts.count(one.topic_names.state) == 3
    assert await prepare(settings(kafka, prefix)) == sorted(limits)  # there they are: nothing to make


async def test_topics_are_made_with_the_brokers_defaults(kafka: Kafka, prefix: str) -> None:
    one = settings(kafka, prefix, create=True)
    assert await prepare(one) == sorted(spec.name for spec in one.topic_specs)


async def test_a_state_topic_of_other_shards_is_an_error(kafka: Kafka, prefix: str) -> None:
    await prepare(settings(kafka, prefix, create=True))
    [problem] = await prepare(settings(kafka, prefix, shards=5))
    assert "has 3 partitions, but kafka.shards is 5; set kafka.shards: 3" in problem


async def test_a_state_topic_that_forgets_and_an_alert_topic_that_merges_are_errors(
    kafka: Kafka, prefix: str
) -> None:
    await create_topic(kafka.bootstrap, f"falco-streamer.{prefix}.state", partitions=3)
    await create_topic(kafka.bootstrap, f"{prefix}.alerts.error", config={"cleanup.policy": "compact"})
    problems = await prepare(settings(kafka, prefix, create=True))
    assert len(problems) == 2
    for name, wrong, right in (
        (f"falco-streamer.{prefix}.state", "delete", "compact"),
        (f"{prefix}.alerts.error", "compact", "delete"),
    ):
        [problem] = [one for one in problems if f"topic {name} has cleanup.policy={wrong}" in one]
        assert problem.endswith(f"--entity-name {name} --add-config cleanup.policy={right}")


async def test_what_is_shorter_than_the_longest_line_is_told_with_the_value_to_set(
    kafka: Kafka, prefix: str
) -> None:
    await create_topic(kafka.bootstrap, f"{prefix}.alerts.error", config={"max.message.bytes": "50000"})
    with capture_logs() as logs:
        await prepare(settings(kafka, prefix, create=True))
        await prepare(settings(kafka, prefix, max_line_bytes=50_000 - 2048))
    [warning] = [one for one in logs if one["event"] == "topic_limit_low"]
    assert warning["topics"] == [f"{prefix}.alerts.error"]
    assert "max.message.bytes of these topics to at least 788480" in warning["fix"]
    assert "kubernetes.max_line_bytes to at most 47952" in warning["fix"]


async def test_what_kafka_has_against_a_topic_is_told(kafka: Kafka, prefix: str) -> None:
    [problem] = await prepare(settings(kafka, prefix, create=True, replication_factor=7))
    assert problem.startswith(
        f"Kafka refuses to create the topics {prefix}.alerts.emergency, {prefix}.alerts.alert, "
    )
    assert problem.count(f"{prefix}.") == 13
    assert "replication factor" in problem.lower()


async def test_a_missing_topic_is_told_to_a_reader(kafka: Kafka, prefix: str) -> None:
    with pytest.raises(KafkaUnavailable, match=f"there is no topic {prefix}"):
        await read(connection(kafka.bootstrap), prefix)


async def test_a_replay_needs_no_state_topic_and_writes_records_only(kafka: Kafka, prefix: str) -> None:
    one = settings(kafka, prefix, create=True)
    topic = f"{prefix}.alerts.error"
    async with replay_sink("kafka", one) as sink:
        for turn in range(3):
            records = [record(topic, f"{turn}-{n}", key=b"%d" % n) for n in range(500)]
            await sink.publish(publication(records, {"position": b"1"}))
    found = await read(connection(kafka.bootstrap), topic)
    assert len({one.header("ce_id") for one in found}) == len(found) == 1500
    [problem] = await prepare(settings(kafka, prefix))
    assert problem.startswith(f"missing topics: falco-streamer.{prefix}.state; ")
