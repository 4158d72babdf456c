"""`falco-streamer state`: what the workers have stored of their work, and how to repair it."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click
import orjson

from streamer import __version__
from streamer.cli import exits
from streamer.cli.kafka_query import kafka_settings, query_kafka
from streamer.cli.options import discard_stdout, fail, settings_options
from streamer.cli.reset import reset
from streamer.cli.reshard import reshard
from streamer.cli.state_summary import summarize_state, summary_table, unreadable_shards
from streamer.cli.stored_state import read_committed_state
from streamer.transform.export import Export, ExportUnreadableError, export_lines, read_export
from streamer.transform.stamp import to_rfc3339

if TYPE_CHECKING:
    from streamer.sink.group import Member


@click.group(
    short_help="Show, export and repair what workers have stored.",
    epilog="""\b
Examples:
  falco-streamer state show --config streamer.yaml
  falco-streamer state export --config streamer.yaml > state.jsonl
  falco-streamer state reset --config streamer.yaml --pod falco/falco-x7k2p
  falco-streamer state reshard --config streamer.yaml --to 16
""",
)
def state() -> None:
    """Show, export and repair the state: read positions, windows, limits and ledgers, by shard.

    Exit codes: 0, 1 something is wrong, 2 usage, 69 Kafka cannot be reached, 78 configuration.
    """


@state.command(
    short_help="Show workers, shards and the read position of each pod.",
    epilog="""\b
Examples:
  falco-streamer state show --config streamer.yaml --pod 'falco/falco-x7*'
  falco-streamer state show --config streamer.yaml -o json | jq '[.shards[].targets[] | select(.age_seconds > 3600)]'
  falco-streamer state show --file state.jsonl
""",
)
@settings_options
@click.option(
    "-s", "--shard", "shards", type=click.IntRange(0), multiple=True, help="Only this shard. May be repeated."
)
@click.option(
    "-p",
    "--pod",
    "pods",
    metavar="GLOB",
    multiple=True,
    help="Only these Falco pods, by namespace/pod. May be repeated.",
)
@click.option(
    "-f",
    "--file",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Show what `state export` wrote, instead of asking Kafka.",
)
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def show(
    config: Path | None,
    overrides: tuple[str, ...],
    shards: tuple[int, ...],
    pods: tuple[str, ...],
    file: Path | None,
    output: str,
) -> None:
    """Show the workers, the shards, and how far each target is read; running workers are not disturbed.

    Of each target: lines read, the last one's age, open windows and alerts counted in them but not yet reported. A
    shard that this release cannot read is named with the cause, and the exit code is 1.
    """
    members: list[Member] | None = None
    if file is not None:
        export = _from_file(file)
    else:
        export, members = query_kafka(kafka_settings(config, overrides), read_committed_state)
    if unknown := set(shards) - export.shards.keys():
        raise click.BadParameter(f"there are {len(export.shards)} shards: no {min(unknown)}")
    if shards:
        export = Export(export.cluster, export.topic, {shard: export.shards[shard] for shard in shards})
    shown = summarize_state(export, members or (), time.time_ns(), pods)
    if output == "json":
        workers = None if members is None else [member._asdict() for member in members]
        click.echo(orjson.dumps({"workers": workers, **shown}, option=orjson.OPT_INDENT_2))
    else:
        click.echo("\n".join(summary_table(shown, members)))
    found = list(unreadable_shards(shown))
    for trouble in found:
        click.echo(trouble, err=True)
    sys.exit(exits.FAILED if found else 0)


@state.command(
    "export",
    short_help="Write the whole state as JSON lines.",
    epilog="""\b
Examples:
  falco-streamer state export --config streamer.yaml > state.jsonl
  falco-streamer state export --config streamer.yaml | jq -r 'select(.key // "" | startswith("window/")) | .key'
""",
)
@settings_options
def export_state(config: Path | None, overrides: tuple[str, ...]) -> None:
    """Write the whole state as JSON lines, as it is committed now; running workers are not disturbed.

    A line is one stored key: `value` is decoded, `bytes` the exact value. It holds texts of alerts: treat it as you
    treat the alerts. `state show --file` reads it again.
    """
    export, _ = query_kafka(kafka_settings(config, overrides), read_committed_state)
    try:
        for line in export_lines(export, __version__, to_rfc3339(time.time_ns())):
            click.echo(line)
    except BrokenPipeError:  # `| head`
        discard_stdout()


def _from_file(file: Path) -> Export:
    try:
        with file.open(encoding="ascii") as lines:
            return read_export(lines)
    except UnicodeDecodeError:
        fail(f"error: {file}: it is not text, and not an export of a state", exits.FAILED)
    except ExportUnreadableError as error:
        fail(f"error: {file}: {error}", exits.FAILED)


state.add_command(reset)
state.add_command(reshard)
