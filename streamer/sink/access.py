"""What Kafka lets us do, by its own word: nothing is written to find it out.

Topics and groups come with the operations that we are authorized for (KIP-430). A transactional id has no such list:
one is asked for with a timeout that no Kafka takes, which it refuses only after it has looked at our permissions. It is
an id that no shard has, so that nobody is fenced even where a broker takes it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, Final

import aiokafka.errors as kafka_errors
from aiokafka.protocol.admin import DescribeGroupsRequest_v3, DescribeGroupsResponse_v3
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.coordination import FindCoordinatorRequest
from aiokafka.protocol.metadata import MetadataRequest_v5, MetadataResponse_v5
from aiokafka.protocol.transaction import InitProducerIdRequest
from aiokafka.protocol.types import Array, Boolean, Int16, Int32, Schema, String

from streamer.config import Settings
from streamer.sink.admin import admin
from streamer.sink.connection import Connection
from streamer.sink.coordinators import GROUP, TRANSACTION
from streamer.sink.permissions import (
    Operation,
    Permission,
    consumer_group,
    probing_id,
    worker_permissions,
)

_BITS: Final[dict[Operation, int]] = {"READ": 3, "WRITE": 4, "CREATE": 5, "DESCRIBE_CONFIGS": 10}
_UNTOLD: Final = -(2**31)
_TOPIC_REFUSED: Final = 29
_GROUP_REFUSED: Final = 30
_ID_REFUSED: Final = 53
_NO_TIMEOUT_MS: Final = -1


class _MetadataResponse(Response):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 8
    SCHEMA = Schema(
        *zip(MetadataResponse_v5.SCHEMA.names[:-1], MetadataResponse_v5.SCHEMA.fields[:-1], strict=True),
        (
            "topics",
            Array(
                ("error_code", Int16),
                ("topic", String("utf-8")),
                ("is_internal", Boolean),
                (
                    "partitions",
                    Array(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", Array(Int32)),
                        ("isr", Array(Int32)),
                        ("offline_replicas", Array(Int32)),
                    ),
                ),
                ("authorized_operations", Int32),
            ),
        ),
        ("cluster_authorized_operations", Int32),
    )


class _MetadataStruct(RequestStruct):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 8
    RESPONSE_TYPE = _MetadataResponse
    SCHEMA = Schema(
        *zip(MetadataRequest_v5.SCHEMA.names, MetadataRequest_v5.SCHEMA.fields, strict=True),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
    )


class _AuthorizedMetadataRequest(Request[_MetadataStruct]):  # type: ignore[misc]
    """Topics with the operations that we are authorized for: version 8, Kafka 2.3 and later."""

    API_KEY = 3

    def __init__(self, topics: list[str]) -> None:
        self._topics = topics

    def build(self, struct: Any) -> Any:
        return struct(self._topics, False, False, True)


class _GroupsStruct(DescribeGroupsRequest_v3):  # type: ignore[misc]
    RESPONSE_TYPE = DescribeGroupsResponse_v3  # aiokafka reads the answer as if it were of version 2


class AuthorizedGroupRequest(Request[_GroupsStruct]):  # type: ignore[misc]
    """A group with the operations that we are authorized for: version 3, Kafka 2.3 and later."""

    API_KEY = 15

    def __init__(self, group: str) -> None:
        self._group = group

    def build(self, struct: Any) -> Any:
        """The request, in the form of its version."""
        return struct([self._group], True)


async def missing_permissions(connection: Connection, settings: Settings) -> list[Permission]:
    """Those of the worker's permissions that it has not, as far as Kafka says.

    Nothing is said of topics that do not exist, unless we may not even know whether they do. Raises
    KafkaUnavailable.
    """
    needed = worker_permissions(settings)
    async with admin(connection) as asked:
        client = asked.client
        topics = await _topic_operations(client, {each.name for each in needed if each.resource == "topic"})
        hidden = [name for name, operations in topics.items() if operations == 0]
        for name in await asked.configs(hidden):  # for this one, it need not be seen
            topics[name] = 1 << _BITS["DESCRIBE_CONFIGS"]
        group = await _group_operations(client, consumer_group(settings.cluster))
        may_use_ids = connection.transactional and await _may_use(client, probing_id(settings.cluster))
    missing = []
    for each in needed:
        if each.resource == "transactional_id":
            known = 0 if not may_use_ids else None
        else:
            known = group if each.resource == "group" else topics.get(each.name)
        if known is not None and not known >> _BITS[each.operation] & 1:
            missing.append(each)
    # Whether we could create it is not known: no broker says so of a topic that we may not see.
    return [one for one in missing if not (one.operation == "CREATE" and one.name in hidden)]


async def unwritable(connection: Connection, settings: Settings, topics: Collection[str]) -> list[Permission]:
    """What is missing to write these of our topics, as far as Kafka says. Raises KafkaUnavailable."""
    missing = await missing_permissions(connection, settings)
    return [one for one in missing if one.name in topics and one.operation == "WRITE"]


async def _topic_operations(client: Any, topics: Iterable[str]) -> dict[str, int]:
    """The authorized operations by topic; 0 for one that we may not see, nothing where Kafka does not tell."""
    try:
        answer = await client.send(client.get_random_node(), _AuthorizedMetadataRequest(sorted(topics)))
    except (kafka_errors.IncompatibleBrokerVersion, NotImplementedError):
        return {}
    found = {}
    for error, topic, _, _, operations in answer.topics:
        if error == _TOPIC_REFUSED:
            found[topic] = 0
        elif not error and operations != _UNTOLD:
            found[topic] = operations
    return found


async def _group_operations(client: Any, group: str) -> int | None:
    try:
        found = await client.send(client.get_random_node(), FindCoordinatorRequest(group, GROUP.type))
        if found.error_code:
            return 0 if found.error_code == _GROUP_REFUSED else None
        answer = await client.send(await known_coordinator(client, found), AuthorizedGroupRequest(group))
    except (kafka_errors.IncompatibleBrokerVersion, NotImplementedError):
        return None
    error, *_, operations = answer.groups[0]
    if error == _GROUP_REFUSED:
        return 0
    return None if error or operations == _UNTOLD else int(operations)


async def _may_use(client: Any, identity: str) -> bool:
    """Whether we may write under a transactional id; True where it is not known."""
    found = await client.send(client.get_random_node(), FindCoordinatorRequest(identity, TRANSACTION.type))
    if found.error_code:
        return bool(found.error_code != _ID_REFUSED)
    request = InitProducerIdRequest(identity, _NO_TIMEOUT_MS)
    answer = await client.send(await known_coordinator(client, found), request)
    return bool(answer.error_code != _ID_REFUSED)


async def known_coordinator(client: Any, coordinator: Any) -> int:
    """The coordinator's id, once the client knows where that broker is."""
    if client.cluster.broker_metadata(coordinator.coordinator_id) is None:
        await client.force_metadata_update()
    return int(coordinator.coordinator_id)
