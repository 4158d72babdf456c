"""An administrative client for a few questions about topics.

It makes topics and never alters one: aiokafka knows only the request that resets every setting it does not name.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple

import aiokafka.errors as kafka_errors
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.protocol.metadata import MetadataRequest

from streamer.config import TopicSpec
from streamer.sink.client import drop, guard
from streamer.sink.connection import Connection
from streamer.sink.diagnosis import diagnose, preflight
from streamer.sink.error_codes import error_name
from streamer.sink.packing import TopicLimits

_SECONDS: Final = 30.0
_PATIENCE_SECONDS: Final = 2.0
"""After this it is found out what keeps a client from starting, while it goes on trying."""
_TOPIC_EXISTS: Final = 36
_UNKNOWN_TOPIC: Final = 3
_NOT_AUTHORIZED: Final = 29
_INVALID_CONFIG: Final = 40
_POLICY_VIOLATION: Final = 44
_FIXES: Final = {
    _NOT_AUTHORIZED: "grant CREATE on them: `falco-streamer topics acls` prints all that is needed",
    17: "choose other names under topics",
    37: "set topics.partitions to another number",
    38: "set topics.replication_factor to at most the number of brokers",
}
_KEYS: Final = (
    "cleanup.policy",
    "max.message.bytes",
    "message.timestamp.after.max.ms",
    "message.timestamp.before.max.ms",
    "message.timestamp.type",
    "min.insync.replicas",
)

TopicConfig = dict[str, str]


class Replicas(NamedTuple):
    """How a topic's partitions are replicated; of several, the fewest."""

    partitions: int
    leaderless: int
    replicas: int
    in_sync: int


class TopicRefusal(NamedTuple):
    """Why Kafka does not create a topic."""

    code: int
    cause: str

    @property
    def for_settings(self) -> bool:
        """Whether it is about the topic's settings; who has a policy gives one code or the other."""
        return self.code in {_INVALID_CONFIG, _POLICY_VIOLATION}

    def fix(self, kinds: Iterable[str]) -> str:
        """What to do about it; `kinds` are the topics' classes."""
        if self.for_settings:
            places = ", ".join(f"topics.config.{kind}" for kind in kinds)
            return (
                f"set what it names to another value, or to null, in {places}; or create the topics yourself"
            )
        return _FIXES.get(
            self.code, "create them yourself: `falco-streamer topics create --dry-run` prints the commands"
        )


class Admin:
    """Questions about topics; get one with `admin()`."""

    def __init__(self, client: Any) -> None:
        self._admin = client

    @property
    def client(self) -> Any:
        """Aiokafka's client, for a request that has no method here."""
        return self._admin._client  # noqa: SLF001

    async def send(self, request: Any) -> Any:
        """The answer of any broker to a request that has no method here."""
        return await self._admin._send_request(request)  # noqa: SLF001

    async def replicas(self, topics: Collection[str]) -> tuple[int, dict[str, Replicas]]:
        """How many brokers there are, and those of the topics that exist and that we may see."""
        answer = await self.send(MetadataRequest(list(topics), False))
        found = {}
        for error, topic, _, partitions in answer.topics:
            if not error and partitions:
                found[topic] = Replicas(
                    len(partitions),
                    sum(partition[2] < 0 for partition in partitions),
                    min(len(partition[3]) for partition in partitions),
                    min(len(partition[4]) for partition in partitions),
                )
        return len(answer.brokers), found

    async def partitions(self, topics: Collection[str], *, create: bool = False) -> dict[str, int | None]:
        """The partition counts of those topics that exist; None where we may not know.

        With `create`, brokers that are set up for it make the missing ones.
        """
        answer = await self.send(MetadataRequest(list(topics), create))
        found: dict[str, int | None] = {}
        for error, topic, _, partitions in answer.topics:
            if error == _NOT_AUTHORIZED:
                found[topic] = None
            elif error != _UNKNOWN_TOPIC and partitions:
                found[topic] = len(partitions)
        return found

    async def create(
        self, specs: Iterable[TopicSpec], *, validate_only: bool = False
    ) -> dict[str, TopicRefusal | None]:
        """Create topics, or only have it checked; returns Kafka's refusals, by topic.

        Raises KafkaError, `IncompatibleBrokerVersion` where the broker cannot do it at all.
        """
        client = self.client
        if client.cluster.controller is None:
            await client.force_metadata_update()
        if client.cluster.controller is None:  # the mock broker has none
            raise kafka_errors.IncompatibleBrokerVersion(
                "the brokers name no controller, which would make topics"
            )
        new = [_new_topic(spec) for spec in specs]
        answer = await self._admin.create_topics(new, validate_only=validate_only)
        return {
            topic: TopicRefusal(error, (message[0] if message else "") or error_name(error))
            for topic, error, *message in answer.topic_errors
            if error not in {0, _TOPIC_EXISTS}
        }

    async def describe(self, wanted: list[ConfigResource]) -> list[Any]:
        """Kafka's answers about settings of topics or brokers."""
        return list(await self._admin.describe_configs(wanted))

    async def configs(self, topics: Collection[str]) -> dict[str, TopicConfig]:
        """Topics' settings, as far as we care for them; without those that we may not read."""
        wanted = [ConfigResource(ConfigResourceType.TOPIC, topic, dict.fromkeys(_KEYS)) for topic in topics]
        found: dict[str, TopicConfig] = {}
        for answer in await self.describe(wanted) if wanted else ():
            for error, _, _, name, entries in answer.resources:
                if not error:
                    found[name] = {entry[0]: entry[1] for entry in entries if entry[1] is not None}
        return found


