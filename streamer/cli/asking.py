"""How commands that only ask Kafka something do it."""

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
    """The settings, with all that is required; on any error all of them are printed and the process ends with 78."""
    from streamer.telemetry.log import configure

    settings = load_settings(config, overrides)
    configure("error", settings.log.format)
    return settings


def ask(settings: Settings, question: Callable[[Connection, Settings], Awaitable[T]]) -> T:
    """Kafka's answer; where it cannot be reached, the process says why and ends with 69."""
    from streamer.sink import Connection, KafkaUnavailable

    async def asked() -> T:
        return await question(Connection(settings.kafka), settings)

    try:
        return asyncio.run(asked())
    except KafkaUnavailable as error:
        fail(f"error: {error}", exits.UNAVAILABLE)
