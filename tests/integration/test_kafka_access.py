"""A real Kafka that lets nobody in whom it does not know: each way in, and each refusal in one line."""

from __future__ import annotations

import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from streamer.config import Settings
from streamer.config.kafka import Kafka as KafkaSettings
from streamer.flow.publishing import PublishError
from streamer.sink import Connection, KafkaUnavailable, preflight
from streamer.sink.access import missing_permissions
from streamer.sink.permissions import Permission, worker_permissions
from tests.testbed.certs import KeyPair
from tests.testbed.fixtures import CLIENT_SECRET
from tests.testbed.identity_provider import IdentityProvider
from tests.testbed.secure_kafka import PASSWORD, USER, SecureKafka, acl
from tests.testbed.topics import create_topic
from tests.unit.sink.samples import publication, read, record, shard

pytestmark = pytest.mark.real

LOGIN = {"username": USER, "password": PASSWORD}


def secured(secure_kafka: SecureKafka, listener: str, protocol: str, **security: Any) -> Connection:
    if protocol.endswith("ssl"):
        security = {"ca_file": secure_kafka.trusted, **security}
    given = {"bootstrap_servers": [secure_kafka.at(listener)], "security": {"protocol": protocol, **security}}
    return Connection(KafkaSettings.model_validate(given))


def with_password(secure_kafka: SecureKafka, mechanism: str = "SCRAM-SHA-512", **login: str) -> Connection:
    return secured(secure_kafka, "SASL", "sasl_ssl", sasl={"mechanism": mechanism, **LOGIN, **login})


def with_tokens(secure_kafka: SecureKafka, identity_provider: IdentityProvider, **oauth: Any) -> Connection:
    asked = {
        "token_endpoint": identity_provider.token_endpoint,
        "client_id": USER,
        "client_secret": CLIENT_SECRET,
    }
    return secured(
        secure_kafka, "SASL", "sasl_ssl", sasl={"mechanism": "OAUTHBEARER", "oauth": {**asked, **oauth}}
    )


def with_certificate(secure_kafka: SecureKafka, pair: KeyPair, **security: Any) -> Connection:
    return secured(secure_kafka, "MUTUAL", "ssl", cert_file=pair.public, key_file=pair.key, **security)


async def why_not(where: Connection) -> str:
    with pytest.raises(KafkaUnavailable) as found:
        await preflight(where)
    told = str(found.value)
    assert "\n" not in told
    for secret in (PASSWORD, CLIENT_SECRET, "wrong!"):
        assert secret not in told
    return told


async def publishes(secure_kafka: SecureKafka, where: Connection) -> None:
    """A whole transaction, with the permissions that the worker has."""
    topic, state = await create_topic(secure_kafka.bootstrap), await create_topic(secure_kafka.bootstrap)
    secure_kafka.allow(
        [
            acl("topic", topic, "WRITE"),
            acl("topic", state, "WRITE"),
            acl("topic", state, "READ"),
            acl("transactional_id", f"falco-streamer.{state}-", "WRITE", prefixed=True),
        ]
    )
    producer = shard(where, state, topic)
    assert await producer.open() == []
    await producer.publish(publication([record(topic, "one")], {"position": b"1"}))
    assert await producer.open() == [("position", b"1")]
    await producer.close()
    found = await read(Connection(KafkaSettings(bootstrap_servers=(secure_kafka.bootstrap,))), topic)
    assert [message.header("ce_id") for message in found] == [b"one"]


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
async def test_a_password_lets_in(secure_kafka: SecureKafka, mechanism: str) -> None:
    await publishes(secure_kafka, with_password(secure_kafka, mechanism))


async def test_a_password_without_tls_lets_in(secure_kafka: SecureKafka) -> None:
    await publishes(secure_kafka, secured(secure_kafka, "PLAINSASL", "sasl_plaintext", sasl=LOGIN))


