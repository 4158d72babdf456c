"""The Kafka half of `doctor`: can the brokers be reached, are we let in, are the topics fit, and may we use them."""

from __future__ import annotations

from collections.abc import AsyncIterator

from streamer.config import Settings
from streamer.model import Finding, Verdict
from streamer.sink.access import missing_permissions
from streamer.sink.admin import admin
from streamer.sink.clock import examine_clock
from streamer.sink.connection import Connection
from streamer.sink.coordinators import check_coordinators
from streamer.sink.diagnosis import preflight
from streamer.sink.errors import KafkaUnavailable
from streamer.sink.permissions import acl_commands
from streamer.sink.topics import coordinator_keys, examine_topics
from streamer.sink.transaction_limit import examine_transaction_limit


async def examine_kafka(settings: Settings) -> AsyncIterator[Finding]:
    """Look at everything that the worker needs of Kafka; nothing is written. Never raises for what it finds."""
    connection = Connection(settings.kafka)
    try:
        await preflight(connection)
    except KafkaUnavailable as error:
        yield Finding("kafka", Verdict.UNAVAILABLE, error.cause, error.fix)
        return
    servers, protocol = ", ".join(settings.kafka.bootstrap_servers), settings.kafka.security.protocol
    yield Finding(
        "kafka",
        Verdict.FINE,
        f"Kafka answers at {servers} and lets us in ({protocol})",
    )
    try:
        missing = await missing_permissions(connection, settings)
        for permission in missing:
            (command,) = acl_commands([permission], principal_of(settings), settings.kafka.bootstrap_servers)
            yield Finding("kafka.acl", Verdict.FAULT, f"not allowed: {permission}", command)
        if not missing:
            yield Finding("kafka.acl", Verdict.FINE, "Kafka allows us all that we need")
        if (fault := await _examine_coordinators(connection, settings)) is not None:
            yield fault
        hidden = {permission.name for permission in missing}
        fit = True
        async for finding in examine_topics(connection, settings, hidden):
            fit = False  # also where they are missing, and to be created
            yield finding
        if fit:
            yield Finding(
                "kafka.topics", Verdict.FINE, f"all {len(settings.topic_specs)} topics are there and fit"
            )
        if not missing and (clock := await examine_clock(connection, settings)) is not None:
            yield clock
    except KafkaUnavailable as error:
        yield Finding("kafka", Verdict.UNAVAILABLE, error.cause, error.fix)


async def _examine_coordinators(connection: Connection, settings: Settings) -> Finding | None:
    async with admin(connection) as asked:
        try:
            await check_coordinators(asked, coordinator_keys(connection, settings.cluster))
        except KafkaUnavailable as error:
            return Finding("kafka.coordinator", Verdict.FAULT, error.cause, error.fix)
        return await examine_transaction_limit(asked) if connection.transactional else None


def principal_of(settings: Settings) -> str:
    """Who we are to Kafka's authorizer, as far as the settings tell."""
    sasl = settings.kafka.security.sasl
    name = sasl.username or sasl.oauth.client_id
    return f"User:{name or '<principal>'}"
