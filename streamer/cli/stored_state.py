"""Read the committed state for a command, and check that it may be changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamer.cli import exits
from streamer.cli.kafka_query import query_kafka
from streamer.cli.options import fail
from streamer.transform.export import Export

if TYPE_CHECKING:
    from streamer.config import Settings
    from streamer.sink.connection import Connection
    from streamer.sink.group import Member


async def read_committed_state(connection: Connection, settings: Settings) -> tuple[Export, list[Member]]:
    """The state as it is committed now, and the members of the workers' group. Raises KafkaUnavailable."""
    from streamer.sink import KafkaUnavailable, StateBlocked
    from streamer.sink.group import group_members
    from streamer.sink.state_topic import read_state

    members = await group_members(connection, settings.cluster)
    topic = settings.topic_names.state
    try:
        stored = await read_state(connection, topic)
    except StateBlocked as error:
        raise KafkaUnavailable(str(error)) from error
    return Export(settings.cluster, topic, stored), members


def require_no_workers(settings: Settings) -> None:
    """Exit with an error if workers are running: they would not notice a change of their state."""
    from streamer.sink.group import group_members
    from streamer.sink.group_lock import WorkersRunning

    async def members(connection: Connection, settings: Settings) -> list[Member]:
        return await group_members(connection, settings.cluster)

    if found := query_kafka(settings, members):
        fail(f"error: {WorkersRunning(found)}", exits.FAILED)
