"""`falco-streamer state reset`: forget how far pods are read."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from streamer.cli import exits
from streamer.cli.kafka_query import kafka_settings, query_kafka
from streamer.cli.options import fail, settings_options
from streamer.cli.show import escape
from streamer.cli.state_summary import summarize_state
from streamer.cli.stored_state import read_committed_state, require_no_workers
from streamer.transform.export import Export
from streamer.transform.state import StateUnreadableError

if TYPE_CHECKING:
    from streamer.config import Settings
    from streamer.sink.connection import Connection

Chosen = Mapping[int, frozenset[str] | None]
"""By shard, the targets to forget by their ids; None: all that is stored."""

_AGAIN: Final[Mapping[str, str]] = {
    "beginning": "A pod that is still there is read again from the first line that the API serves "
    "(kubernetes.start: beginning): its alerts are published once more, with the same ce_id.",
    "now": "A pod that is still there is read from the moment when a worker finds it (kubernetes.start: now): what it "
    "has printed since its last line was read is not published, and no gap record covers it.",
}


@click.command(
    short_help="Forget the read positions of a pod or a shard.",
    epilog="""\b
Examples:
  falco-streamer state reset --config streamer.yaml --pod falco/falco-x7k2p
  falco-streamer state reset --config streamer.yaml --pod falco/falco-x7k2p --container falco --yes
  falco-streamer state reset --config streamer.yaml --shard 3
""",
)
@settings_options
@click.option("-p", "--pod", metavar="NAMESPACE/POD", help="Forget this Falco pod.")
@click.option("--container", metavar="NAME", help="Of the pod, only this container.")
@click.option("-s", "--shard", type=click.IntRange(0), help="Forget every pod of this shard.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
def reset(
    config: Path | None,
    overrides: tuple[str, ...],
    pod: str | None,
    container: str | None,
    shard: int | None,
    yes: bool,
) -> None:
    """Forget how far a pod, or all pods of a shard, are read; what will follow is said before anything is done.

    The workers must be stopped, and are kept out meanwhile. What was counted and not reported yet is reported. A
    shard that cannot be read can be forgotten as a whole. Exit codes: 0 done, 1 refused or not done, 2 usage, 69 Kafka
    cannot be reached, 78 configuration.
    """
    if (pod is None) == (shard is None):
        raise click.UsageError("give either --pod or --shard")
    if pod is not None and pod.count("/") != 1:
        raise click.BadParameter(f"{pod!r}: expected NAMESPACE/POD")
    if container is not None and pod is None:
        raise click.UsageError("--container goes with --pod")
    settings = kafka_settings(config, overrides)
    require_no_workers(settings)
    export, _ = query_kafka(settings, read_committed_state)
    if shard is not None:
        if shard not in export.shards:
            raise click.BadParameter(f"there are {len(export.shards)} shards: no {shard}")
        chosen: Chosen = {shard: None}
    elif not (chosen := _of_pod(export, f"{pod}/", container)):
        name = f"{pod} {container or ''}".rstrip()
        fail(f"error: no position of {name} is stored: `falco-streamer state show` lists all", exits.FAILED)
    for line in _consequences(export, chosen, settings.kubernetes.start):
        click.echo(line, err=True)
    if not yes:
        click.confirm("Go on?", abort=True, err=True)
    for line in query_kafka(settings, partial(_reset, chosen=chosen)):
        click.echo(line)


def _of_pod(export: Export, pod: str, container: str | None) -> Chosen:
    """By the keys alone: the shard need not be readable to be named. A pod's name may have had several uids."""
    chosen: dict[int, frozenset[str]] = {}
    for shard, stored in export.shards.items():
        names = (key.partition("/")[2] for key in stored if key.startswith(f"position/{pod}"))
        found = frozenset(n for n in names if container is None or n.rpartition("/")[2] == container)
        if found:
            chosen[shard] = found
    return chosen


def _consequences(export: Export, chosen: Chosen, start: str) -> Iterator[str]:
    """What will be forgotten, and what follows from it."""
    chosen_shards = {shard: export.shards[shard] for shard in chosen}
    shown = summarize_state(Export(export.cluster, export.topic, chosen_shards), (), time.time_ns(), ())
    for shard in shown["shards"]:
        names = chosen[shard["shard"]]
        if shard["error"] is not None:
            yield f"Shard {shard['shard']} cannot be read: {escape(shard['error'])}."
            yield (
                f"All of its {shard['records']:,} keys are dropped: its ledger begins at 0, and what was counted of "
                "repeated alerts is never reported."
            )
            continue
        targets = [t for t in shard["targets"] if names is None or _identity(t) in names]
        yield f"To be forgotten, of shard {shard['shard']}:"
        for target in targets:
            name = f"{target['namespace']}/{target['pod']} {target['container']} (uid {target['uid']})"
            read = f"{target['lines']:,} lines read, the last of {target['last_line'] or 'no time'}"
            counted = f"{target['counted']:,} alerts were counted and are reported now"
            yield escape(f"  {name}: {read}; {counted}")
        if not targets:
            yield "  no pod"
    yield _AGAIN[start]
    yield "Windows and limits start again. The ledger continues: what is read again is counted again."


def _identity(target: Mapping[str, Any]) -> str:
    return "/".join(str(target[part]) for part in ("namespace", "pod", "uid", "container"))


async def _reset(connection: Connection, settings: Settings, *, chosen: Chosen) -> list[str]:
    from streamer.flow.publishing import PublishError
    from streamer.plan import plan_of
    from streamer.shard.reset import reset as reset_shard
    from streamer.sink import KafkaUnavailable, ShardProducer, TopicsUnfit, prepare_topics
    from streamer.sink.group_lock import lock_workers_out

    done = []
    try:
        limits = await prepare_topics(connection, settings)
        async with lock_workers_out(connection, settings.cluster):
            for shard, targets in chosen.items():
                publisher = ShardProducer(
                    connection,
                    cluster=settings.cluster,
                    shard=shard,
                    state_topic=settings.topic_names.state,
                    topics=[spec.name for spec in settings.topic_specs if spec.kind != "state"],
                    limits=limits,
                )
                try:
                    found = await reset_shard(publisher, plan_of(settings), targets, time.time_ns())
                except StateUnreadableError as error:
                    fix = "" if targets is None else f"; forget it as a whole: --shard {shard}"
                    fail(f"error: shard {shard}: {escape(str(error))}{fix}", exits.FAILED)
                finally:
                    await publisher.close()
                done.append(
                    f"shard {shard}: {found.keys:,} keys forgotten, {found.records:,} records published"
                )
    except TopicsUnfit as error:
        fail("\n".join(f"error: {problem}" for problem in error.problems), exits.CONFIG)
    except KafkaUnavailable:
        raise
    except PublishError as error:
        fail(f"error: {error}", exits.FAILED)
    return done
