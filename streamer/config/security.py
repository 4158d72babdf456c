"""Settings: how the connection to Kafka is encrypted and authenticated."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field, ValidationInfo, field_serializer, field_validator

from streamer.config.faults import MISSING, USELESS, Fault, FaultsError
from streamer.config.oauth import OAuth
from streamer.config.secret import HIDDEN, HiddenText, Secret
from streamer.config.section import FilePath, Section, Text

Protocol = Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"]


class Sasl(Section):
    """Who we are to Kafka."""

    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] = Field(
        default="SCRAM-SHA-512", description="The SASL mechanism that the brokers' listener offers."
    )
    username: Text | None = Field(default=None, description="The user's name.")
    password: HiddenText | None = Field(
        default=None, min_length=1, description="The user's password; better given as a file or a variable."
    )
    password_file: FilePath | None = Field(
        default=None,
        description="Path of a file that holds the password, instead of `password`; read at each connection.",
    )
    oauth: OAuth = Field(
        default=OAuth(), description="Where tokens come from, for the mechanism OAUTHBEARER."
    )

    @field_validator("password_file")
    @classmethod
    def _one_password(cls, file: FilePath | None, info: ValidationInfo) -> FilePath | None:
        if file is not None and info.data.get("password") is not None:
            raise FaultsError([Fault((), "expected either `password` or `password_file`, got both")])
        return file

    @field_serializer("password", when_used="json-unless-none")
    def _hide(self, _password: HiddenText) -> str:
        return HIDDEN

    @property
    def secret(self) -> Secret:
        """The password, to be read at use."""
        return Secret("kafka.security.sasl.password", self.password, self.password_file)

    def faults(self, protocol: Protocol) -> Iterator[Fault]:
        """What is missing or useless for this mechanism."""
        if self.mechanism == "OAUTHBEARER":
            for name in ("username", "password", "password_file"):
                if getattr(self, name) is not None:
                    yield Fault((name,), "`mechanism: OAUTHBEARER` makes no use of it; see `oauth`", USELESS)
            for fault in self.oauth.faults():
                yield fault._replace(at=("oauth", *fault.at))
            return
        if self.username is None:
            yield Fault(("username",), f"`protocol: {protocol}` needs it", MISSING)
        if self.password is None and self.password_file is None:
            yield Fault(("password",), f"`protocol: {protocol}` needs it, or `password_file`", MISSING)
        for name, field in OAuth.model_fields.items():
            if getattr(self.oauth, name) != field.default:
                reason = f"`mechanism: {self.mechanism}` makes no use of it; `OAUTHBEARER` does"
                yield Fault(("oauth", name), reason, USELESS)


class Security(Section):
    """Encryption and authentication of the connection to Kafka."""

    protocol: Protocol = Field(
        default="plaintext",
        description="The protocol of the brokers' listener; `ssl` stands for TLS, with a client certificate or "
        "without, `sasl_ssl` for TLS and a password.",
    )
    ca_file: FilePath | None = Field(
        default=None,
        description="Path of the PEM file with the authorities that may sign the brokers' certificates. Null: "
        "the system's.",
    )
    cert_file: FilePath | None = Field(
        default=None, description="Path of the PEM file with our client certificate and its chain."
    )
    key_file: FilePath | None = Field(
        default=None, description="Path of the PEM file with the client certificate's private key."
    )
    key_password: HiddenText | None = Field(
        default=None,
        min_length=1,
        description="The private key's passphrase, if it has one; better given as a file or a variable.",
    )
    key_password_file: FilePath | None = Field(
        default=None,
        description="Path of a file that holds the passphrase, instead of `key_password`; read with the key.",
    )
    sasl: Sasl = Field(
        default=Sasl(), description="Who we are to Kafka, for the protocols sasl_plaintext and sasl_ssl."
    )

    @field_validator("ca_file", "cert_file", "key_file")
    @classmethod
    def _needs_tls(cls, file: FilePath | None, info: ValidationInfo) -> FilePath | None:
        protocol: Protocol | None = info.data.get("protocol")
        if file is not None and protocol in {"plaintext", "sasl_plaintext"}:
            raise FaultsError(
                [Fault((), f"`protocol: {protocol}` makes no use of it; `ssl` and `sasl_ssl` do", USELESS)]
            )
        return file

    @field_validator("key_file")
    @classmethod
    def _pairs(cls, key: FilePath | None, info: ValidationInfo) -> FilePath | None:
        if "cert_file" in info.data and (key is None) != (info.data["cert_file"] is None):
            at, given = ((), "cert_file") if key is None else (("..", "cert_file"), "key_file")
            raise FaultsError([Fault(at, f"`{given}` needs it", MISSING)])
        return key

    @field_validator("key_password", "key_password_file")
    @classmethod
    def _needs_key(
        cls, given: HiddenText | FilePath | None, info: ValidationInfo
    ) -> HiddenText | FilePath | None:
        if given is not None and "key_file" in info.data and info.data["key_file"] is None:
            raise FaultsError([Fault((), "there is no `key_file` that it could be for", USELESS)])
        if info.field_name == "key_password_file" and given is not None and info.data.get("key_password"):
            raise FaultsError([Fault((), "expected either `key_password` or `key_password_file`, got both")])
        return given

    @field_serializer("key_password", when_used="json-unless-none")
    def _hide(self, _password: HiddenText) -> str:
        return HIDDEN

    @property
    def key_secret(self) -> Secret | None:
        """The private key's passphrase, to be read at use; None if it has none."""
        if self.key_password is None and self.key_password_file is None:
            return None
        return Secret("kafka.security.key_password", self.key_password, self.key_password_file)

    @field_validator("sasl")
    @classmethod
    def _fits_protocol(cls, sasl: Sasl, info: ValidationInfo) -> Sasl:
        protocol: Protocol | None = info.data.get("protocol")
        faults = []
        if protocol in {"plaintext", "ssl"}:
            reason = f"`protocol: {protocol}` makes no use of it; `sasl_ssl` and `sasl_plaintext` do"
            fields = Sasl.model_fields.items()
            given = (name for name, field in fields if getattr(sasl, name) != field.default)
            faults = [Fault((name,), reason, USELESS) for name in given]
        elif protocol is not None:
            faults = list(sasl.faults(protocol))
        if faults:
            raise FaultsError(faults)
        return sasl
