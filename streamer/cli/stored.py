"""The state as commands read it, and whether it may be changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamer.cli import exits
from streamer.cli.asking import ask
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

    members = await group_members(connection, settings.cluster)
    topic = settings.topic_names.state
    try:
        stored = await read_state(connection, topic)
    except StateBlocked as error:
        raise KafkaUnavailable(str(error)) from error
    return Export(settings.cluster, topic, stored), members


def refuse_running(settings: Settings) -> None:
    """End the process if there are workers: what follows would be done behind their backs."""
    from streamer.sink.group import group_members
    from streamer.sink.hold import WorkersRunning

    async def members(connection: Connection, settings: Settings) -> list[Member]:
        return await group_members(connection, settings.cluster)

    if found := ask(settings, members):
        fail(f"error: {WorkersRunning(found)}", exits.FAILED)
