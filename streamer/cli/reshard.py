"""`falco-streamer state reshard`: divide the pods into more or fewer shards."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from streamer.cli import exits
from streamer.cli.kafka_query import kafka_settings, query_kafka
from streamer.cli.options import fail, settings_options
from streamer.cli.show import escape
from streamer.cli.stored_state import read_committed_state, require_no_workers
from streamer.transform.export import Export
from streamer.transform.load import load
from streamer.transform.reshard import Shards
from streamer.transform.state import StateUnreadableError

if TYPE_CHECKING:
    from streamer.config import Settings
    from streamer.model import Change
    from streamer.sink.connection import Connection

_MOST: Final = 1_024


@click.command(
    short_help="Change the number of shards.",
    epilog="""\b
Examples:
  falco-streamer state reshard --config streamer.yaml --to 16
  falco-streamer state reshard --config streamer.yaml --to 16 --topic falco-streamer.prod.state-wide --yes
""",
)
@settings_options
@click.option("--to", "count", type=click.IntRange(1, _MOST), required=True, help="The new number of shards.")
@click.option(
    "--topic",
    help="The new state topic. Default: the name of the current one with the number of shards appended.",
)
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
def reshard(
    config: Path | None, overrides: tuple[str, ...], count: int, topic: str | None, yes: bool
) -> None:
    """Divide the pods into another number of shards: the whole state moves to another state topic, in one transaction.

    Kafka cannot take partitions away, hence the other topic; if it is missing it is made as `topics` in the
    configuration says, or the command that makes it is printed. The workers must be stopped, and are kept out
    meanwhile; one that is frozen can commit nothing afterwards. Nothing is lost or published twice by it, and windows
    go on. Afterwards kafka.shards and topics.state have to be set as it says. Exit codes: 0 done, 1 refused or not
    done, 2 usage, 69 Kafka cannot be reached, 78 configuration.
    """
    before = kafka_settings(config, overrides)
    old = before.topic_names.state
    new = topic or f"{old.removesuffix(f'-{before.kafka.shards}')}-{count}"
    if new == old:
        raise click.BadParameter(f"{new} is the present state topic: name another with --topic")
    after = kafka_settings(config, (*overrides, f"kafka.shards={count}", f"topics.state={new}"))
    if before.kafka.delivery != "exactly_once":
        fail(
            "error: a reshard is one transaction, and its safety rests on workers that use transactions: "
            "kafka.delivery is at_least_once",
            exits.CONFIG,
        )
    require_no_workers(before)
    export, _ = query_kafka(before, read_committed_state)
    _refuse_unreadable(export)
    records = sum(map(len, export.shards.values()))
    click.echo(
        f"{records:,} stored keys move from {len(export.shards)} shards in {old} to {count} in {new}.",
        err=True,
    )
    click.echo(f"Workers that are still set to {old} then refuse to work, and say why.", err=True)
    if not yes:
        click.confirm("Go on?", abort=True, err=True)
    query_kafka(before, partial(_reshard, after=after))
    click.echo(f"moved; set kafka.shards: {count} and topics.state: {new}, then start the workers")


def _refuse_unreadable(export: Export) -> None:
    for shard, stored in export.shards.items():
        try:
            load(export.cluster, stored.items())
        except StateUnreadableError as error:
            fail(f"error: shard {shard}: {escape(str(error))}", exits.FAILED)


async def _reshard(connection: Connection, before: Settings, *, after: Settings) -> None:
    from streamer.flow.publishing import PublishError
    from streamer.shard.reshard import changes_of_move
    from streamer.sink import KafkaUnavailable, TopicsUnfit, prepare_topics
    from streamer.sink.moving import move_state

    def move(stored: Shards, there: Shards) -> dict[str, dict[int, list[Change]]]:
        return changes_of_move(before.cluster, (old, stored), (new, there))

    old, new = before.topic_names.state, after.topic_names.state
    try:
        limits = await prepare_topics(connection, after)
        await move_state(connection, before.cluster, old, new, limits, move)
    except TopicsUnfit as error:
        fail("\n".join(f"error: {problem}" for problem in error.problems), exits.CONFIG)
    except StateUnreadableError as error:
        fail(f"error: {escape(str(error))}", exits.FAILED)
    except KafkaUnavailable:
        raise
    except PublishError as error:
        fail(f"error: {error}", exits.FAILED)
