"""What keeps a worker out of a Kafka that lets in only whom it knows: TLS, passwords, tokens, permissions."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Any

from streamer.sink.permissions import Permission, worker_permissions
from tests.testbed.certs import Authority, KeyPair
from tests.testbed.fixtures import CLIENT_SECRET
from tests.testbed.planted import Setup, Table
from tests.testbed.planted.servers import silent
from tests.testbed.secure_kafka import PASSWORD, USER, acl
from tests.testbed.topics import create_topic

LOGIN = Table()


def secured(setup: Setup, listener: str, protocol: str, **security: Any) -> None:
    """Reach the secured Kafka in one of its ways."""
    secure = setup.servers.secure
    if protocol.endswith("ssl"):
        security = {"ca_file": str(secure.trusted), **security}
    setup.kafka["bootstrap_servers"] = [secure.at(listener)]
    setup.kafka["security"] = {"protocol": protocol, **security}


def with_password(setup: Setup, **sasl: Any) -> None:
    """The way in that works."""
    secured(setup, "SASL", "sasl_ssl", sasl={"username": USER, "password": PASSWORD, **sasl})


@LOGIN.fault("authentication failed: ")
async def a_wrong_password(setup: Setup) -> None:
    with_password(setup, password="wrong!")


@LOGIN.fault("authentication failed: ")
async def a_user_that_nobody_knows(setup: Setup) -> None:
    with_password(setup, username="nobody")


@LOGIN.fault("it closed the connection, which was opened as sasl_plaintext")
async def no_tls_where_tls_is_wanted(setup: Setup) -> None:
    secured(setup, "SASL", "sasl_plaintext", sasl={"username": USER, "password": PASSWORD})


@LOGIN.fault("it closed the connection, which was opened as ssl")
async def no_password_where_one_is_wanted(setup: Setup) -> None:
    secured(setup, "SASL", "ssl")


@LOGIN.fault("its certificate is not trusted: ")
async def another_authority(setup: Setup) -> None:
    other = Authority(setup.folder / "other").certificate
    with_password(setup)
    setup.kafka["security"]["ca_file"] = str(other)


@LOGIN.fault("its certificate is for another name: ")
async def another_name(setup: Setup) -> None:
    secured(setup, "MISNAMED", "ssl")


@LOGIN.fault("its certificate has expired")
async def a_certificate_that_has_expired(setup: Setup) -> None:
    secured(setup, "EXPIRED", "ssl")


@LOGIN.fault("it may ask for a client certificate: kafka.security.cert_file")
async def no_client_certificate(setup: Setup) -> None:
    secured(setup, "MUTUAL", "ssl")


def _certificate(setup: Setup, pair: KeyPair) -> None:
    secured(setup, "MUTUAL", "ssl", cert_file=str(pair.public), key_file=str(pair.key))


@LOGIN.fault("certificate")
async def a_client_certificate_that_has_expired(setup: Setup) -> None:
    _certificate(setup, setup.servers.secure.authority.client(setup.name, ends_in=timedelta(days=-1)))


@LOGIN.fault("must be valid and signed by a CA that the brokers trust")
async def a_client_certificate_of_a_stranger(setup: Setup) -> None:
    _certificate(setup, Authority(setup.folder / "stranger").client(USER))


@LOGIN.fault("are not of one pair")
async def a_certificate_with_another_key(setup: Setup) -> None:
    authority = setup.servers.secure.authority
    one, other = authority.client(f"{setup.name}-1"), authority.client(f"{setup.name}-2")
    _certificate(setup, KeyPair(one.key, other.public))


@LOGIN.fault("nowhere.crt")
async def no_authority_file(setup: Setup) -> None:
    with_password(setup)
    setup.kafka["security"]["ca_file"] = str(setup.folder / "nowhere.crt")


@LOGIN.fault("nowhere.txt")
async def no_password_file(setup: Setup) -> None:
    with_password(setup)
    sasl = {"username": USER, "password_file": str(setup.folder / "nowhere.txt")}
    setup.kafka["security"]["sasl"] = sasl


def _token(setup: Setup, **oauth: Any) -> None:
    endpoint = setup.servers.identity.token_endpoint
    asked = {"token_endpoint": endpoint, "client_id": USER, "client_secret": CLIENT_SECRET, **oauth}
    secured(setup, "SASL", "sasl_ssl", sasl={"mechanism": "OAUTHBEARER", "oauth": asked})


@LOGIN.fault("answered 401, invalid_client")
async def a_wrong_client_secret(setup: Setup) -> None:
    _token(setup, client_secret="wrong!")


@LOGIN.fault("the token endpoint http://127.0.0.1:1/token cannot be reached: ")
async def no_token_endpoint(setup: Setup) -> None:
    _token(setup, token_endpoint="http://127.0.0.1:1/token")


@LOGIN.fault("the token endpoint http://127.0.0.1:")
async def a_token_endpoint_that_never_answers(setup: Setup) -> None:
    _token(setup, token_endpoint=f"http://127.0.0.1:{setup.stack.enter_context(silent())}/token")


@LOGIN.fault("cannot be used: ModuleNotFoundError")
async def a_token_provider_that_is_not_installed(setup: Setup) -> None:
    secured(
        setup,
        "SASL",
        "sasl_ssl",
        sasl={"mechanism": "OAUTHBEARER", "oauth": {"provider": "no.such.module:Provider"}},
    )


async def installed(setup: Setup) -> list[Permission]:
    """Topics as they should be, and all that the worker needs allowed; returns what that is."""
    setup.own_topics()
    setup.topics["create"] = False
    with_password(setup)
    settings = setup.write()
    for spec in settings.topic_specs:
        await create_topic(
            setup.servers.secure.bootstrap, spec.name, partitions=max(1, spec.partitions), config=spec.config
        )
    needed = worker_permissions(settings)
    setup.servers.secure.allow(map(binding, needed))
    return needed


def binding(one: Permission) -> Any:
    """As Kafka has it."""
    return acl(one.resource, one.name, one.operation, prefixed=one.prefixed)


async def _without(resource: str, operation: str, kind: str, setup: Setup) -> None:
    needed = await installed(setup)
    name = getattr(setup.write().topic_names, kind, "") if kind else ""
    (taken,) = [
        one
        for one in needed
        if (one.resource, one.operation) == (resource, operation) and (not name or one.name == name)
    ]
    setup.servers.secure.forbid([binding(taken)])


for _resource, _operation, _kind, _run in (
    ("topic", "WRITE", "health", "we may not use"),
    ("topic", "WRITE", "state", "we may not use the topic"),
    ("topic", "READ", "state", ""),  # while there is no state to be read
    ("group", "READ", "", "we may not use the consumer group"),
    ("transactional_id", "WRITE", "", "we may not use the transactional id"),
):
    LOGIN.add(
        f"without {_operation} on the {_kind} {_resource}",
        partial(_without, _resource, _operation, _kind),
        f"not allowed: {_operation} on the ",
        run=_run,
    )


@LOGIN.fault("not allowed: WRITE on the topic", run="we may not use it, or it is missing")
async def topics_that_we_may_not_create(setup: Setup) -> None:
    setup.own_topics()
    with_password(setup)
