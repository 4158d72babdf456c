"""Why Kafka cannot be reached, in one line with its remedy.

aiokafka says only "Unable to bootstrap", whatever the cause; a preflight goes the same way step by step and names it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from typing import Any, Final

import aiokafka.errors as kafka_errors
from aiokafka.conn import collect_hosts, create_conn
from aiokafka.protocol.metadata import MetadataRequest

from streamer.config.security import Security
from streamer.sink.connection import Connection
from streamer.sink.errors import KafkaUnavailable, one_line

_PREFLIGHT_SECONDS: Final = 5.0


async def preflight(connection: Connection) -> None:
    """Raise KafkaUnavailable, with the cause, unless a bootstrap server and every broker it names can be reached."""
    arguments = connection.arguments("preflight") | {"request_timeout_ms": int(_PREFLIGHT_SECONDS * 1000)}
    failures = []
    for host, port, _ in collect_hosts(arguments.pop("bootstrap_servers"), randomize=False):
        try:
            brokers = await _brokers(host, port, arguments)
        except _REFUSALS as error:
            cause, fix = explain(error, connection.kafka.security)
            failures.append(KafkaUnavailable(f"cannot reach {host}:{port}: {cause}", fix))
            continue
        await _reach_advertised(f"{host}:{port}", brokers, arguments, connection.kafka.security)
        return
    if failures:
        *others, last = failures
        raise KafkaUnavailable("; ".join([*(other.cause for other in others), last.cause]), last.fix)


async def diagnose(connection: Connection, otherwise: BaseException) -> KafkaUnavailable:
    """Why a client has just failed: what a preflight finds, else what the client itself said."""
    try:
        await preflight(connection)
    except KafkaUnavailable as found:
        return found
    what = "no answer in time" if isinstance(otherwise, TimeoutError) else one_line(otherwise)
    return KafkaUnavailable(f"the brokers can be reached, but Kafka did not serve: {what}")


async def why_not_opened(
    connection: Connection, transactional_id: str | None, error: BaseException
) -> KafkaUnavailable:
    """Why a shard's producer could not be opened: what Kafka said, where that is the cause, else a diagnosis."""
    match error:
        case kafka_errors.TransactionalIdAuthorizationFailed():
            return KafkaUnavailable(
                f"we may not use the transactional id {transactional_id}",
                "grant WRITE and DESCRIBE on transactional ids with the prefix falco-streamer.",
            )
        case kafka_errors.TopicAuthorizationFailedError():
            return KafkaUnavailable(
                f"we may not use a topic: {one_line(error)}",
                "grant READ, WRITE and DESCRIBE on the state topic, WRITE and DESCRIBE on the others",
            )
        case kafka_errors.InvalidTransactionTimeout():
            return KafkaUnavailable(
                "the brokers allow no transaction of 15 s", "raise transaction.max.timeout.ms"
            )
        case _:
            return await diagnose(connection, error)


def explain(error: BaseException, security: Security) -> tuple[str, str]:
    """Say in words what a failed connection means: its cause, and what to do."""
    match error:
        case socket.gaierror():
            found = "the name is not known", "check kafka.bootstrap_servers and the DNS"
        case ConnectionRefusedError():
            found = "connection refused", "is Kafka running, and is this the port of its listener?"
        case ssl.SSLCertVerificationError():
            found = (
                f"its certificate is not trusted: {error.verify_message}",
                "set kafka.security.ca_file to the CA of the brokers, and use a name that their certificate has",
            )
        case ssl.SSLError() if "WRONG_VERSION" in str(error) or "RECORD_LAYER" in str(error):
            plain = security.protocol.replace("ssl", "plaintext")
            found = (
                "it does not speak TLS",
                f"set kafka.security.protocol to {plain}, or use the port for TLS",
            )
        case ssl.SSLError():
            found = (
                f"TLS failed: {one_line(error)}",
                "it may ask for a client certificate: kafka.security.cert_file",
            )
        case TimeoutError():
            found = (
                "no answer",
                "check network policies and firewalls, and that kafka.security.protocol fits the port",
            )
        case kafka_errors.SaslAuthenticationFailed():
            found = (
                f"authentication failed: {one_line(error)}",
                "check the user and password in kafka.security.sasl",
            )
        case kafka_errors.IllegalSaslStateError():
            without = security.protocol.replace("sasl_ssl", "ssl").replace("sasl_", "")
            found = (
                "its listener takes no passwords",
                f"set kafka.security.protocol to {without}, or use another port",
            )
        case kafka_errors.UnsupportedSaslMechanismError():
            found = (
                f"it does not offer the SASL mechanism {security.sasl.mechanism}",
                "set kafka.security.sasl.mechanism to one that its listener has",
            )
        case ConnectionError() | kafka_errors.KafkaConnectionError():
            found = (
                f"it closed the connection, which was opened as {security.protocol}",
                "its listener may want another protocol, a certificate or other credentials: check kafka.security",
            )
        case _:
            found = one_line(error), ""
    return found


_REFUSALS: Final = (OSError, kafka_errors.KafkaError, TimeoutError, AssertionError, EOFError)


async def _brokers(host: str, port: int, arguments: dict[str, Any]) -> list[tuple[int, str, int]]:
    """Connect, authenticate and ask who the brokers are."""
    async with asyncio.timeout(_PREFLIGHT_SECONDS):
        conn = await create_conn(host, port, **arguments)
        try:
            answer = await conn.send(MetadataRequest([]))
        except kafka_errors.KafkaConnectionError as error:
            raise error.__cause__ if isinstance(error.__cause__, ssl.SSLError) else error from None
        finally:
            with contextlib.suppress(TimeoutError):
                await conn.close()
    return [(broker[0], broker[1], broker[2]) for broker in answer.brokers]


async def _reach_advertised(
    bootstrap: str, brokers: list[tuple[int, str, int]], arguments: dict[str, Any], security: Security
) -> None:
    for node, host, port in brokers:
        try:
            async with asyncio.timeout(_PREFLIGHT_SECONDS):
                await (await create_conn(host, port, **arguments)).close()
        except _REFUSALS as error:
            cause, _ = explain(error, security)
            raise KafkaUnavailable(
                f"{bootstrap} answers, but broker {node} cannot be reached where it says it is, {host}:{port}: {cause}",
                "the brokers' advertised.listeners must be reachable from here",
            ) from error
