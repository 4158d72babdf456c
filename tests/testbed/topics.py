"""Topics for tests: the broker makes none by itself, and none is shared between tests."""

import uuid
from collections.abc import Mapping

from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType


async def create_topic(
    bootstrap: str,
    name: str | None = None,
    *,
    partitions: int = 1,
    replication_factor: int = -1,
    config: Mapping[str, str] | None = None,
) -> str:
    """Make a topic, by default with a name that nobody else has, and return its name.

    -1 stands for the broker's default; `config` are topic settings such as cleanup.policy. RuntimeError if the
    broker refuses: aiokafka hands the error codes back instead of raising them.
    """
    topic = name or f"testbed-{uuid.uuid4().hex[:12]}"
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        # aiokafka takes -1 for "replicas are assigned by hand", and is content with no assignment at all.
        by_hand: dict[int, list[int]] | None = {} if replication_factor == -1 else None
        wanted = NewTopic(topic, partitions, replication_factor, by_hand, dict(config or {}))
        answer = await admin.create_topics([wanted])
        for _, code, message in answer.topic_errors:
            if code:
                raise RuntimeError(f"topic {topic} was not made: error {code}, {message}")
    finally:
        await admin.close()
    return topic


async def change_topic(bootstrap: str, topic: str, config: Mapping[str, str]) -> None:
    """Replace all settings of a topic by these, as Kafka's older request does."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, dict(config))])
    finally:
        await admin.close()


async def add_partitions(bootstrap: str, topic: str, partitions: int) -> None:
    """Give a topic more partitions, so many in all."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        answer = await admin.create_partitions({topic: NewPartitions(partitions)})
        for name, code, message in answer.topic_errors:
            if code:
                raise RuntimeError(f"topic {name} has no more partitions: error {code}, {message}")
    finally:
        await admin.close()
