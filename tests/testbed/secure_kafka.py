"""A Kafka that lets in only whom it knows, and only to what its ACLs allow: one listener for each way in.

Its administrator comes through INTERNAL, without a password, and is the only super user. `administrator()` is
confluent-kafka's client: none of the product's code, and it can write ACLs and passwords, which aiokafka's cannot.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialDeletion,
    UserScramCredentialUpsertion,
)

from tests.testbed.certs import Authority, KeyPair
from tests.testbed.identity_provider import AUDIENCE, IdentityProvider
from tests.testbed.kafka import Kafka, Quorum
from tests.testbed.process import free_port

USER = "worker"
PASSWORD = "correct horse+battery/staple"

# The way in, by what its listener is called; `renewing` cuts each connection after this time to have it log in again.
_LISTENERS = {
    "SASL": "SASL_SSL",
    "PLAINSASL": "SASL_PLAINTEXT",
    "MUTUAL": "SSL",
    "EXPIRED": "SSL",
    "MISNAMED": "SSL",
    "RENEWING": "SASL_SSL",
    "INTERNAL": "PLAINTEXT",
}
_RENEW_MS = 1_500
_MODULES = "org.apache.kafka.common.security"


class SecureKafka(Kafka):
    """One broker with TLS, SASL and the authorizer of KRaft. Whoever is let in may do nothing at first."""

    def __init__(self, provider: IdentityProvider) -> None:
        self.ports = {name: free_port() for name in _LISTENERS}
        self.tls = Path(tempfile.mkdtemp(prefix="falco-streamer-tls-"))
        self.authority = Authority(self.tls / "authority")
        self.other_authority = Authority(self.tls / "other")
        quorum = Quorum()
        super().__init__(
            quorum=quorum,
            extra_properties=self._secured(provider, quorum),
            format_arguments=[
                f"--add-scram=SCRAM-SHA-{bits}=[name={USER},password={PASSWORD}]" for bits in (256, 512)
            ],
            jvm_arguments=[
                f"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={provider.keys},{provider.token_endpoint}"
            ],
        )

    @property
    def bootstrap(self) -> str:
        """The administrator's way in."""
        return self.at("INTERNAL")

    def at(self, listener: str) -> str:
        """host:port of one listener."""
        return f"127.0.0.1:{self.ports[listener]}"

    @property
    def trusted(self) -> Path:
        """The CA that signed its certificates."""
        return self.authority.certificate

    def administrator(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.bootstrap})

    def set_password(self, user: str, password: str | None, *, mechanism: str = "SCRAM-SHA-512") -> None:
        """Give a user a password, or take it away."""
        kind = getattr(ScramMechanism, mechanism.replace("-", "_"))
        change = (
            UserScramCredentialDeletion(user, kind)
            if password is None
            else UserScramCredentialUpsertion(user, ScramCredentialInfo(kind, 4096), password.encode())
        )
        administrator = self.administrator()  # what it promises ends with it
        for done in administrator.alter_user_scram_credentials([change]).values():
            done.result(10)

    @contextmanager
    def certified_by(self, authority: Authority, listener: str) -> Iterator[None]:
        """Let another authority vouch for one listener while the context lasts; connections that are open stay."""
        self._serve(listener, authority.server("broker"))
        try:
            yield
        finally:
            self._serve(listener, self.authority.server("broker"))

    def _serve(self, listener: str, pair: KeyPair) -> None:
        name = f"listener.name.{listener.lower()}.ssl.keystore.location"
        entry = ConfigEntry(name, str(pair.in_one_file()), incremental_operation=AlterConfigOpType.SET)
        broker = ConfigResource(ConfigResource.Type.BROKER, str(self.node_id), incremental_configs=[entry])
        administrator = self.administrator()
        for done in administrator.incremental_alter_configs([broker]).values():
            done.result(10)

    def allow(self, acls: Iterable[AclBinding]) -> None:
        """Give ACLs; on return, the broker goes by them."""
        given = list(acls)
        administrator = self.administrator()
        for done in administrator.create_acls(given).values():
            done.result(10)
        self._wait(administrator, lambda known: set(given) <= known)

    def forbid(self, acls: Iterable[AclBinding]) -> None:
        """Take ACLs away again."""
        taken = list(acls)
        administrator = self.administrator()
        for done in administrator.delete_acls([_filter(acl) for acl in taken]).values():
            done.result(10)
        self._wait(administrator, lambda known: not set(taken) & known)

    @staticmethod
    def _wait(administrator: AdminClient, condition: Callable[[set[AclBinding]], bool]) -> None:
        """The controller has said yes; the broker's authorizer hears of it a moment later."""
        any_one: Any = None
        every = AclBindingFilter(
            ResourceType.ANY,
            any_one,
            ResourcePatternType.ANY,
            any_one,
            any_one,
            AclOperation.ANY,
            AclPermissionType.ANY,
        )
        deadline = time.monotonic() + 10
        while not condition(set(administrator.describe_acls(every).result(10))):
            assert time.monotonic() < deadline, "the broker does not hear of its ACLs"

    def _secured(self, provider: IdentityProvider, quorum: Quorum) -> dict[str, str]:
        server = self.authority.server("broker")
        expired = self.authority.server("expired", ends_in=timedelta(days=-1))
        misnamed = self.authority.server("misnamed", names=["kafka.elsewhere.example"])
        both_authorities = self.tls / "clients.crt"
        both_authorities.write_bytes(
            self.authority.certificate.read_bytes() + self.other_authority.certificate.read_bytes()
        )
        urls = {name: f"{name}://127.0.0.1:{port}" for name, port in self.ports.items()}
        protocols = {**_LISTENERS, "CONTROLLER": "PLAINTEXT"}
        return {
            "listeners": ",".join([*urls.values(), f"CONTROLLER://127.0.0.1:{quorum.ports[1]}"]),
            "advertised.listeners": ",".join(urls.values()),
            "listener.security.protocol.map": ",".join(f"{name}:{kind}" for name, kind in protocols.items()),
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
            "ssl.principal.mapping.rules": "RULE:^.*CN=([^,]+).*$/$1/",
            **_tls("SASL", server, both_authorities, "none"),
            **_tls("MUTUAL", server, both_authorities, "required"),
            **_tls("RENEWING", server, both_authorities, "required"),
            **_tls("EXPIRED", expired, both_authorities, "none"),
            **_tls("MISNAMED", misnamed, both_authorities, "none"),
            **_sasl("SASL", provider),
            **_sasl("PLAINSASL", provider),
            **_sasl("RENEWING", provider),
            **{
                f"listener.name.renewing.{mechanism}.connections.max.reauth.ms": str(_RENEW_MS)
                for mechanism in ("scram-sha-512", "oauthbearer")
            },
        }


