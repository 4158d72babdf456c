"""Why Kafka cannot be reached, in one line with its remedy.

aiokafka says only "Unable to bootstrap", whatever the cause; a preflight goes the same way step by step and names it.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Collection, Iterable
from contextlib import asynccontextmanager
from typing import Any, Final

import aiokafka.errors as kafka_errors
from aiokafka.conn import AIOKafkaConnection, collect_hosts
from aiokafka.protocol.metadata import MetadataRequest

from streamer.config.security import Security
from streamer.flow.failure import one_line
from streamer.sink.connection import Connection
from streamer.sink.errors import KafkaUnavailable
from streamer.sink.tokens import TokenUnavailable

_PREFLIGHT_SECONDS: Final = 5.0
HOW_TO_GRANT: Final = "`falco-streamer topics acls` prints all that is needed"


def address(host: str, port: int) -> str:
    """A broker's address as it stands in the configuration."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def preflight(connection: Connection) -> None:
    """Raise KafkaUnavailable, with the cause, unless a bootstrap server and every broker it names can be reached."""
    arguments = connection.arguments("preflight") | {"request_timeout_ms": int(_PREFLIGHT_SECONDS * 1000)}
    servers = collect_hosts(arguments.pop("bootstrap_servers"), randomize=False)
    # All at once: what is dropped by a firewall costs the whole time limit.
    asked = [asyncio.ensure_future(_brokers(host, port, arguments)) for host, port, _ in servers]
    failures = []
    try:
        for (host, port, _), asking in zip(servers, asked, strict=True):
            try:
                brokers = await asking
            except _REFUSALS as error:
                cause, fix = explain(error, connection.kafka.security)
                failures.append(KafkaUnavailable(f"cannot reach {address(host, port)}: {cause}", fix))
                continue
            await _reach_advertised(address(host, port), brokers, arguments, connection.kafka.security)
            return
    finally:
        for asking in asked:
            asking.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
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
    return KafkaUnavailable(
        f"the brokers can be reached, but Kafka did not serve: {what}",
        "`falco-streamer doctor` looks at coordinators, replicas and permissions",
    )


async def why_not_opened(
    connection: Connection, transactional_id: str | None, error: BaseException
) -> KafkaUnavailable:
    """Why a shard's producer could not be opened: what Kafka said, where that is the cause, else a diagnosis."""
    match error:
        case kafka_errors.TransactionalIdAuthorizationFailed():
            return KafkaUnavailable(
                f"we may not use the transactional id {transactional_id}",
                f"grant WRITE on it: {HOW_TO_GRANT}",
            )
        case kafka_errors.TopicAuthorizationFailedError():
            return topics_refused([error], "READ and WRITE")
        case kafka_errors.InvalidTransactionTimeout():
            return KafkaUnavailable(
                "the brokers allow no transaction of 15 s", "raise transaction.max.timeout.ms"
            )
        case _:
            return await diagnose(connection, error)


def not_there(client: Any, topics: Collection[str], operation: str) -> KafkaUnavailable:
    """Why a client cannot find topics: they do not exist, or it may not know of them."""
    hidden = client.cluster.unauthorized_topics.intersection(topics)
    if hidden:
        return topics_refused([kafka_errors.TopicAuthorizationFailedError(hidden)], operation)
    return KafkaUnavailable(
        f"topic {', '.join(sorted(topics))} does not exist", "create it, or set topics.create: true"
    )


def topics_refused(errors: Iterable[BaseException], operation: str) -> KafkaUnavailable:
    """What to say of topics that we may not use, whose names aiokafka puts into its errors."""
    named = set[str]()
    for error in errors:
        for found in error.args:
            named.update([found] if isinstance(found, str) else map(str, found))
    return KafkaUnavailable(
        f"we may not use the topic {', '.join(sorted(named)) or '(unnamed)'}",
        f"grant {operation} on it: {HOW_TO_GRANT}",
    )


