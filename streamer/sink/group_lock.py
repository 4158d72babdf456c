"""A lock on the workers' consumer group, held while a command changes their state.

All members of a consumer group must support one assignment protocol. We join with a protocol name that no worker has.
Kafka then admits us only if the group is empty, and rejects workers as long as we are a member.
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
    """Workers are in the group: their state must not be changed while they run."""

    def __init__(self, members: list[Member]) -> None:
        who = ", ".join(f"{member.name} at {member.host}" for member in members)
        super().__init__(
            f"workers are running ({len(members)}): {who or 'names unknown'}; stop them first "
            f"(a killed worker leaves the group after {SESSION_SECONDS:.0f} s)"
        )


class GroupLock:
    """Our membership in the group, which keeps workers out."""

    def __init__(self, client: Any, group: str) -> None:
        self._client = client
        self._group = group
        self._member_id = ""
        self._generation = -1

    async def check(self) -> None:
        """Return if no worker can have joined until now. Raises KafkaUnavailable if the lock is lost."""
        answer = await self._send(HeartbeatRequest(self._group, self._generation, self._member_id))
        if answer.error_code:
            raise KafkaUnavailable(
                f"lost the lock on the group {self._group}: {_name(answer.error_code)}",
                "nothing was changed; retry",
            )

    async def join(self) -> None:
        """Become the group's only member. Raises InconsistentGroupProtocolError if it has other members."""
        session_ms = int(SESSION_SECONDS * 1000)
        protocol = (
            f"falco-streamer-state-{secrets.token_hex(8)}"  # random: other commands are locked out, too
        )
        protocols = [(protocol, ConsumerProtocolMemberMetadata(0, [], b"").encode())]
        error = _MEMBER_ID_REQUIRED
        while error == _MEMBER_ID_REQUIRED:  # Kafka first assigns an id
            answer = await self._send(
                JoinGroupRequest(
                    self._group, session_ms, session_ms, self._member_id, None, "consumer", protocols
                )
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

    async def keep_alive(self) -> None:
        """Send heartbeats until cancelled. Errors are left to `check()`."""
        while True:
            await asyncio.sleep(_HEARTBEAT_SECONDS)
            with suppress(kafka_errors.KafkaError, KafkaUnavailable):
                await self.check()

    async def leave(self) -> None:
        """Release the lock."""
        with suppress(kafka_errors.KafkaError):
            await self._send(LeaveGroupRequest(self._group, self._member_id))

    async def _send(self, request: Any) -> Any:
        return await ask_coordinator(self._client, self._group, request)


@asynccontextmanager
async def lock_workers_out(connection: Connection, cluster: str) -> AsyncIterator[GroupLock]:
    """Lock the group of workers. Raises WorkersRunning if it is not empty, KafkaUnavailable."""
    group = consumer_group(cluster)
    async with admin(connection, seconds=None) as asked:
        lock = GroupLock(asked.client, group)
        try:
            await lock.join()
        except kafka_errors.InconsistentGroupProtocolError:
            raise WorkersRunning(await group_members(connection, cluster)) from None
        except kafka_errors.GroupAuthorizationFailedError:
            raise refused(group) from None
        keeping = asyncio.create_task(lock.keep_alive())
        try:
            yield lock
        finally:
            keeping.cancel()
            await asyncio.wait([keeping])
            await lock.leave()


def _raise_for(error: int) -> None:
    if error:
        kind = kafka_errors.for_code(error)
        raise kind()


def _name(error: int) -> str:
    return str(kafka_errors.for_code(error).__name__)
