"""`falco-streamer replay`: alerts from files through the same core as the live ones."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import orjson

from streamer.cli import exits
from streamer.cli.loop import run as run_loop
from streamer.cli.options import discard_stdout, fail, load_settings, settings_options, write_ledger
from streamer.cli.selection import as_json

if TYPE_CHECKING:
    from streamer.config import Settings
    from streamer.model import Ledger, Record, Target
    from streamer.source.files import FileReader
    from streamer.source.gaps import Hole


@click.command(
    short_help="Publish alerts from files or saved pod logs.",
    epilog="""\b
Examples:
  kubectl logs -n falco -l app.kubernetes.io/name=falco -c falco --tail=-1 --timestamps | falco-streamer replay -
  falco-streamer replay --to null --ledger ledger.json alerts-2026-11-*.json.gz
  falco-streamer replay -c streamer.yaml --to kafka --gap gaps.jsonl /var/log/pods/falco_*/falco/*.log*
  falco-streamer replay -o json falco.log | jq -r '.topic + " " + .headers.rule'
  falco-streamer replay --to kafka --set kafka.bootstrap_servers=localhost:9092 falco.log
""",
)
@settings_options
@click.option(
    "--to",
    type=click.Choice(["kafka", "stdout", "null"]),
    default="stdout",
    show_default=True,
    help="Where the records go.",
)
@click.option(
    "-o",
    "--output",
    type=click.Choice(["raw", "json"]),
    default="raw",
    show_default=True,
    help="With --to stdout: the values as they are, or the records with topic, key and headers, as `tap` prints them.",
)
@click.option(
    "--ledger", type=click.Path(path_type=Path), help="Write the final ledger to this file, as JSON."
)
@click.option(
    "--target",
    metavar="NAMESPACE/POD/UID/CONTAINER",
    help="Whose log the files are, where their paths do not say it: records are then those of the live worker.",
)
@click.option("--node", default="", help="The node that the log is from, for the records' header.")
@click.option(
    "--gap",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Read only what is missing by these gap records, one a line.",
)
@click.argument("files", nargs=-1, required=True)
def replay(
    config: Path | None,
    overrides: tuple[str, ...],
    to: str,
    output: str,
    ledger: Path | None,
    target: str | None,
    node: str,
    gap: Path | None,
    files: tuple[str, ...],
) -> None:
    """Read alerts, saved pod logs (with or without timestamps) or log files of a node (CRI, Docker's json-file).

    Each file may be plain or gzip, - is standard input. A file that does not hold lines of Falco's is refused before
    anything is published. What each filter has dropped is written to stderr, and the ledger as its last line. Exit
    codes: 0, 1 if the ledger does not balance or a file cannot be read or is refused, 69 if Kafka cannot be reached,
    78 configuration.
    """
    from streamer.config.filters import names_of
    from streamer.sink import SinkError, TopicsUnfit
    from streamer.source.files import FileError, FileReader
    from streamer.telemetry.log import configure

    if output != "raw" and to != "stdout":
        raise click.BadParameter(f"{output} is for --to stdout", param_hint="'-o' / '--output'")
    settings = load_settings(config, overrides, require=("kafka.bootstrap_servers",) if to == "kafka" else ())
    configure(settings.log.level, settings.log.format)
    reader = FileReader(
        settings.kubernetes.max_line_bytes,
        target=None if target is None else _target(target, node),
        node=node,
        holes=() if gap is None else _holes(gap, settings.cluster),
    )
    try:
        in_order = reader.examine(files)
        for name in reader.unknown if gap is None else ():
            click.echo(
                f"warning: {name}: a node's log whose path does not say whose it is. Its records have other ids than "
                "the live worker's: give --target NAMESPACE/POD/UID/CONTAINER",
                err=True,
            )
        found, filtered = run_loop(_replay(settings, to, output, reader, in_order))
    except TopicsUnfit as error:
        fail(f"error: {error}", exits.CONFIG)
    except SinkError as error:
        fail(f"error: {error}", exits.UNAVAILABLE)
    except FileError as error:
        fail(f"error: {error}", exits.FAILED)
    except BrokenPipeError:  # `| head`: the reader has seen enough
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


def _target(text: str, node: str) -> Target:
    from streamer.model import Target

    try:
        namespace, pod, uid, container = filter(None, text.split("/"))
    except ValueError as error:
        raise click.BadParameter("expected NAMESPACE/POD/UID/CONTAINER", param_hint="'--target'") from error
    return Target(namespace, pod, uid, container, node)


def _holes(path: Path, cluster: str) -> list[Hole]:
    from streamer.source.gaps import GapsError, parse_gaps

    try:
        return parse_gaps(path.read_bytes(), cluster)
    except GapsError as error:
        raise click.BadParameter(f"{path}: {error}", param_hint="'--gap'") from error


async def _replay(
    settings: Settings, to: str, output: str, reader: FileReader, files: list[str]
) -> tuple[Ledger, Counter[str]]:
    """Replay the files: the ledger, and what each filter has dropped."""
    from streamer.cli.progress import Progress
    from streamer.plan import plan_of
    from streamer.replay import Replay
    from streamer.sink import replay_sink

    progress = Progress(sys.stderr, files)
    async with replay_sink(to, settings, _LINES[output]) as sink:
        replaying = Replay(plan_of(settings, cores=1), sink)
        for name, following in zip(files, [*files[1:], ""], strict=True):
            before = replaying.ledger
            batches = reader.read(name, progress.at, following=following)
            await replaying.read(batches, progress.show)
            progress.end_file()
            if (after := replaying.ledger).alerts == before.alerts:
                progress.warn(_without_alerts(name, after.lines - before.lines, of_gaps=reader.of_gaps))
        await replaying.end()
    progress.end()
    return replaying.ledger, replaying.filtered


def _as_json(record: Record) -> bytes:
    return as_json(record.topic, None, None, record.timestamp_ms, record.key, record.value, record.headers)


_LINES: Final[Mapping[str, Callable[[Record], bytes]]] = {
    "raw": lambda record: record.value,
    "json": _as_json,
}


def _without_alerts(name: str, lines: int, *, of_gaps: bool) -> str:
    label = "standard input" if name == "-" else name
    if of_gaps:
        return f"{label}: no alert in it lies in a gap"
    if not lines:
        return f"{label}: it is empty"
    return f"{label}: none of its {lines:,} lines is an alert; replay reads what Falco prints with json_output: true"
