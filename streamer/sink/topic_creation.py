"""Creating the topics that are missing, and what Kafka has against it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Final

import aiokafka.errors as kafka_errors
import structlog

from streamer.config import OPTIONAL_SETTINGS, TopicSpec
from streamer.model import Finding, Verdict
from streamer.sink.admin import Admin, TopicRefusal
from streamer.sink.errors import KafkaUnavailable, TopicsUnfit

_APPEAR_SECONDS: Final = 10.0
_LOOK_AGAIN_SECONDS: Final = 0.1

log = structlog.get_logger()


async def create_topics(asked: Admin, missing: list[TopicSpec]) -> None:
    """Create topics; those whose optional settings Kafka refuses, without these."""
    try:
        refused, plainer = await _ask_to_create(asked, missing, validate_only=False)
    except kafka_errors.IncompatibleBrokerVersion:
        await asked.partitions([spec.name for spec in missing], create=True)
        return
    if faults := _not_created(missing, refused):
        raise TopicsUnfit(faults)
    for spec in plainer:
        log.warning("topic_settings_refused", **_left_out(spec))
    log.info("topics_created", topics=[spec.name for spec in missing])


async def rehearse(asked: Admin, missing: list[TopicSpec]) -> list[Finding]:
    """What would come of creating these topics; Kafka checks it, and creates nothing."""
    names = ", ".join(spec.name for spec in missing)
    fine = Finding("kafka.topics", Verdict.FINE, f"missing, and to be created by the worker: {names}")
    try:
        refused, plainer = await _ask_to_create(asked, missing, validate_only=True)
    except kafka_errors.IncompatibleBrokerVersion:
        return [fine]
    if faults := _not_created(missing, refused):
        return faults
    return [
        fine,
        *(
            Finding(
                "kafka.topics.settings",
                Verdict.WARNING,
                f"{left['topic']}: {left['consequence']}",
                left["fix"],
            )
            for left in map(_left_out, plainer)
        ),
    ]


async def _ask_to_create(
    asked: Admin, missing: list[TopicSpec], *, validate_only: bool
) -> tuple[dict[str, TopicRefusal | None], list[TopicSpec]]:
    """Ask for these topics, and again without optional settings for those that Kafka refuses for them.

    Gives what is refused in the end, by topic, and the topics that were asked for again.
    """
    refused = await asked.create(missing, validate_only=validate_only)
    plainer = _plainer(missing, refused)
    if plainer:
        refused |= {spec.name: None for spec in plainer}
        refused |= await asked.create(plainer, validate_only=validate_only)
    return refused, plainer


def _plainer(specs: Iterable[TopicSpec], refused: Mapping[str, TopicRefusal | None]) -> list[TopicSpec]:
    """Those topics again whose settings were refused, without the settings that only make loading faster.

    Managed services take few settings: MSK Serverless none of segments, Confluent Cloud no segments below 50 MiB.
    """
    return [
        plain
        for spec in specs
        if (refusal := refused.get(spec.name)) is not None and refusal.for_settings
        if (plain := spec.without_optional()) != spec
    ]


def _left_out(spec: TopicSpec) -> dict[str, str]:
    names = ", ".join(OPTIONAL_SETTINGS)
    return {
        "topic": spec.name,
        "consequence": f"Kafka refuses to set {names}, so it is created without them: shards take longer to load",
        "fix": "set them to null in topics.config.state, or to values that your Kafka accepts",
    }


def _not_created(specs: Iterable[TopicSpec], refused: Mapping[str, TopicRefusal | None]) -> list[Finding]:
    """What Kafka refuses to create, mostly all for one reason."""
    kinds = {spec.name: spec.kind for spec in specs}
    causes: dict[TopicRefusal, list[str]] = {}
    for name, refusal in refused.items():
        if refusal is not None:
            causes.setdefault(refusal, []).append(name)
    return [
        Finding(
            "kafka.topics.missing",
            Verdict.FAULT,
            f"Kafka refuses to create the {'topic' if len(names) == 1 else 'topics'} {', '.join(names)}: "
            f"{refusal.cause}",
            refusal.fix(sorted({kinds[name] for name in names})),
        )
        for refusal, names in causes.items()
    ]


async def wait_for_topics(asked: Admin, names: Iterable[str]) -> dict[str, int | None]:
    """A topic that was just made is not known to every broker at once."""
    wanted = list(names)
    deadline = asyncio.get_running_loop().time() + _APPEAR_SECONDS
    while True:
        partitions = await asked.partitions(wanted)
        absent = [name for name in wanted if name not in partitions]
        if not absent:
            return partitions
        if asyncio.get_running_loop().time() > deadline:
            raise KafkaUnavailable(
                f"topics were made, but do not appear: {', '.join(absent)}", "see the brokers' logs"
            )
        await asyncio.sleep(_LOOK_AGAIN_SECONDS)
