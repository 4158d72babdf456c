"""`falco-streamer tap`: look into the topics, as stern looks into logs."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import click

from streamer.cli import exits
from streamer.cli.options import discard_stdout, fail, load_settings, settings_options
from streamer.cli.selection import Selection, since_ms
from streamer.cli.tap_output import Printer
from streamer.cli.tap_records import Range, records, report_outages
from streamer.cli.template import NAMES, Template, TemplateError
from streamer.model import Priority
from streamer.transform.matcher import Matcher
from streamer.transform.matcher_syntax import MatcherError

if TYPE_CHECKING:
    from streamer.sink import Message

_PRIORITIES: Final = [priority.label for priority in Priority]
_A_TIME: Final = "2026-11-20T10:00:00Z"


@click.command(
    short_help="Print what arrives in the topics, in colour.",
    epilog="""\b
Examples:
  falco-streamer tap --config streamer.yaml --since 15m
  falco-streamer tap --config streamer.yaml --priority warning --rule 'Terminal*' --namespace 'shop-*'
  falco-streamer tap --config streamer.yaml --where 'proc.name =~ "(ba|z)?sh"' --where 'user.name != "root"'
  falco-streamer tap --config streamer.yaml --tail 20 --cluster prod-eu-1 --exclude 'rule = "Contact K8S API Server"'
  falco-streamer tap --config streamer.yaml --template '{time} {workload} {proc.cmdline}'
  falco-streamer tap --config streamer.yaml --since 1d --no-follow -o json | jq -r .value.rule | sort | uniq -c
""",
)
@settings_options
@click.option("--since", metavar="WHEN", help="15m, 2h, 1d ago, or an RFC 3339 time. Default: from now on.")
@click.option(
    "--tail",
    type=click.IntRange(min=1),
    metavar="N",
    help="Begin with the last N records that are to be shown. With --since, of those since then.",
)
@click.option("--follow/--no-follow", default=True, help="Continue until Ctrl-C, or stop at the present end.")
@click.option("--cluster", "clusters", metavar="GLOB", multiple=True, help="Only records of these clusters.")
@click.option("--node", "nodes", metavar="GLOB", multiple=True, help="Only records from these nodes.")
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
    help="Only alerts of workloads in these namespaces.",
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
@click.option(
    "-x",
    "--exclude",
    "excluded",
    metavar="MATCHER",
    multiple=True,
    help="No alerts that match, in the same form as --where. May be repeated: any may match.",
)
@click.option("--summaries/--no-summaries", default=True, help="Summaries of repeated alerts.")
@click.option(
    "--health/--no-health",
    default=None,
    help="All health records, or none. By default all except coverage: gaps, storms, Falco's own reports.",
)
@click.option("--dead-letters/--no-dead-letters", default=False, help="Lines that are not valid alerts.")
@click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "wide", "json", "raw"]),
    default="table",
    show_default=True,
    help="One line, cut at the terminal's width; the whole line; everything that Kafka has; the values as they are.",
)
@click.option(
    "--template",
    metavar="TEXT",
    help=f"A line of your own in place of --output. In braces: {', '.join(NAMES)}, or any output field.",
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
    tail: int | None,
    follow: bool,
    clusters: tuple[str, ...],
    nodes: tuple[str, ...],
    priority: str | None,
    rules: tuple[str, ...],
    namespaces: tuple[str, ...],
    matchers: tuple[str, ...],
    excluded: tuple[str, ...],
    summaries: bool,
    health: bool | None,
    dead_letters: bool,
    output: str,
    template: str | None,
    color: str,
) -> None:
    """Print what arrives in the topics: committed records only, coloured by priority, times in UTC.

    An alert's line is its time, priority, rule, workload (namespace/pod, or the host), container, process and message.
    Control characters in alerts are escaped on a terminal. In a pipe, `-o raw` and `-o json` are exact. With a
    condition on alerts (priority, rule, namespace, where), health records and dead letters are not shown. Exit codes:
    0 (also Ctrl-C), 2 usage, 69 Kafka cannot be reached, 78 configuration.
    """
    import uvloop

    from streamer.sink import KafkaUnavailable
    from streamer.telemetry.log import configure

    kinds = {"alert"} | ({"summary"} if summaries else set()) | (set() if health is False else {"health"})
    kinds |= {"dead-letter"} if dead_letters else set()
    selection = Selection(
        kinds,
        coverage=health is True,
        clusters=clusters,
        nodes=nodes,
        priority=None if priority is None else Priority.parse(priority),
        rules=rules,
        namespaces=namespaces,
        matchers=[_matcher(text, "'-w' / '--where'") for text in matchers],
        excluded=[_matcher(text, "'-x' / '--exclude'") for text in excluded],
    )
    wanted = Range(_start(since), tail, follow)
    printer = Printer(output, color, None if template is None else _template(template))
    settings = load_settings(config, overrides, require=("kafka.bootstrap_servers",))
    configure("error", settings.log.format)

    async def show() -> None:
        reporting = asyncio.create_task(report_outages(settings)) if follow else None
        try:
            await show_messages()
        finally:
            if reporting is not None:
                reporting.cancel()

    async def show_messages() -> None:
        shown = read = 0

        def takes(message: Message) -> bool:
            nonlocal read
            read += 1
            return selection.takes(dict(message.headers), message.value or b"")

        async for message in records(settings, kinds, wanted, takes):
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


def _start(since: str | None) -> Literal["end"] | int:
    try:
        return "end" if since is None else since_ms(since, time.time_ns() // 1_000_000)
    except ValueError as error:
        expected = (
            f"expected how long ago, such as 30s, 15m, 2h, 1d, or a time with its zone, such as {_A_TIME}"
        )
        raise click.BadParameter(f"{since!r}: {expected}", param_hint="'--since'") from error


def _template(text: str) -> Template:
    try:
        return Template(text)
    except TemplateError as error:
        raise click.BadParameter(str(error), param_hint="'--template'") from error


def _matcher(text: str, option: str) -> Matcher:
    """Read a condition; where it is wrong, a usage error shows the place."""
    from streamer.config.advice import unknown_field
    from streamer.config.errors import Place, Source, excerpt

    try:
        matcher = Matcher.parse(text)
    except MatcherError as error:
        place = Place(Source(option.split("'")[-2], (text,)), 0, error.start, error.end - error.start)
        shown = "\n".join(excerpt(place, error.reason))
        raise click.BadParameter(f"\n{shown}", param_hint=option) from error
    if (why := unknown_field(matcher)) is not None:
        click.echo(f"warning: {why}", err=True)
    return matcher
