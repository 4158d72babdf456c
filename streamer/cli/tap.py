"""`falco-streamer tap`: look into the topics, as stern looks into logs."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import click

from streamer.cli import exits
from streamer.cli.options import discard_stdout, fail, load_settings, settings_options
from streamer.cli.selection import Selection, as_json, since_ms
from streamer.cli.show import escape, escape_json, line
from streamer.model import Priority
from streamer.transform.matcher import Matcher
from streamer.transform.matcher_syntax import MatcherError

if TYPE_CHECKING:
    from streamer.config import Settings
    from streamer.sink import Message

_PRIORITIES: Final = [priority.label for priority in Priority]
_ANY_WIDTH: Final = 100_000
_LOOK_SECONDS: Final = 10.0
"""How often it is looked whether Kafka is there, while records are waited for."""
_DAY_MS: Final = 86_400_000
_A_TIME: Final = "2026-11-20T10:00:00Z"


@click.command(
    short_help="Print what arrives in the topics, in colour.",
    epilog="""\b
Examples:
  falco-streamer tap --config streamer.yaml --since 15m
  falco-streamer tap --config streamer.yaml --priority warning --rule 'Terminal*' --namespace 'shop-*'
  falco-streamer tap --config streamer.yaml --where 'proc.name =~ "(ba|z)?sh"' --where 'user.name != "root"'
  falco-streamer tap --config streamer.yaml --since 1d --no-follow -o json | jq -r .value.rule | sort | uniq -c
""",
)
@settings_options
@click.option("--since", metavar="WHEN", help="15m, 2h, 1d ago, or an RFC 3339 time. Default: from now on.")
@click.option(
    "--follow/--no-follow", default=True, help="Go on until Ctrl-C, or stop at what is the end now."
)
@click.option(
    "-p",
    "--priority",
    type=click.Choice(_PRIORITIES, case_sensitive=False),
    help="Only alerts of this priority and more severe ones.",
)
@click.option("-r", "--rule", "rules", metavar="GLOB", multiple=True, help="Only alerts of these rules.")
@click.option(
    "-n",
    "--namespace",
    "namespaces",
    metavar="GLOB",
    multiple=True,
    help="Only alerts about these namespaces.",
)
@click.option(
    "-w",
    "--where",
    "matchers",
    metavar="MATCHER",
    multiple=True,
    help="Only alerts that match, as in `filters`: rule, priority, source, hostname, tags or any output field; "
    "=, !=, =~, !~, for priority also >=, <=, >, <; the value in double quotes. All must.",
)
@click.option("--summaries/--no-summaries", default=True, help="The counts of repeated alerts.")
@click.option("--health/--no-health", default=True, help="Coverage, gaps, storms and Falco's own reports.")
@click.option("--dead-letters/--no-dead-letters", default=False, help="Lines that are not valid alerts.")
@click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "wide", "json", "raw"]),
    default="table",
    show_default=True,
    help="A line for people, cut at the terminal's width; the same, whole; all that Kafka has; the values as they are.",
)
@click.option(
    "--color",
    type=click.Choice(["auto", "always", "never"]),
    default="auto",
    show_default=True,
    help="auto: on a terminal, unless NO_COLOR is set.",
)
def tap(
    config: Path | None,
    overrides: tuple[str, ...],
    since: str | None,
    follow: bool,
    priority: str | None,
    rules: tuple[str, ...],
    namespaces: tuple[str, ...],
    matchers: tuple[str, ...],
    summaries: bool,
    health: bool,
    dead_letters: bool,
    output: str,
    color: str,
) -> None:
    """Print what arrives in the topics: committed records only, coloured by priority, times in UTC.

    What attackers write into alerts cannot act on the terminal: control characters are shown, not obeyed. In a pipe,
    `-o raw` and `-o json` are exact. With a condition on alerts (priority, rule, namespace, where), health records and
    dead letters are not shown. Exit codes: 0 (also Ctrl-C), 2 usage, 69 Kafka cannot be reached, 78 configuration.
    """
    import uvloop

    from streamer.config.advice import unknown_field
    from streamer.sink import KafkaUnavailable
    from streamer.telemetry.log import configure

    kinds = {"alert"} | ({"summary"} if summaries else set()) | ({"health"} if health else set())
    kinds |= {"dead-letter"} if dead_letters else set()
    try:
        start: Literal["end"] | int = "end" if since is None else since_ms(since, time.time_ns() // 1_000_000)
    except ValueError as error:
        told = f"{since!r}: expected how long ago, such as 30s, 15m, 2h, 1d, or a time with its zone, such as {_A_TIME}"
        raise click.BadParameter(told, param_hint="'--since'") from error
    selection = Selection(
        kinds,
        None if priority is None else Priority.parse(priority),
        rules,
        namespaces,
        tuple(map(_matcher, matchers)),
    )
    for matcher in selection.matchers:
        if (why := unknown_field(matcher)) is not None:
            click.echo(f"warning: {why}", err=True)
    settings = load_settings(config, overrides, require=("kafka.bootstrap_servers",))
    configure("error", settings.log.format)
    printer = _Printer(output, color)

    async def show() -> None:
        looking = asyncio.create_task(_say_if_kafka_is_away(settings)) if follow else None
        try:
            await show_messages()
        finally:
            if looking is not None:
                looking.cancel()

    async def show_messages() -> None:
        shown = read = 0
        async for message in _messages(settings, kinds, start, follow=follow):
            read += 1
            if selection.takes(_kind(message), message.value or b""):
                shown += 1
                printer.print(message)
        if not shown:
            click.echo(f"nothing to show: {read:,} records were read, and none matches", err=True)

    try:
        uvloop.run(show())
    except KafkaUnavailable as error:
        fail(f"error: {error}", exits.UNAVAILABLE)
    except BrokenPipeError:  # `| head`
        discard_stdout()
    except KeyboardInterrupt:
        pass
    sys.exit(0)


def _matcher(text: str) -> Matcher:
    """Read a condition; where it is wrong, a usage error shows the place."""
    from streamer.config.errors import Place, Source, excerpt

    try:
        return Matcher.parse(text)
    except MatcherError as error:
        place = Place(Source("--where", (text,)), 0, error.start, error.end - error.start)
        shown = "\n".join(excerpt(place, error.reason))
        raise click.BadParameter(f"\n{shown}", param_hint="'-w' / '--where'") from error


async def _say_if_kafka_is_away(settings: Settings) -> None:
    """A reader waits for brokers without a word; who looks at it must not take that for silence of Falco's."""
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


