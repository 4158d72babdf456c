"""The topics at start: there, or made, and set up so that the promise can be kept."""

from __future__ import annotations

import shlex
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from typing import Final, NamedTuple

import aiokafka.errors as kafka_errors
import structlog

from streamer.config import Settings, TopicSpec
from streamer.model import Finding, Verdict
from streamer.sink.admin import Admin, Replicas, TopicConfig, admin, limits_of
from streamer.sink.connection import Connection
from streamer.sink.coordinators import GROUP, TRANSACTION, Coordinator, check_coordinators, lower_it, too_few
from streamer.sink.errors import KafkaUnavailable, TopicsUnfit
from streamer.sink.packing import TopicLimits
from streamer.sink.permissions import consumer_group, probing_id
from streamer.sink.topic_creation import create_topics, rehearse, wait_for_topics

RECORD_OVERHEAD_BYTES: Final = 2048
"""What a record has in addition to the line: key, headers, the batch around it."""

log = structlog.get_logger()


class TopicThere(NamedTuple):
    """A topic that exists."""

    partitions: int
    config: TopicConfig
    """Empty where we may not read it."""


async def prepare_topics(
    connection: Connection, settings: Settings, *, state: bool = True
) -> dict[str, TopicLimits]:
    """Have every topic there and fit, and return what each takes; `state` says whether the state topic counts.

    Missing topics are made if `topics.create` says so. Raises KafkaUnavailable, and TopicsUnfit with all findings
    that only a change of configuration can fix. A broker without administrative requests is asked for less.
    """
    specs = {spec.name: spec for spec in settings.topic_specs if state or spec.kind != "state"}
    async with admin(connection) as asked:
        await check_coordinators(asked, coordinator_keys(connection, settings.cluster, group=state))
        partitions = await asked.partitions(specs)
        missing = [spec for name, spec in specs.items() if name not in partitions]
        if missing and settings.topics.create:
            await create_topics(asked, missing)
            partitions = await wait_for_topics(asked, specs)
        elif missing:
            raise TopicsUnfit([_missing(missing, settings)])
        configs = await _configs(asked, specs)
        _, replicas = await asked.replicas(specs)
    if problems := [*_replica_problems(replicas, configs or {})]:
        raise KafkaUnavailable("; ".join(problem.what for problem in problems), problems[0].fix)
    problems = [*_partition_problems(partitions, specs, settings)]
    if configs is not None:
        problems += _policy_problems(configs, specs, settings)
        _warn_of_limits(configs, specs, settings)
    if problems:
        raise TopicsUnfit(problems)
    return {name: limits_of(config) for name, config in (configs or {}).items()}


async def topics_there(connection: Connection, settings: Settings) -> dict[str, TopicThere]:
    """Those of our topics that exist and that we may see. Raises KafkaUnavailable."""
    specs = {spec.name: spec for spec in settings.topic_specs}
    async with admin(connection) as asked:
        partitions = await asked.partitions(specs)
        configs = await _configs(asked, partitions)
    return {
        name: TopicThere(count, (configs or {}).get(name, {}))
        for name, count in partitions.items()
        if count is not None
    }


async def examine_topics(
    connection: Connection, settings: Settings, hidden: Collection[str] = ()
) -> AsyncIterator[Finding]:
    """What is wrong with the topics; of those in `hidden` it is known that we may not use them.

    Raises KafkaUnavailable.
    """
    specs = {spec.name: spec for spec in settings.topic_specs}
    async with admin(connection) as asked:
        found = await asked.partitions(specs)
        partitions = {name: count for name, count in found.items() if count is not None or name not in hidden}
        configs = await _configs(asked, partitions) or {}
        _, replicas = await asked.replicas(partitions)
        missing = [spec for name, spec in specs.items() if name not in found]
        if missing and settings.topics.create:
            for finding in await rehearse(asked, missing):
                yield finding
        elif missing:
            yield _missing(missing, settings)
    for finding in (
        *_replica_problems(replicas, configs),
        *_partition_problems(partitions, specs, settings),
        *_policy_problems(configs, specs, settings),
    ):
        yield finding
    for allowed, topics in _low_limits(configs, specs, settings).items():
        consequence = (
            f"{', '.join(topics)}: max.message.bytes is {allowed}, so that longer alerts become dead letters"
        )
        yield Finding("kafka.topics.limit", Verdict.WARNING, consequence, _raise_limit(allowed, settings))


def create_command(spec: TopicSpec, settings: Settings) -> str:
    """The command of Kafka's own that makes a topic as it should be."""
    arguments = [
        "kafka-topics.sh",
        "--bootstrap-server",
        ",".join(settings.kafka.bootstrap_servers),
        "--create",
    ]
    arguments += ["--topic", spec.name]
    if spec.partitions != -1:
        arguments += ["--partitions", str(spec.partitions)]
    if spec.replication_factor != -1:
        arguments += ["--replication-factor", str(spec.replication_factor)]
    for key, value in sorted(spec.config.items()):
        arguments += ["--config", f"{key}={value}"]
    return shlex.join(arguments)


