"""Keeping the workers away while their state is changed by hand.

Members of a consumer group must have a way of dividing the partitions in common. Who comes with a way of its own is let
into an empty group only, and as long as it is a member no worker is let in: Kafka itself sees to both.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import aiokafka.errors as kafka_errors
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata
from aiokafka.protocol.group import HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest, SyncGroupRequest

from streamer.sink.admin import admin
from streamer.sink.connection import Connection
from streamer.sink.errors import KafkaUnavailable, SinkError
from streamer.sink.group import Member, ask_coordinator, group_members, refused
from streamer.sink.membership import SESSION_SECONDS
from streamer.sink.permissions import consumer_group

_HEARTBEAT_SECONDS: Final = 2.0
_MEMBER_ID_REQUIRED: Final = 79


class WorkersRunning(SinkError):  # noqa: N818 - the name says what is
    """Workers are in the group, whose state must not be changed under them."""

    def __init__(self, members: list[Member]) -> None:
        who = ", ".join(f"{member.name} at {member.host}" for member in members)
        super().__init__(
            f"{len(members)} in the group of workers: {who or 'not known who'}; stop the workers first "
            f"(one that was killed leaves after {SESSION_SECONDS:.0f} s)"
        )


class Hold:
    """Our membership in the group while no worker is in it."""

    def __init__(self, client: Any, group: str) -> None:
        self._client = client
        self._group = group
        self._member_id = ""
        self._generation = -1

    async def still(self) -> None:
        """Return if no worker can have joined until now; raises KafkaUnavailable."""
        answer = await self._send(HeartbeatRequest(self._group, self._generation, self._member_id))
        if answer.error_code:
            raise KafkaUnavailable(
                f"we have lost the group {self._group}, which keeps the workers out: {_name(answer.error_code)}",
                "nothing was changed; try again",
            )

    async def join(self) -> None:
        """Become the group's only member; `InconsistentGroupProtocolError` if others are in it."""
        session_ms = int(SESSION_SECONDS * 1000)
        way = f"falco-streamer-state-{secrets.token_hex(8)}"  # another command is kept out as well
        ways = [(way, ConsumerProtocolMemberMetadata(0, [], b"").encode())]
        error = _MEMBER_ID_REQUIRED
        while error == _MEMBER_ID_REQUIRED:  # Kafka gives us an id first
            answer = await self._send(
                JoinGroupRequest(self._group, session_ms, session_ms, self._member_id, None, "consumer", ways)
            )
            self._member_id, self._generation, error = (
                answer.member_id, answer.generation_id, answer.error_code,
            )  # fmt: skip
        _raise_for(error)
        nothing = [(self._member_id, ConsumerProtocolMemberAssignment(0, [], b"").encode())]
        answer = await self._send(
            SyncGroupRequest(self._group, self._generation, self._member_id, None, nothing)
        )
        _raise_for(answer.error_code)

    async def keep(self) -> None:
        """Stay a member until cancelled; `still()` raises what went wrong."""
        while True:
            await asyncio.sleep(_HEARTBEAT_SECONDS)
            with suppress(kafka_errors.KafkaError, KafkaUnavailable):
                await self.still()

    async def leave(self) -> None:
        """Let the workers in again."""
        with suppress(kafka_errors.KafkaError):
            await self._send(LeaveGroupRequest(self._group, self._member_id))

    async def _send(self, request: Any) -> Any:
        return await ask_coordinator(self._client, self._group, request)


@asynccontextmanager
async def workers_kept_out(connection: Connection, cluster: str) -> AsyncIterator[Hold]:
    """Hold the group of workers. Raises WorkersRunning if it is not empty, KafkaUnavailable."""
    group = consumer_group(cluster)
    async with admin(connection, seconds=None) as asked:
        hold = Hold(asked.client, group)
        try:
            await hold.join()
        except kafka_errors.InconsistentGroupProtocolError:
            raise WorkersRunning(await group_members(connection, cluster)) from None
        except kafka_errors.GroupAuthorizationFailedError:
            raise refused(group) from None
        keeping = asyncio.create_task(hold.keep())
        try:
            yield hold
        finally:
            keeping.cancel()
            await asyncio.wait([keeping])
            await hold.leave()


def _raise_for(error: int) -> None:
    if error:
        kind = kafka_errors.for_code(error)
        raise kind()


def _name(error: int) -> str:
    return str(kafka_errors.for_code(error).__name__)