async def _messages(
    settings: Settings, kinds: set[str], start: Literal["end"] | int, *, follow: bool
) -> AsyncIterator[Message]:
    """The records of the topics where such kinds are, in the order of their times as far as they come together."""
    from streamer.sink import Connection, KafkaUnavailable, TopicReader
    from streamer.sink.topics import topics_there

    connection = Connection(settings.kafka)
    there = await topics_there(connection, settings)
    wanted = [spec.name for spec in settings.topic_specs if spec.kind in _classes(kinds)]
    missing = [name for name in wanted if name not in there]
    if len(missing) == len(wanted):
        raise KafkaUnavailable(
            f"there is no topic {wanted[0]}, nor any other of {len(wanted)}",
            "check topics.prefix and the topics' ACLs; `falco-streamer topics create` makes them",
        )
    if missing:
        click.echo(f"not there, or not for us to see: {', '.join(missing)}", err=True)
    if follow and sys.stderr.isatty():
        begin = "from now on" if start == "end" else "since then"
        click.echo(f"committed records of {len(wanted) - len(missing)} topics {begin}; Ctrl-C ends", err=True)
    async with TopicReader(connection, [name for name in wanted if name in there], start=start) as reader:
        if follow:
            async for messages in reader.batches():
                for message in sorted(messages, key=lambda one: one.timestamp_ms):
                    yield message
        else:
            found = [message async for message in reader.until_end()]
            for message in sorted(found, key=lambda one: one.timestamp_ms):
                yield message


def _classes(kinds: set[str]) -> set[str]:
    classes = {"alerts", "overflow"}
    if "summary" in kinds:
        classes.add("summaries")
    if "health" in kinds:
        classes.add("health")
    if "dead-letter" in kinds:
        classes.add("dead_letter")
    return classes


def _kind(message: Message) -> str:
    return (message.header("kind") or b"").decode(errors="replace")


class _Printer:
    """Prints records; on a terminal, nothing of an alert's text is obeyed."""

    def __init__(self, output: str, color: str) -> None:
        self._output = output
        self._terminal = sys.stdout.isatty()
        automatic = self._terminal and not os.environ.get("NO_COLOR")
        self._color = {"always": True, "never": False}.get(color, automatic)
        self._width = shutil.get_terminal_size().columns if self._terminal else _ANY_WIDTH

    def print(self, message: Message) -> None:
        """One record, one line."""
        value = message.value or b""
        if self._output in {"table", "wide"}:
            width = self._width if self._output == "table" else _ANY_WIDTH
            today = message.timestamp_ms // _DAY_MS == time.time() * 1000 // _DAY_MS
            headers = dict(message.headers)
            text = line(message.key, value, headers, message.timestamp_ms, width, dated=not today)
            click.echo(text, color=self._color)
            return
        if self._output == "json":
            value = as_json(
                message.topic, message.partition, message.offset, message.timestamp_ms, message.key, value,
                message.headers,
            )  # fmt: skip
        if self._terminal:
            shown = value.decode(errors="backslashreplace")
            click.echo(escape_json(shown) if self._output == "json" else escape(shown))
        else:
            sys.stdout.buffer.write(value + b"\n")
            sys.stdout.buffer.flush()