def alter_command(topic: str, key: str, value: str, settings: Settings) -> str:
    """The command of Kafka's own that changes one setting of a topic."""
    servers = ",".join(settings.kafka.bootstrap_servers)
    where = f"--bootstrap-server {servers} --alter --entity-type topics --entity-name {topic}"
    return f"kafka-configs.sh {where} --add-config {key}={value}"


async def _configs(asked: Admin, topics: Collection[str]) -> dict[str, TopicConfig] | None:
    try:
        return await asked.configs(topics)
    except kafka_errors.IncompatibleBrokerVersion:
        return None


def _missing(missing: list[TopicSpec], settings: Settings) -> Finding:
    names = ", ".join(spec.name for spec in missing)
    commands = "\n".join(f"  {create_command(spec, settings)}" for spec in missing)
    return Finding(
        "kafka.topics.missing",
        Verdict.FAULT,
        f"missing topics: {names}",
        f"set topics.create: true, or create them:\n{commands}",
    )


def coordinator_keys(connection: Connection, cluster: str, *, group: bool = True) -> dict[Coordinator, str]:
    """What the worker needs coordinators for."""
    keys = {TRANSACTION: probing_id(cluster)} if connection.transactional else {}
    return keys | ({GROUP: consumer_group(cluster)} if group else {})


def _replica_problems(
    replicas: Mapping[str, Replicas], configs: Mapping[str, TopicConfig]
) -> Iterable[Finding]:
    """Topics that take no record: no leader, or too few replicas in sync. Then Kafka asks to try again, for ever."""
    for name, known in replicas.items():
        if known.leaderless:
            what = f"{known.leaderless} of {known.partitions} partitions have no leader"
            yield Finding(
                "kafka.topics.leader",
                Verdict.FAULT,
                f"topic {name}: {what}",
                "start the brokers that hold its replicas",
            )
        elif (shortfall := too_few(known, configs.get(name, {}))) is not None:
            yield Finding(
                "kafka.topics.in_sync",
                Verdict.FAULT,
                f"topic {name} {shortfall}: it takes no record",
                lower_it(name, known),
            )


def _partition_problems(
    partitions: Mapping[str, int | None], specs: Mapping[str, TopicSpec], settings: Settings
) -> Iterable[Finding]:
    for name, count in partitions.items():
        if count is None:
            yield Finding(
                "kafka.topics.hidden",
                Verdict.FAULT,
                f"topic {name}: we may not use it, or it is missing",
                "grant WRITE and DESCRIBE on it: `falco-streamer topics acls` prints all that is needed",
            )
        elif specs[name].kind == "state" and count != settings.kafka.shards:
            yield Finding(
                "kafka.topics.shards",
                Verdict.FAULT,
                f"the state topic {name} has {count} partitions, but kafka.shards is {settings.kafka.shards}",
                f"set kafka.shards: {count}; `falco-streamer state reshard` divides the pods again",
            )


def _policy_problems(
    configs: Mapping[str, TopicConfig], specs: Mapping[str, TopicSpec], settings: Settings
) -> Iterable[Finding]:
    for name, config in configs.items():
        policy = config.get("cleanup.policy", "")
        if specs[name].kind == "state" and policy != "compact":
            right, harm = "compact", "would forget read positions"
        elif specs[name].kind != "state" and "compact" in policy:
            right, harm = "delete", "keeps but one record of each pod"
        else:
            continue
        which = "the state topic" if specs[name].kind == "state" else "topic"
        yield Finding(
            "kafka.topics.policy",
            Verdict.FAULT,
            f"{which} {name} has cleanup.policy={policy}, which {harm}",
            alter_command(name, "cleanup.policy", right, settings),
        )


def _low_limits(
    configs: Mapping[str, TopicConfig], specs: Mapping[str, TopicSpec], settings: Settings
) -> dict[int, list[str]]:
    """Topics that do not take the longest line, by what they take."""
    low: dict[int, list[str]] = {}
    for name, config in configs.items():
        allowed = limits_of(config).max_message_bytes
        if specs[name].kind not in {"state", "health"} and allowed < _needed_bytes(settings):
            low.setdefault(allowed, []).append(name)
    return low


def _needed_bytes(settings: Settings) -> int:
    return settings.kubernetes.max_line_bytes + RECORD_OVERHEAD_BYTES


def _raise_limit(allowed: int, settings: Settings) -> str:
    return (
        f"set max.message.bytes of these topics to at least {_needed_bytes(settings)}, "
        f"or kubernetes.max_line_bytes to at most {max(allowed - RECORD_OVERHEAD_BYTES, 0)}"
    )


def _warn_of_limits(
    configs: Mapping[str, TopicConfig], specs: Mapping[str, TopicSpec], settings: Settings
) -> None:
    """Not fatal: a record that a topic refuses becomes a dead letter."""
    unknown = sorted(specs.keys() - configs.keys())
    if unknown:
        log.warning("topic_settings_unknown", topics=unknown, fix="grant DESCRIBE_CONFIGS on them")
    for allowed, topics in _low_limits(configs, specs, settings).items():
        log.warning(
            "topic_limit_low",
            topics=topics,
            max_message_bytes=allowed,
            needed_bytes=_needed_bytes(settings),
            consequence="longer alerts become dead letters",
            fix=_raise_limit(allowed, settings),
        )
