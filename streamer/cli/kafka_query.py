"""Query Kafka from a command, with the exit codes that all commands share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from streamer.cli import exits
from streamer.cli.options import fail, load_settings

if TYPE_CHECKING:
    from streamer.config import Settings
    from streamer.sink.connection import Connection

T = TypeVar("T")


def kafka_settings(config: Path | None, overrides: tuple[str, ...]) -> Settings:
    """Load the settings. If any are invalid or missing, print all errors and exit with 78."""
    from streamer.telemetry.log import configure

    settings = load_settings(config, overrides)
    configure("error", settings.log.format)
    return settings


def query_kafka(settings: Settings, query: Callable[[Connection, Settings], Awaitable[T]]) -> T:
    """Run a query and return its result. If Kafka cannot be reached, print the cause and exit with 69."""
    from streamer.sink import Connection, KafkaUnavailable

    async def connect_and_query() -> T:
        return await query(Connection(settings.kafka), settings)

    try:
        return asyncio.run(connect_and_query())
    except KafkaUnavailable as error:
        fail(f"error: {error}", exits.UNAVAILABLE)
