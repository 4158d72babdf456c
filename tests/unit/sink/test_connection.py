"""Why Kafka cannot be reached is said in one line, with what to do about it."""

import asyncio
import datetime as dt
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from streamer.config.kafka import Kafka
from streamer.sink import Connection, KafkaUnavailable, preflight
from streamer.sink.diagnosis import diagnose
from streamer.sink.mock_broker import MockBroker
from tests.unit.sink.samples import connection


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for `localhost` that signs itself, with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("tls") / "both.pem"
    pem, pkcs8, plain = (
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    file.write_bytes(signed.public_bytes(pem) + key.private_bytes(pem, pkcs8, plain))
    return file


@pytest.fixture
async def tls_port(certificate: Path) -> AsyncIterator[int]:
    """A listener that speaks TLS and hangs up after a few words, as one does that wants something else."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.close()

    server = await asyncio.start_server(hang_up, "localhost", 0, ssl=context)
    yield server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()


def secured(server: str, protocol: str, **security: Any) -> Connection:
    return Connection(
        Kafka.model_validate({"bootstrap_servers": [server], "security": {"protocol": protocol, **security}})
    )


async def why_not(where: Connection) -> str:
    with pytest.raises(KafkaUnavailable) as found:
        await preflight(where)
    assert "\n" not in str(found.value)
    return str(found.value)


async def test_what_answers_is_fit(where: Connection) -> None:
    await preflight(where)


async def test_a_broker_may_have_an_address_of_ipv6(broker: MockBroker) -> None:
    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, _, port = broker.bootstrap.rpartition(":")
        theirs, to_them = await asyncio.open_connection(host, int(port))
        await asyncio.gather(_copy(reader, to_them), _copy(theirs, writer))

    try:
        listener = await asyncio.start_server(relay, "::1", 0)
    except OSError:
        pytest.skip("there is no IPv6 here")
    async with listener:
        port = listener.sockets[0].getsockname()[1]
        await preflight(connection(f"[::1]:{port}"))
    with pytest.raises(KafkaUnavailable, match=rf"cannot reach \[::1\]:{port}: connection refused"):
        await preflight(connection(f"[::1]:{port}"))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(65_536):
        writer.write(chunk)
    writer.close()


async def test_every_server_is_tried_and_named(broker: MockBroker) -> None:
    dead = Kafka(bootstrap_servers=("127.0.0.1:1", "127.0.0.1:2"))
    told = await why_not(Connection(dead))
    assert told.startswith(
        "cannot reach 127.0.0.1:1: connection refused; cannot reach 127.0.0.1:2: connection refused"
    )
    await preflight(Connection(Kafka(bootstrap_servers=("127.0.0.1:1", broker.bootstrap))))


async def test_a_name_that_is_not_known() -> None:
    assert "no-such-host.invalid:9092: the name is not known; check kafka.bootstrap_servers" in await why_not(
        connection("no-such-host.invalid:9092")
    )


async def test_tls_where_none_is_spoken(broker: MockBroker) -> None:
    told = await why_not(secured(broker.bootstrap, "ssl"))
    assert "it closed the connection, which was opened as ssl; its listener may want another protocol" in told


async def test_no_tls_where_it_is_spoken(tls_port: int) -> None:
    told = await why_not(connection(f"localhost:{tls_port}"))
    assert (
        "it closed the connection, which was opened as plaintext; its listener may want another protocol"
        in told
    )


async def test_a_certificate_that_nobody_vouches_for(tls_port: int) -> None:
    told = await why_not(secured(f"localhost:{tls_port}", "ssl"))
    assert "its certificate is not trusted: self-signed certificate; set kafka.security.ca_file" in told


async def test_a_certificate_for_another_name(tls_port: int, certificate: Path) -> None:
    told = await why_not(secured(f"127.0.0.1:{tls_port}", "ssl", ca_file=certificate))
    assert "its certificate is for another name: IP address mismatch" in told


async def test_credentials_where_none_are_understood(tls_port: int, certificate: Path) -> None:
    sasl = {"username": "me", "password": "secret"}
    told = await why_not(secured(f"localhost:{tls_port}", "sasl_ssl", ca_file=certificate, sasl=sasl))
    assert "it closed the connection, which was opened as sasl_ssl" in told
    assert "secret" not in told


async def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    missing = tmp_path / "ca.pem"
    told = await why_not(secured("localhost:9093", "ssl", ca_file=missing))
    assert str(missing) in told
    sasl = {"username": "me", "password_file": missing}
    assert "password_file" in await why_not(secured("localhost:9093", "sasl_plaintext", sasl=sasl))


async def test_a_renewed_password_takes_effect_with_the_next_client(tmp_path: Path) -> None:
    file = tmp_path / "password"
    where = secured("kafka:9092", "sasl_plaintext", sasl={"username": "me", "password_file": file})
    for password in ("old", "new"):
        file.write_text(password + "\n")
        assert where.arguments("x")["sasl_plain_password"] == password


async def test_a_broker_that_is_not_where_it_says_it_is(broker: MockBroker) -> None:
    broker.advertise("localhost", 1)
    told = await why_not(connection(broker.bootstrap))
    assert (
        "answers, but broker 1 cannot be reached where it says it is, localhost:1: connection refused" in told
    )
    assert "advertised.listeners" in told


async def test_where_all_is_well_the_clients_own_words_remain(where: Connection) -> None:
    found = await diagnose(where, TimeoutError())
    assert found.cause == "the brokers can be reached, but Kafka did not serve: no answer in time"
    assert "falco-streamer doctor" in found.fix
