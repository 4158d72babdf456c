"""The records that `tap` shows, from the topics where there may be some."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import click

if TYPE_CHECKING:
    from streamer.config import Settings
    from streamer.sink import Message, TopicReader

_LOOK_SECONDS: Final = 10.0
"""How often Kafka is checked while `tap` follows."""
_FIRST_REWIND: Final = 64
_TIMES_FURTHER: Final = 8


class Range(NamedTuple):
    """Which records are read."""

    start: Literal["end"] | int
    """From now on, or since a time in ms since the epoch."""
    tail: int | None
    """Of those that are there, only so many last ones that are taken."""
    follow: bool


async def report_outages(settings: Settings) -> None:
    """Write on stderr when Kafka becomes unavailable: a reader waits for the brokers and shows nothing."""
    from streamer.sink import Connection, KafkaUnavailable, preflight

    connection, away = Connection(settings.kafka), False
    while True:
        await asyncio.sleep(_LOOK_SECONDS)
        try:
            await preflight(connection)
        except KafkaUnavailable as error:
            if not away:
                click.echo(f"{error}; waiting for it", err=True)
            away = True
        else:
            if away:
                click.echo("Kafka answers again", err=True)
            away = False


async def records(
    settings: Settings, kinds: set[str], wanted: Range, takes: Callable[[Message], bool]
) -> AsyncIterator[Message]:
    """The records that `takes` accepts, in the order of their times as far as they arrive together."""
    from streamer.sink import Connection, KafkaUnavailable, TopicReader
    from streamer.sink.topics import topics_there

    connection = Connection(settings.kafka)
    there = await topics_there(connection, settings)
    names = [spec.name for spec in settings.topic_specs if spec.kind in _classes(kinds)]
    missing = [name for name in names if name not in there]
    if len(missing) == len(names):
        raise KafkaUnavailable(
            f"there is no topic {names[0]}, nor any other of {len(names)}",
            "check topics.prefix and the topics' ACLs; `falco-streamer topics create` makes them",
        )
    if missing:
        click.echo(f"topics that do not exist, or that the ACLs hide: {', '.join(missing)}", err=True)
    if wanted.follow and sys.stderr.isatty():
        begin = "from now on" if wanted.start == "end" and wanted.tail is None else "since then"
        click.echo(f"committed records of {len(names) - len(missing)} topics {begin}; Ctrl-C ends", err=True)
    async with TopicReader(
        connection, [name for name in names if name in there], start=wanted.start
    ) as reader:
        if wanted.tail is not None:
            for message in await _last(reader, wanted.tail, takes, rewind=wanted.start == "end"):
                yield message
        if wanted.follow:
            async for messages in reader.batches():
                for message in sorted(filter(takes, messages), key=_time):
                    yield message
        elif wanted.tail is None:
            for message in sorted([one async for one in reader.until_end() if takes(one)], key=_time):
                yield message


async def _last(
    reader: TopicReader, many: int, takes: Callable[[Message], bool], *, rewind: bool
) -> list[Message]:
    """The last records up to the end that are accepted; with `rewind`, it is read as far back as they need."""
    offsets = max(_FIRST_REWIND, many)
    while True:
        earlier = await reader.rewind(offsets) if rewind else set()
        found: list[Message] = []
        oldest_ms: dict[tuple[str, int], int] = {}
        async for message in reader.until_end():
            where = message.topic, message.partition
            oldest_ms[where] = min(message.timestamp_ms, oldest_ms.get(where, message.timestamp_ms))
            if takes(message):
                found.append(message)
        found = sorted(found, key=_time)[-many:]
        # A partition that was not read back as far as the others may have more of the last ones.
        since_ms = found[0].timestamp_ms if len(found) == many else -1
        if all(oldest_ms.get(where, since_ms + 1) <= since_ms for where in earlier):
            return found
        offsets *= _TIMES_FURTHER


def _time(message: Message) -> int:
    return message.timestamp_ms


def _classes(kinds: set[str]) -> set[str]:
    classes = {"alerts", "overflow"}
    if "summary" in kinds:
        classes.add("summaries")
    if "health" in kinds:
        classes.add("health")
    if "dead-letter" in kinds:
        classes.add("dead_letter")
    return classes
