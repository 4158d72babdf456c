"""`falco-streamer topics`: the topics that the settings name, and who may use them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import orjson

from streamer.cli import exits
from streamer.cli.doctor import exit_code, text
from streamer.cli.kafka_query import kafka_settings, query_kafka
from streamer.cli.options import fail, settings_options
from streamer.model import Finding, Verdict

if TYPE_CHECKING:
    from streamer.config import Settings
    from streamer.sink.connection import Connection


@click.group(
    short_help="List, create and verify the topics; print their ACLs.",
    epilog="""\b
Examples:
  falco-streamer topics list --config streamer.yaml
  falco-streamer topics create --config streamer.yaml --dry-run
  falco-streamer topics verify --config streamer.yaml
  falco-streamer topics acls --config streamer.yaml --principal User:falco-streamer
""",
)
def topics() -> None:
    """List, make and verify the topics, and print the ACLs that they need.

    Exit codes: 0, 1 something is wrong, 69 Kafka cannot be reached, 78 configuration.
    """


@topics.command(
    "list",
    short_help="List all topics that the worker may write.",
    epilog="""\b
Examples:
  falco-streamer topics list --config streamer.yaml
  falco-streamer topics list --config streamer.yaml -o json | jq -r '.[] | select(.partitions == null).name'
""",
)
@settings_options
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def list_topics(config: Path | None, overrides: tuple[str, ...], output: str) -> None:
    """List every topic that can be written, whether it is there or not."""
    from streamer.sink.topics import topics_there

    settings = kafka_settings(config, overrides)
    there = query_kafka(settings, topics_there)
    rows: list[dict[str, Any]] = []
    for spec in settings.topic_specs:
        found = there.get(spec.name)
        rows.append(
            {
                "name": spec.name,
                "class": spec.kind,
                "partitions": found.partitions if found else None,
                "config": dict(found.config) if found else None,
            }
        )
    if output == "json":
        click.echo(orjson.dumps(rows, option=orjson.OPT_INDENT_2))
        return
    width = max(len(row["name"]) for row in rows)
    click.echo(f"{'TOPIC':<{width}}  {'CLASS':<11}  PARTITIONS  POLICY   MAX.MESSAGE.BYTES")
    for row in rows:
        known = row["config"] or {}
        count = "missing" if row["partitions"] is None else row["partitions"]
        line = (
            f"{row['name']:<{width}}  {row['class']:<11}  {count:<10}  {known.get('cleanup.policy', '-'):<7}"
        )
        click.echo(f"{line}  {known.get('max.message.bytes', '-')}")


@topics.command(
    short_help="Create missing topics.",
    epilog="""\b
Examples:
  falco-streamer topics create --config streamer.yaml --dry-run
  falco-streamer topics create --config streamer.yaml --set topics.partitions=12 --set topics.replication_factor=3
""",
)
@settings_options
@click.option(
    "--dry-run", is_flag=True, help="Print the kafka-topics.sh commands instead; does not connect to Kafka."
)
def create(config: Path | None, overrides: tuple[str, ...], dry_run: bool) -> None:
    """Make the topics that are missing, as `topics` in the configuration says; those that exist stay as they are."""
    from streamer.sink import TopicsUnfit, prepare_topics
    from streamer.sink.topics import create_command, topics_there

    settings = kafka_settings(config, overrides)
    if dry_run:
        for spec in settings.topic_specs:
            click.echo(create_command(spec, settings))
        return
    there = query_kafka(settings, topics_there)
    making = settings.model_copy(update={"topics": settings.topics.model_copy(update={"create": True})})
    try:
        query_kafka(making, prepare_topics)
    except TopicsUnfit as error:
        fail("\n".join(f"error: {problem}" for problem in error.problems), exits.FAILED)
    made = [spec.name for spec in settings.topic_specs if spec.name not in there]
    for name in made:
        click.echo(name)
    if not made:
        click.echo(f"all {len(settings.topic_specs)} topics are there", err=True)


@topics.command(
    short_help="Verify that all topics exist and are suitable.",
    epilog="""\b
Examples:
  falco-streamer topics verify --config streamer.yaml
""",
)
@settings_options
def verify(config: Path | None, overrides: tuple[str, ...]) -> None:
    """Verify that every topic is there and set up so that delivery can be kept; each fault comes with its fix."""
    from streamer.sink.topics import examine_topics

    async def examine(connection: Connection, settings: Settings) -> list[Finding]:
        return [finding async for finding in examine_topics(connection, settings)]

    settings = kafka_settings(config, overrides)
    findings = query_kafka(settings, examine)
    if not findings:
        findings = [
            Finding("kafka.topics", Verdict.FINE, f"all {len(settings.topic_specs)} topics are there and fit")
        ]
    for finding in findings:
        click.echo(text(finding))
    sys.exit(exit_code(findings))


@topics.command(
    short_help="Print the permissions that worker or consumers need.",
    epilog="""\b
Examples:
  falco-streamer topics acls --config streamer.yaml --principal User:falco-streamer | sh
  falco-streamer topics acls --config streamer.yaml --consumer --principal User:splunk --group splunk-
  falco-streamer topics acls --config streamer.yaml -o strimzi --kafka my-cluster | kubectl apply -f -
""",
)
@settings_options
@click.option(
    "--principal", default="User:falco-streamer", show_default=True, help="The principal of the ACLs."
)
@click.option("--consumer", is_flag=True, help="Print the permissions of a consumer instead of the worker's.")
@click.option("--group", default="falco-", show_default=True, help="Prefix of the consumer groups.")
@click.option(
    "-o",
    "--output",
    type=click.Choice(["commands", "strimzi"]),
    default="commands",
    show_default=True,
    help="Output format: kafka-acls.sh commands, or Strimzi's KafkaUser.",
)
@click.option("--kafka", default="kafka", show_default=True, help="The Kafka resource's name, for Strimzi.")
def acls(
    config: Path | None,
    overrides: tuple[str, ...],
    principal: str,
    consumer: bool,
    group: str,
    output: str,
    kafka: str,
) -> None:
    """Print the permissions that the worker or a consumer needs, and no other. Kafka is not asked."""
    from streamer.sink.permissions import (
        acl_commands,
        consumer_permissions,
        strimzi_user,
        worker_permissions,
    )

    settings = kafka_settings(config, overrides)
    needed = consumer_permissions(settings, group) if consumer else worker_permissions(settings)
    if output == "commands":
        for command in acl_commands(needed, principal, settings.kafka.bootstrap_servers):
            click.echo(command)
        return
    security = settings.kafka.security
    authentication = (
        "scram-sha-512" if security.protocol.startswith("sasl") else "tls" if security.cert_file else None
    )
    name = principal.removeprefix("User:").removeprefix("CN=")
    click.echo(strimzi_user(needed, name, kafka, authentication), nl=False)