def acl(kind: str, name: str, operation: str, user: str = USER, *, prefixed: bool = False) -> AclBinding:
    """One permission: `kind` is topic, group or transactional_id."""
    resource = {"transactional_id": "TRANSACTIONAL_ID"}.get(kind, kind.upper())
    return AclBinding(
        getattr(ResourceType, resource),
        name,
        ResourcePatternType.PREFIXED if prefixed else ResourcePatternType.LITERAL,
        f"User:{user}",
        "*",
        getattr(AclOperation, operation),
        AclPermissionType.ALLOW,
    )


def _filter(acl: AclBinding) -> AclBindingFilter:
    return AclBindingFilter(
        acl.restype,
        acl.name,
        acl.resource_pattern_type,
        acl.principal,
        acl.host,
        acl.operation,
        acl.permission_type,
    )


def _tls(listener: str, pair: KeyPair, trusted: Path, client: str) -> Mapping[str, str]:
    prefix = f"listener.name.{listener.lower()}.ssl"
    return {
        f"{prefix}.keystore.type": "PEM",
        f"{prefix}.keystore.location": str(pair.in_one_file()),
        f"{prefix}.truststore.type": "PEM",
        f"{prefix}.truststore.location": str(trusted),
        f"{prefix}.client.auth": client,
    }


def _sasl(listener: str, provider: IdentityProvider) -> Mapping[str, Any]:
    prefix = f"listener.name.{listener.lower()}"
    validator = f"{_MODULES}.oauthbearer.OAuthBearerValidatorCallbackHandler"
    plain = f'{_MODULES}.plain.PlainLoginModule required user_{USER}="{PASSWORD}";'
    return {
        f"{prefix}.sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER",
        f"{prefix}.plain.sasl.jaas.config": plain,
        f"{prefix}.scram-sha-256.sasl.jaas.config": f"{_MODULES}.scram.ScramLoginModule required;",
        f"{prefix}.scram-sha-512.sasl.jaas.config": f"{_MODULES}.scram.ScramLoginModule required;",
        f"{prefix}.oauthbearer.sasl.jaas.config": f"{_MODULES}.oauthbearer.OAuthBearerLoginModule required "
        'unsecuredLoginStringClaim_sub="unused";',
        f"{prefix}.oauthbearer.sasl.server.callback.handler.class": validator,
        # By default 4.1 looks for the keys' address where no listener can have it, and then checks no signature.
        f"{prefix}.sasl.oauthbearer.jwt.validator.class": f"{_MODULES}.oauthbearer.BrokerJwtValidator",
        f"{prefix}.sasl.oauthbearer.jwks.endpoint.url": provider.keys,
        f"{prefix}.sasl.oauthbearer.expected.audience": AUDIENCE,
        f"{prefix}.sasl.oauthbearer.expected.issuer": provider.issuer,
    }
