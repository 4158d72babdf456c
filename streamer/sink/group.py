"""Who is in the group of workers, and what is assigned to whom, as Kafka has it now."""

from __future__ import annotations

import asyncio
from typing import Any, Final, NamedTuple

import aiokafka.errors as kafka_errors
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.protocol.coordination import FindCoordinatorRequest

from streamer.sink.access import AuthorizedGroupRequest, known_coordinator
from streamer.sink.admin import admin
from streamer.sink.connection import Connection
from streamer.sink.coordinators import GROUP, TRY_AGAIN
from streamer.sink.diagnosis import HOW_TO_GRANT
from streamer.sink.errors import KafkaUnavailable
from streamer.sink.permissions import consumer_group

_UUID_CHARACTERS: Final = 37  # with the dash before it
_TRIES: Final = 50
_AGAIN_SECONDS: Final = 0.2


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
        answer = await ask_coordinator(asked.client, group, AuthorizedGroupRequest(group))
    error, *_, members, _ = answer.groups[0]
    if error:
        kind = kafka_errors.for_code(error)
        raise refused(group) if kind is kafka_errors.GroupAuthorizationFailedError else kind()
    return sorted(_member(*member) for member in members)


async def ask_coordinator(client: Any, group: str, request: Any) -> Any:
    """The answer of the broker that keeps a group. Raises KafkaUnavailable, KafkaError.

    A cluster that never had a group makes the topic for it now, which takes a moment.
    """
    for _ in range(_TRIES):
        found = await client.send(client.get_random_node(), FindCoordinatorRequest(group, GROUP.type))
        error = found.error_code
        if not error:
            answer = await client.send(await known_coordinator(client, found), request)
            # Of several groups each has its own error; we never ask for more than one.
            error = answer.groups[0][0] if hasattr(answer, "groups") else answer.error_code
            if error not in TRY_AGAIN:
                return answer
        elif error not in TRY_AGAIN:
            kind = kafka_errors.for_code(error)
            raise refused(group) if kind is kafka_errors.GroupAuthorizationFailedError else kind()
        await asyncio.sleep(_AGAIN_SECONDS)
    raise KafkaUnavailable(f"the group {group} has no coordinator", "see the brokers' logs")


def refused(group: str) -> KafkaUnavailable:
    """What to say where ACLs keep us out of a group."""
    return KafkaUnavailable(
        f"we may not use the consumer group {group}",
        f"grant READ on it: {HOW_TO_GRANT}",
    )


def _member(member_id: str, _: str, host: str, __: bytes, assigned: bytes) -> Member:
    shards: list[int] = []
    if assigned:
        found: Any = ConsumerProtocolMemberAssignment.decode(assigned)
        shards = [partition.partition for partition in found.partitions()]
    # Kafka makes a member's id of its name and a random UUID.
    return Member(member_id[:-_UUID_CHARACTERS], host.removeprefix("/"), tuple(sorted(shards)))
