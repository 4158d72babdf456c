"""Whether Kafka can serve transactions and consumer groups.

Each needs an internal topic, which Kafka creates when a coordinator is first asked for. Where it cannot (its
replication factor is above the number of brokers), or cannot write to it (fewer replicas in sync than
`min.insync.replicas`), clients are only ever asked to try again: aiokafka does, for ever and without a word.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final, NamedTuple

import aiokafka.errors as kafka_errors
from aiokafka.protocol.coordination import FindCoordinatorRequest

from streamer.sink.admin import Admin, Replicas, TopicConfig
from streamer.sink.errors import KafkaUnavailable

TRY_AGAIN: Final = frozenset({14, 15, 16})
"""It loads, it is not available, it has moved: error codes that ask a client to try again."""

_AGAIN_SECONDS: Final = 0.2
_WITHIN_SECONDS: Final = 5.0
"""How long Kafka may take to create an internal topic and to elect its leaders; it takes one second or two."""


class Coordinator(NamedTuple):
    """One kind of coordinator."""

    name: str
    type: int
    """In requests (KIP-98)."""
    topic: str
    settings: str
    """How the names of the brokers' settings for that topic begin."""


GROUP: Final = Coordinator("group", 0, "__consumer_offsets", "offsets.topic")
TRANSACTION: Final = Coordinator("transaction", 1, "__transaction_state", "transaction.state.log")


async def check_coordinators(asked: Admin, keys: Mapping[Coordinator, str]) -> None:
    """Look for the coordinator of each of the keys: a group's name, a transactional id.

    Raises KafkaUnavailable, with the setting of the brokers that is in the way. What else the coordinators have
    against a key, such as missing rights, is for its user to find.
    """
    for coordinator, key in keys.items():
        if not await _is_there(asked, coordinator, key):
            raise await _why_none(asked, coordinator)
        if (fault := await _why_unwritable(asked, coordinator)) is not None:
            raise fault


async def _is_there(asked: Admin, coordinator: Coordinator, key: str) -> bool:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _WITHIN_SECONDS
    while True:
        found = await asked.send(FindCoordinatorRequest(key, coordinator.type))
        if found.error_code not in TRY_AGAIN:
            return True
        if loop.time() > deadline:
            return False
        await asyncio.sleep(_AGAIN_SECONDS)


async def _why_none(asked: Admin, coordinator: Coordinator) -> KafkaUnavailable:
    brokers, replicas = await asked.replicas([coordinator.topic])
    known = replicas.get(coordinator.topic)
    cause = f"no {coordinator.name} coordinator"
    if known is not None and known.leaderless:
        partitions = f"{known.leaderless} of {known.partitions} partitions"
        return KafkaUnavailable(
            f"{cause}: {partitions} of Kafka's topic {coordinator.topic} have no leader",
            "start the brokers that hold its replicas",
        )
    if known is not None:
        return KafkaUnavailable(f"{cause}: it does not get ready", "see the brokers' logs")
    factor = f"{coordinator.settings}.replication.factor"
    return KafkaUnavailable(
        f"{cause}: Kafka has not created its topic {coordinator.topic}; "
        f"{factor} is above the number of brokers ({brokers})",
        f"set {factor} to {brokers} on the brokers, or start more of them",
    )


async def _why_unwritable(asked: Admin, coordinator: Coordinator) -> KafkaUnavailable | None:
    _, replicas = await asked.replicas([coordinator.topic])
    if (known := replicas.get(coordinator.topic)) is None:
        return None  # we may not see it
    try:
        configs = await asked.configs([coordinator.topic])
    except kafka_errors.IncompatibleBrokerVersion:
        return None
    if (shortfall := too_few(known, configs.get(coordinator.topic, {}))) is None:
        return None
    return KafkaUnavailable(
        f"the {coordinator.name} coordinator cannot write: Kafka's topic {coordinator.topic} {shortfall}",
        lower_it(coordinator.topic, known, f"{coordinator.settings}.min.isr" if coordinator.type else ""),
    )


def too_few(known: Replicas, config: TopicConfig) -> str | None:
    """How a topic falls short of its `min.insync.replicas`; None if it does not."""
    needed = config.get("min.insync.replicas", "1")
    if known.in_sync >= int(needed):
        return None
    return f"has {known.in_sync} of {known.replicas} replicas in sync, but min.insync.replicas is {needed}"


def lower_it(topic: str, known: Replicas, setting: str = "") -> str:
    """The way out where too few replicas are in sync."""
    if known.replicas > known.in_sync:
        return "start the brokers that hold the other replicas"
    alter = f"kafka-configs.sh --alter --entity-type topics --entity-name {topic} --add-config "
    also = f" (and {setting} on the brokers, for the next cluster)" if setting else ""
    return f"`{alter}min.insync.replicas={known.replicas}`{also}, or add replicas"