def explain(error: BaseException, security: Security) -> tuple[str, str]:
    """Say in words what a failed connection means: its cause, and what to do."""
    match error:
        case socket.gaierror():
            found = "the name is not known", "check kafka.bootstrap_servers and the DNS"
        case ConnectionRefusedError():
            found = "connection refused", "is Kafka running, and is this the port of its listener?"
        case TokenUnavailable():
            found = error.cause, error.fix
        case ssl.SSLCertVerificationError():
            found = _distrusted(error)
        case ssl.SSLError() if "WRONG_VERSION" in str(error) or "RECORD_LAYER" in str(error):
            plain = security.protocol.replace("ssl", "plaintext")
            found = (
                "it does not speak TLS",
                f"set kafka.security.protocol to {plain}, or use the port for TLS",
            )
        case ssl.SSLError():
            found = _refused_by_tls(error, security)
        case TimeoutError():
            found = (
                "no answer",
                "check network policies and firewalls, and that kafka.security.protocol fits the port",
            )
        case kafka_errors.SaslAuthenticationFailed():
            found = (
                f"authentication failed: {one_line(error)}",
                _CREDENTIALS.get(
                    security.sasl.mechanism, "check the user and password in kafka.security.sasl"
                ),
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


_CREDENTIALS: Final = {
    "OAUTHBEARER": "check that the brokers trust the token's issuer and expect its audience, and the clocks",
}
_EXPIRED: Final = 10  # OpenSSL's X509_V_ERR_...
_NOT_YET_VALID: Final = 9
_MISMATCHES: Final = (62, 64)


def _distrusted(error: ssl.SSLCertVerificationError) -> tuple[str, str]:
    """Why we do not trust the broker's certificate."""
    if error.verify_code in {_EXPIRED, _NOT_YET_VALID}:
        when = "has expired" if error.verify_code == _EXPIRED else "is not yet valid"
        return f"its certificate {when}", "renew the brokers' certificates, and check the clock here"
    if error.verify_code in _MISMATCHES:
        return (
            f"its certificate is for another name: {error.verify_message}",
            "use a name that the certificate has, in kafka.bootstrap_servers and the brokers' advertised.listeners",
        )
    return (
        f"its certificate is not trusted: {error.verify_message}",
        "set kafka.security.ca_file to the CA of the brokers",
    )


def _refused_by_tls(error: ssl.SSLError, security: Security) -> tuple[str, str]:
    """Why the broker does not trust us, as far as its alert says so."""
    alert = (error.reason or str(error)).upper().replace(" ", "_")
    if security.cert_file is None:
        return (
            f"TLS failed: {one_line(error)}",
            "it may ask for a client certificate: kafka.security.cert_file",
        )
    if "EXPIRED" in alert:
        return "it finds our certificate expired", f"renew {security.cert_file} and its key"
    if "UNKNOWN_CA" in alert or "CERTIFICATE" in alert:
        return (
            f"it does not accept our certificate: {one_line(error)}",
            f"{security.cert_file} must be valid and signed by a CA that the brokers trust",
        )
    return f"TLS failed: {one_line(error)}", f"check {security.cert_file} and the brokers' TLS settings"


_REFUSALS: Final = (OSError, kafka_errors.KafkaError, TimeoutError, AssertionError, EOFError)


async def _brokers(host: str, port: int, arguments: dict[str, Any]) -> list[tuple[int, str, int]]:
    """Connect, authenticate and ask who the brokers are."""
    async with asyncio.timeout(_PREFLIGHT_SECONDS):
        try:
            async with _connected(host, port, arguments) as conn:
                answer = await conn.send(MetadataRequest([]))
        except kafka_errors.KafkaConnectionError as error:
            # By TLS 1.3 we are refused only after we thought that we were in.
            raise error.__cause__ if isinstance(error.__cause__, ssl.SSLError) else error from None
    return [(broker[0], broker[1], broker[2]) for broker in answer.brokers]


@asynccontextmanager
async def _connected(host: str, port: int, arguments: dict[str, Any]) -> AsyncIterator[Any]:
    """A connection that leaves nothing open; by itself, TLS waits for a goodbye that need not come."""
    conn = AIOKafkaConnection(host, port, **arguments)
    try:
        await conn.connect()
        yield conn
    finally:
        conn.close()
        if conn._protocol is not None and (transport := conn._protocol._transport) is not None:  # noqa: SLF001
            transport.abort()


async def _reach_advertised(
    bootstrap: str, brokers: list[tuple[int, str, int]], arguments: dict[str, Any], security: Security
) -> None:
    async def reach(node: int, host: str, port: int) -> KafkaUnavailable | None:
        try:
            async with asyncio.timeout(_PREFLIGHT_SECONDS), _connected(host, port, arguments):
                return None
        except _REFUSALS as error:
            cause, _ = explain(error, security)
            return KafkaUnavailable(
                f"{bootstrap} answers, but broker {node} cannot be reached where it says it is, "
                f"{address(host, port)}: {cause}",
                "the brokers' advertised.listeners must be reachable from here",
            )

    for failure in await asyncio.gather(*(reach(*broker) for broker in brokers)):
        if failure is not None:
            raise failure
