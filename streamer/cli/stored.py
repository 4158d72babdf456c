"""The state as commands read it, and whether it may be changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamer.cli import exits
from streamer.cli.options import fail
from streamer.transform.export import Export

if TYPE_CHECKING:
    from streamer.config import Settings
    from streamer.sink.connection import Connection
    from streamer.sink.group import Member


async def read_stored(connection: Connection, settings: Settings) -> tuple[Export, list[Member]]:
    """What is stored, as it is committed now, and who is in the group of workers. Raises KafkaUnavailable."""
    from streamer.sink import KafkaUnavailable, StateBlocked
    from streamer.sink.group import group_members
    from streamer.sink.state_topic import read_state

    topic = settings.topic_names.state
    try:
        stored = await read_state(connection, topic)
    except StateBlocked as error:
        raise KafkaUnavailable(str(error)) from error
    return Export(settings.cluster, topic, stored), await group_members(connection, settings.cluster)


def refuse_running(members: list[Member]) -> None:
    """End the process if there are workers: what follows would be done behind their backs."""
    from streamer.sink.hold import WorkersRunning

    if members:
        fail(f"error: {WorkersRunning(members)}", exits.FAILED)
