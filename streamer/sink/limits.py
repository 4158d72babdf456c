"""What topics take, read from their configuration."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from streamer.sink.client import drop, space_metadata_refreshes
from streamer.sink.connection import Connection
from streamer.sink.packing import TopicLimits

_KEYS = (
    "cleanup.policy",
    "max.message.bytes",
    "message.timestamp.after.max.ms",
    "message.timestamp.before.max.ms",
    "message.timestamp.type",
)


async def read_limits(connection: Connection, topics: Collection[str]) -> dict[str, TopicLimits]:
    """The limits of those of the topics whose configuration we may read. Raises KafkaError."""
    admin: Any = AIOKafkaAdminClient(**connection.arguments("limits"))
    space_metadata_refreshes(admin._client)  # noqa: SLF001 - its clients are all treated alike
    try:
        await admin.start()
        return {topic: limits_of(found) for topic, found in (await read_configs(admin, topics)).items()}
    finally:
        await drop(admin._client)  # noqa: SLF001


async def read_configs(admin: Any, topics: Collection[str]) -> dict[str, dict[str, str]]:
    """Topics' settings, as far as we care for them; without those topics that Kafka does not describe to us."""
    wanted = [ConfigResource(ConfigResourceType.TOPIC, topic, dict.fromkeys(_KEYS)) for topic in topics]
    found: dict[str, dict[str, str]] = {}
    for answer in await admin.describe_configs(wanted) if wanted else ():
        for error, _, _, name, entries in answer.resources:
            if not error:
                found[name] = {entry[0]: entry[1] for entry in entries if entry[1] is not None}
    return found


def limits_of(config: dict[str, str]) -> TopicLimits:
    """A topic's limits by its settings; what is not known does not limit."""
    unlimited = TopicLimits(2**31 - 1)
    if config.get("message.timestamp.type") == "LogAppendTime":  # then ours does not count
        config = {"max.message.bytes": config.get("max.message.bytes", "")}
    return TopicLimits(
        int(config.get("max.message.bytes") or unlimited.max_message_bytes),
        int(config.get("message.timestamp.after.max.ms") or unlimited.timestamp_after_max_ms),
        int(config.get("message.timestamp.before.max.ms") or unlimited.timestamp_before_max_ms),
    )
