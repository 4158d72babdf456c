"""`falco-streamer replay`: alerts from files through the same core as the live ones."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click
import orjson

from streamer.cli import exits
from streamer.cli.loop import run as run_loop
from streamer.cli.options import discard_stdout, fail, load_settings, settings_options, write_ledger

if TYPE_CHECKING:
    from streamer.config import Settings
    from streamer.model import Ledger


@click.command(
    short_help="Publish alerts from files or saved pod logs.",
    epilog="""\b
Examples:
  kubectl logs -n falco -l app.kubernetes.io/name=falco -c falco --timestamps | falco-streamer replay --to stdout -
  falco-streamer replay --to null --ledger ledger.json alerts-2026-11-*.json.gz
  falco-streamer replay --to kafka --set kafka.bootstrap_servers=localhost:9092 falco.log
""",
)
@settings_options
@click.option(
    "--to",
    type=click.Choice(["kafka", "stdout", "null"]),
    default="stdout",
    show_default=True,
    help="Where the records go. stdout prints their values, one a line.",
)
@click.option(
    "--ledger", type=click.Path(path_type=Path), help="Write the final ledger to this file, as JSON."
)
@click.argument("files", nargs=-1, required=True)
def replay(
    config: Path | None, overrides: tuple[str, ...], to: str, ledger: Path | None, files: tuple[str, ...]
) -> None:
    """Read alerts or saved pod logs (with or without timestamps, plain or gzip, - for standard input).

    What each filter has dropped is written to stderr, and the ledger as its last line. Exit codes: 0, 1 if the ledger
    does not balance or a file cannot be read, 69 if Kafka cannot be reached, 78 configuration.
    """
    from streamer.config.filters import names_of
    from streamer.sink import SinkError, TopicsUnfit
    from streamer.source.files import FileError
    from streamer.telemetry.log import configure

    settings = load_settings(config, overrides, require=("kafka.bootstrap_servers",) if to == "kafka" else ())
    configure(settings.log.level, settings.log.format)
    try:
        found, filtered = run_loop(_replay(settings, to, files))
    except TopicsUnfit as error:
        fail(f"error: {error}", exits.CONFIG)
    except SinkError as error:
        fail(f"error: {error}", exits.UNAVAILABLE)
    except FileError as error:
        fail(f"error: {error}", exits.FAILED)
    except BrokenPipeError:  # `| head`: whoever reads us has seen enough
        discard_stdout()
        sys.exit(exits.FAILED)
    for name, rule in zip(names_of(settings.every_filter), settings.every_filter, strict=True):
        if rule.action == "drop":
            share = filtered[name] / max(1, found.alerts)
            click.echo(
                f"filter {name} dropped {filtered[name]:,} of {found.alerts:,} alerts ({share:.1%})", err=True
            )
    click.echo(orjson.dumps(found.as_dict()), err=True)
    write_ledger(ledger, found)
    sys.exit(0 if found.balanced else exits.FAILED)


async def _replay(settings: Settings, to: str, files: tuple[str, ...]) -> tuple[Ledger, Counter[str]]:
    """Replay the files: the ledger, and what each filter has dropped."""
    from streamer.cli.progress import Progress
    from streamer.plan import plan_of
    from streamer.replay import Replay
    from streamer.sink import replay_sink
    from streamer.source.files import read_file

    progress = Progress(sys.stderr, files)
    async with replay_sink(to, settings) as sink:
        replaying = Replay(plan_of(settings, cores=1), sink)
        for name in files:
            before = replaying.ledger
            batches = read_file(name, settings.kubernetes.max_line_bytes, progress.at)
            await replaying.read(batches, progress.show)
            progress.end_file()
            if (after := replaying.ledger).alerts == before.alerts:
                progress.warn(_without_alerts(name, after.lines - before.lines))
        await replaying.end()
    progress.end()
    return replaying.ledger, replaying.filtered


def _without_alerts(name: str, lines: int) -> str:
    label = "standard input" if name == "-" else name
    if not lines:
        return f"{label}: it is empty"
    return f"{label}: none of its {lines:,} lines is an alert; replay reads what Falco prints with json_output: true"