@asynccontextmanager
async def admin(connection: Connection, *, seconds: float | None = _SECONDS) -> AsyncIterator[Admin]:
    """An administrative client, for `seconds` in all.

    Raises KafkaUnavailable for whatever Kafka has against being asked.
    """
    client: Any = AIOKafkaAdminClient(**connection.arguments("admin"))
    guard(client._client, connection.credentials)  # noqa: SLF001 - its clients are all treated alike
    try:
        async with asyncio.timeout(seconds):
            await _start(client, connection)
            yield Admin(client)
    except (kafka_errors.KafkaError, TimeoutError, AssertionError) as error:  # aiokafka asserts what it hopes
        raise await diagnose(connection, error) from error
    finally:
        await drop(client._client)  # noqa: SLF001


async def _start(client: Any, connection: Connection) -> None:
    """Start a client. Raises KafkaUnavailable with the cause, before the client's own time limits are over."""
    starting = asyncio.ensure_future(client.start())
    try:
        await asyncio.wait([starting], timeout=_PATIENCE_SECONDS)
        if not starting.done():
            await preflight(connection)
        await starting
    finally:
        starting.cancel()
        await asyncio.wait([starting])
        if not starting.cancelled():
            starting.exception()  # looked at, so that asyncio does not report it as lost


async def read_limits(connection: Connection, topics: Collection[str]) -> dict[str, TopicLimits]:
    """The limits of those of the topics whose settings we may read. Raises KafkaUnavailable."""
    async with admin(connection) as asked:
        return {topic: limits_of(config) for topic, config in (await asked.configs(topics)).items()}


def limits_of(config: TopicConfig) -> TopicLimits:
    """A topic's limits by its settings; what is not known does not limit."""
    if config.get("message.timestamp.type") == "LogAppendTime":  # then ours does not count
        config = {key: value for key, value in config.items() if not key.startswith("message.timestamp.")}
    unlimited = TopicLimits()
    return TopicLimits(
        int(config.get("max.message.bytes", unlimited.max_message_bytes)),
        int(config.get("message.timestamp.after.max.ms", unlimited.timestamp_after_max_ms)),
        int(config.get("message.timestamp.before.max.ms", unlimited.timestamp_before_max_ms)),
    )


def _new_topic(spec: TopicSpec) -> Any:
    # aiokafka takes -1, the broker's default, only together with a list of replicas: an empty one will do.
    by_hand: dict[int, list[int]] | None = {} if -1 in {spec.partitions, spec.replication_factor} else None
    return NewTopic(spec.name, spec.partitions, spec.replication_factor, by_hand, dict(spec.config))
