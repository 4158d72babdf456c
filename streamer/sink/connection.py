"""How every client reaches Kafka, and why it cannot when it cannot.

aiokafka says only "Unable to bootstrap" whatever the cause; `preflight` goes the same way step by step and names it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from dataclasses import dataclass
from typing import Any, Final

import aiokafka.errors as kafka_errors
from aiokafka.conn import collect_hosts, create_conn
from aiokafka.protocol.metadata import MetadataRequest

from streamer.config.kafka import Kafka
from streamer.config.secret import SecretError
from streamer.config.security import Security
from streamer.sink.errors import KafkaUnavailable

REQUEST_TIMEOUT_MS: Final = 10_000
"""Below the time for a whole operation (12 s), which is below the transaction's (15 s)."""

_PREFLIGHT_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Connection:
    """What all clients of one process have in common: the settings, as aiokafka wants them."""

    kafka: Kafka
    check_crcs: bool = True
    """Off for the mock broker only, whose control batches have none."""

    @property
    def transactional(self) -> bool:
        """Whether alerts and state are written in transactions."""
        return self.kafka.delivery == "exactly_once"

    @property
    def compression(self) -> str | None:
        """The codec of batches, None for none."""
        return None if self.kafka.compression == "none" else self.kafka.compression

    def arguments(self, role: str) -> dict[str, Any]:
        """The arguments that every aiokafka client takes; `role` ends its client id in the broker's logs.

        Certificates and passwords are read again each time, so that renewed ones take effect with the next
        client. KafkaUnavailable where one cannot be used.
        """
        protocol = self.kafka.security.protocol.upper()
        arguments: dict[str, Any] = {
            "bootstrap_servers": list(self.kafka.bootstrap_servers),
            "client_id": f"{self.kafka.client_id}-{role}",
            "request_timeout_ms": REQUEST_TIMEOUT_MS,
            "security_protocol": protocol,
        }
        if protocol.endswith("SSL"):
            arguments["ssl_context"] = _ssl_context(self.kafka.security)
        if protocol.startswith("SASL"):
            sasl = self.kafka.security.sasl
            try:
                password = sasl.secret.read()
            except SecretError as error:
                raise KafkaUnavailable(str(error), "mount the secret there or name another file") from error
            arguments |= {
                "sasl_mechanism": sasl.mechanism,
                "sasl_plain_username": sasl.username,
                "sasl_plain_password": password,
            }
        return arguments


def _ssl_context(security: Security) -> ssl.SSLContext:
    files = (security.ca_file, security.cert_file, security.key_file)
    try:
        context = ssl.create_default_context(cafile=security.ca_file)
        if security.cert_file:
            context.load_cert_chain(security.cert_file, security.key_file)
    except OSError as error:  # ssl.SSLError is one
        named = ", ".join(str(file) for file in files if file)
        cause = f"the TLS files of kafka.security cannot be used ({named}): {_text(error)}"
        raise KafkaUnavailable(
            cause, "each must be a readable PEM file, the key without a passphrase"
        ) from error
    return context


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
    what = "no answer in time" if isinstance(otherwise, TimeoutError) else _text(otherwise)
    return KafkaUnavailable(f"the brokers can be reached, but Kafka did not serve: {what}")


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
                f"TLS failed: {_text(error)}",
                "it may ask for a client certificate: kafka.security.cert_file",
            )
        case TimeoutError():
            found = (
                "no answer",
                "check network policies and firewalls, and that kafka.security.protocol fits the port",
            )
        case kafka_errors.SaslAuthenticationFailed():
            found = (
                f"authentication failed: {_text(error)}",
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
            found = _text(error), ""
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


def _text(error: BaseException) -> str:
    """An exception in one line, its class where it says nothing itself."""
    return " ".join(str(error).split()) or type(error).__name__
