"""Settings: how the connection to Kafka is encrypted and authenticated."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, ValidationInfo, field_serializer, field_validator

from streamer.config.faults import MISSING, USELESS, Fault, FaultsError
from streamer.config.secret import HIDDEN, HiddenText, Secret
from streamer.config.section import FilePath, Section, Text

Protocol = Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"]


class Sasl(Section):
    """Who we are to Kafka."""

    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
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
    sasl: Sasl = Field(
        default=Sasl(), description="User and password, for the protocols sasl_plaintext and sasl_ssl."
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
            if sasl.username is None:
                faults.append(Fault(("username",), f"`protocol: {protocol}` needs it", MISSING))
            if sasl.password is None and sasl.password_file is None:
                reason = f"`protocol: {protocol}` needs it, or `password_file`"
                faults.append(Fault(("password",), reason, MISSING))
        if faults:
            raise FaultsError(faults)
        return sasl
