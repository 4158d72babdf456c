"""Who is in the group of workers, and what is assigned to whom, as Kafka has it now."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import aiokafka.errors as kafka_errors
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.protocol.coordination import FindCoordinatorRequest

from streamer.sink.access import GROUP, AuthorizedGroupRequest, known_coordinator
from streamer.sink.admin import admin
from streamer.sink.connection import Connection
from streamer.sink.errors import KafkaUnavailable
from streamer.sink.permissions import consumer_group

_UUID_CHARACTERS: Final = 37  # with the dash before it
_REFUSED: Final = 30


class Member(NamedTuple):
    """One worker, as the group knows it."""

    name: str
    """Its `kafka.group_instance_id`; without one, its client id, which all workers may have alike."""
    host: str
    shards: tuple[int, ...]
    """What the group has assigned to it; nothing while the shards are being divided."""


async def group_members(connection: Connection, cluster: str) -> list[Member]:
    """The workers of a cluster, by name. Raises KafkaUnavailable."""
    group = consumer_group(cluster)
    async with admin(connection) as asked:
        client = asked.client
        found = await client.send(client.get_random_node(), FindCoordinatorRequest(group, GROUP))
        _raise_for(found.error_code, group)
        answer = await client.send(await known_coordinator(client, found), AuthorizedGroupRequest(group))
    error, *_, members, _ = answer.groups[0]
    _raise_for(error, group)
    return sorted(_member(*member) for member in members)


def _raise_for(error: int, group: str) -> None:
    if error == _REFUSED:
        raise KafkaUnavailable(
            f"we may not use the consumer group {group}",
            "grant READ on it: `falco-streamer topics acls` prints all that is needed",
        )
    if error:
        kind = kafka_errors.for_code(error)
        raise kind()


def _member(member_id: str, _: str, host: str, __: bytes, assigned: bytes) -> Member:
    shards: list[int] = []
    if assigned:
        found: Any = ConsumerProtocolMemberAssignment.decode(assigned)
        shards = [partition.partition for partition in found.partitions()]
    # Kafka makes a member's id of its name and a random UUID.
    return Member(member_id[:-_UUID_CHARACTERS], host.removeprefix("/"), tuple(sorted(shards)))