async def test_tokens_of_an_endpoint_let_in(
    secure_kafka: SecureKafka, identity_provider: IdentityProvider, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text(f"{CLIENT_SECRET}\n")
    before = identity_provider.issued
    where = with_tokens(
        secure_kafka, identity_provider, client_secret=None, client_secret_file=secret, scope="kafka"
    )
    await publishes(secure_kafka, where)
    assert identity_provider.issued == before + 1, "all connections share a token for as long as it lives"


class OwnProvider:
    """A token from somewhere else; the settings name this class."""

    source: IdentityProvider

    async def token(self) -> str:
        return self.source.token(USER)


class BlockingProvider(OwnProvider):
    def token(self) -> str:  # type: ignore[override]
        return self.source.token(USER)

    def extensions(self) -> dict[str, str]:
        return {"tenant": "security"}


@pytest.mark.parametrize("kind", [OwnProvider, BlockingProvider])
async def test_tokens_of_ones_own_class_let_in(
    secure_kafka: SecureKafka,
    identity_provider: IdentityProvider,
    kind: type[OwnProvider],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(OwnProvider, "source", identity_provider, raising=False)
    sasl = {"mechanism": "OAUTHBEARER", "oauth": {"provider": f"{kind.__module__}:{kind.__name__}"}}
    await publishes(secure_kafka, secured(secure_kafka, "SASL", "sasl_ssl", sasl=sasl))


async def test_a_client_certificate_lets_in(secure_kafka: SecureKafka, tmp_path: Path) -> None:
    pair = secure_kafka.authority.client(USER)
    await publishes(secure_kafka, with_certificate(secure_kafka, pair))
    passphrase = tmp_path / "passphrase"
    passphrase.write_text("open sesame\n")
    locked = pair.with_passphrase("open sesame")
    await publishes(secure_kafka, with_certificate(secure_kafka, locked, key_password_file=passphrase))


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
async def test_a_wrong_password(secure_kafka: SecureKafka, mechanism: str) -> None:
    told = await why_not(with_password(secure_kafka, mechanism, password="wrong!"))
    assert f"cannot reach {secure_kafka.at('SASL')}: authentication failed: " in told
    assert told.endswith("; check the user and password in kafka.security.sasl")


async def test_a_user_that_nobody_knows(secure_kafka: SecureKafka) -> None:
    assert "authentication failed" in await why_not(with_password(secure_kafka, username="nobody"))


async def test_a_wrong_client_secret(secure_kafka: SecureKafka, identity_provider: IdentityProvider) -> None:
    told = await why_not(with_tokens(secure_kafka, identity_provider, client_secret="wrong!"))
    assert (
        f"the token endpoint {identity_provider.token_endpoint} answered 401, invalid_client: the client or"
        in told
    )
    assert told.endswith("; check client_id, client_secret_file and scope in kafka.security.sasl.oauth")


async def test_a_token_endpoint_that_is_away(
    secure_kafka: SecureKafka, identity_provider: IdentityProvider
) -> None:
    told = await why_not(
        with_tokens(secure_kafka, identity_provider, token_endpoint="http://127.0.0.1:1/token")
    )
    assert "the token endpoint http://127.0.0.1:1/token cannot be reached: " in told
    assert told.endswith("; check the address, the network and oauth.ca_file")


async def test_a_token_that_the_broker_refuses(
    secure_kafka: SecureKafka, identity_provider: IdentityProvider
) -> None:
    with IdentityProvider({USER: CLIENT_SECRET}) as stranger:
        told = await why_not(
            with_tokens(secure_kafka, identity_provider, token_endpoint=stranger.token_endpoint)
        )
    assert "authentication failed: " in told
    assert "check that the brokers trust the token's issuer and expect its audience" in told


async def test_an_own_class_that_fails(secure_kafka: SecureKafka) -> None:
    for path, cause in {
        "no.such.module:Provider": "cannot be used: ModuleNotFoundError: No module named 'no'",
        f"{__name__}:OwnProvider": "failed: AttributeError: ",  # it has no source here
    }.items():
        sasl = {"mechanism": "OAUTHBEARER", "oauth": {"provider": path}}
        assert cause in await why_not(secured(secure_kafka, "SASL", "sasl_ssl", sasl=sasl))


async def test_an_authority_that_we_do_not_know(secure_kafka: SecureKafka) -> None:
    other = secure_kafka.other_authority.certificate
    told = await why_not(secured(secure_kafka, "SASL", "sasl_ssl", sasl=LOGIN, ca_file=other))
    assert "its certificate is not trusted: " in told
    assert told.endswith("; set kafka.security.ca_file to the CA of the brokers")


async def test_a_certificate_for_another_host(secure_kafka: SecureKafka) -> None:
    told = await why_not(secured(secure_kafka, "MISNAMED", "ssl"))
    assert "its certificate is for another name: IP address mismatch" in told
    assert "use a name that the certificate has, in kafka.bootstrap_servers" in told


async def test_a_certificate_that_has_expired(secure_kafka: SecureKafka) -> None:
    told = await why_not(secured(secure_kafka, "EXPIRED", "ssl"))
    assert told.endswith(
        "its certificate has expired; renew the brokers' certificates, and check the clock here"
    )


async def test_a_client_certificate_that_is_missing_expired_or_of_a_stranger(
    secure_kafka: SecureKafka,
) -> None:
    assert "it may ask for a client certificate: kafka.security.cert_file" in await why_not(
        secured(secure_kafka, "MUTUAL", "ssl")
    )
    expired = secure_kafka.authority.client("late", ends_in=timedelta(days=-1))
    told = await why_not(with_certificate(secure_kafka, expired))
    assert "certificate" in told
    assert str(expired.public) in told
    stranger = secure_kafka.authority.__class__(secure_kafka.tls / "stranger").client(USER)
    told = await why_not(with_certificate(secure_kafka, stranger))
    assert f"{stranger.public} must be valid and signed by a CA that the brokers trust" in told


async def test_a_locked_key_asks_nobody_at_the_terminal(secure_kafka: SecureKafka) -> None:
    locked = secure_kafka.authority.client("locked").with_passphrase("open sesame")
    assert "a key with a passphrase needs kafka.security.key_password_file" in await why_not(
        with_certificate(secure_kafka, locked)
    )
    assert "kafka.security.key_password_file hold the key's passphrase" in await why_not(
        with_certificate(secure_kafka, locked, key_password="wrong!")
    )


async def test_certificate_and_key_that_are_no_pair(secure_kafka: SecureKafka) -> None:
    one, other = secure_kafka.authority.client("one"), secure_kafka.authority.client("other")
    told = await why_not(with_certificate(secure_kafka, KeyPair(one.key, other.public)))
    assert "are not of one pair; renew both together" in told


@pytest.fixture
def settings(secure_kafka: SecureKafka) -> Settings:
    """A worker's, who logs in by password; its name is its own, and nothing is allowed to it yet."""
    name = f"acl-{uuid.uuid4().hex[:8]}"
    login = with_password(secure_kafka).kafka.model_dump(include={"bootstrap_servers"})
    security = {"protocol": "sasl_ssl", "ca_file": str(secure_kafka.trusted), "sasl": LOGIN}
    return Settings.model_validate(
        {"cluster": name, "kafka": {**login, "shards": 2, "security": security}, "topics": {"prefix": name}}
    )


async def make_topics(secure_kafka: SecureKafka, settings: Settings) -> None:
    for spec in settings.topic_specs:
        await create_topic(
            secure_kafka.bootstrap, spec.name, partitions=max(spec.partitions, 1), config=dict(spec.config)
        )


def binding(needed: Permission) -> Any:
    return acl(needed.resource, needed.name, needed.operation, prefixed=needed.prefixed)


async def test_each_single_permission_taken_away_is_named(
    secure_kafka: SecureKafka, settings: Settings
) -> None:
    await make_topics(secure_kafka, settings)
    where = Connection(settings.kafka)
    needed = worker_permissions(settings)
    assert await missing_permissions(where, settings) == needed
    secure_kafka.allow(map(binding, needed))
    assert await missing_permissions(where, settings) == []
    for one in needed:
        secure_kafka.forbid([binding(one)])
        assert await missing_permissions(where, settings) == [one]
        secure_kafka.allow([binding(one)])


async def test_where_everything_is_allowed_nothing_is_missing(
    secure_kafka: SecureKafka, settings: Settings
) -> None:
    await make_topics(secure_kafka, settings)
    open_to_all = settings.kafka.model_copy(
        update={
            "bootstrap_servers": (secure_kafka.bootstrap,),
            "security": KafkaSettings().security,
        }
    )
    assert await missing_permissions(Connection(open_to_all), settings) == []


async def test_asking_for_permissions_disturbs_no_producer(
    secure_kafka: SecureKafka, settings: Settings
) -> None:
    await make_topics(secure_kafka, settings)
    secure_kafka.allow(map(binding, worker_permissions(settings)))
    where, topic = Connection(settings.kafka), settings.topic_names.health
    producer = shard(where, settings.topic_names.state, topic, cluster=settings.cluster)
    await producer.open()
    assert await missing_permissions(where, settings) == []
    await producer.publish(publication([record(topic, "one")], {"position": b"1"}))  # it was not fenced
    await producer.close()


async def test_what_is_not_allowed_is_told_by_whoever_needs_it(
    secure_kafka: SecureKafka, settings: Settings
) -> None:
    await make_topics(secure_kafka, settings)
    topic, state = settings.topic_names.health, settings.topic_names.state
    by_name = {
        (str(one.resource), one.name, str(one.operation)): binding(one)
        for one in worker_permissions(settings)
    }
    secure_kafka.allow(by_name.values())
    producer = shard(Connection(settings.kafka), state, topic, cluster=settings.cluster)

    async def work() -> None:
        await producer.open()
        await producer.publish(publication([record(topic, "one")], {"position": b"1"}))

    await work()
    refusals = {
        ("transactional_id", f"falco-streamer.{settings.cluster}-", "WRITE"): (
            f"we may not use the transactional id falco-streamer.{settings.cluster}-0; grant WRITE on it"
        ),
        ("topic", topic, "WRITE"): f"we may not use the topic {topic}; grant WRITE on it",
        ("topic", state, "WRITE"): f"we may not use the topic {state}; grant WRITE on it",
        ("topic", state, "READ"): f"we may not use the topic {state}; grant READ and WRITE on it",
    }
    for needed, told in refusals.items():
        secure_kafka.forbid([by_name[needed]])
        with pytest.raises(PublishError) as found:
            await work()
        assert str(found.value) == f"{told}: `falco-streamer topics acls` prints all that is needed"
        secure_kafka.allow([by_name[needed]])
    await work()
    await producer.close()
