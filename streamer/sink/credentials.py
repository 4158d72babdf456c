"""Passwords, tokens and certificates, read again when they have changed: a renewed one needs no restart."""

from __future__ import annotations

import ssl
from typing import Any, Final

import structlog

from streamer.config.secret import SecretError
from streamer.config.security import Security
from streamer.config.stamp import Stamp, stamp_of
from streamer.flow.failure import one_line
from streamer.flow.pem import conversion
from streamer.sink.errors import KafkaUnavailable
from streamer.sink.tokens import token_provider
from streamer.telemetry import facts

log = structlog.get_logger()

_NAMES: Final = {"ssl_context": "certificates", "sasl_plain_password": "password"}
"""What can change while we run, by the names of aiokafka's arguments."""


class Credentials:
    """What a connection is opened with, as the settings and the files that they name are at the moment."""

    def __init__(self, security: Security) -> None:
        self._security = security
        self._tokens: Any = None
        self._tls: ssl.SSLContext | None = None
        self._stamp: Stamp | None = None
        self._last: dict[str, Any] = {}

    def read(self) -> dict[str, Any]:
        """As arguments of aiokafka's clients. Raises KafkaUnavailable where something cannot be used."""
        security = self._security
        found: dict[str, Any] = {}
        if security.protocol.endswith("ssl"):
            found["ssl_context"] = self._ssl_context()
        if security.protocol.startswith("sasl"):
            found |= self._sasl()
        changed = [
            name for argument, name in _NAMES.items() if self._last.get(argument) != found.get(argument)
        ]
        if self._last and changed:
            facts.kafka_credentials_renewed()
            log.info("kafka_credentials_renewed", changed=changed)
        self._last = found
        return found

    def _sasl(self) -> dict[str, Any]:
        sasl = self._security.sasl
        if sasl.mechanism == "OAUTHBEARER":
            if self._tokens is None:
                self._tokens = token_provider(sasl.oauth)
            return {"sasl_mechanism": sasl.mechanism, "sasl_oauth_token_provider": self._tokens}
        return {
            "sasl_mechanism": sasl.mechanism,
            "sasl_plain_username": sasl.username,
            "sasl_plain_password": _secret(sasl.secret.read),
        }

    def _ssl_context(self) -> ssl.SSLContext:
        """The files as TLS wants them; the same object until one of them changes."""
        security = self._security
        stamp = stamp_of(
            (security.ca_file, security.cert_file, security.key_file, security.key_password_file)
        )
        if self._tls is None or stamp is None or stamp != self._stamp:
            self._tls, self._stamp = _make_context(security), stamp
        return self._tls


def _make_context(security: Security) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=security.ca_file)
    except OSError as error:  # ssl.SSLError is one
        raise KafkaUnavailable(
            f"kafka.security.ca_file: {security.ca_file} cannot be used: {one_line(error)}",
            conversion(str(security.ca_file)) or "it must be a readable PEM file with certificates",
        ) from error
    if security.cert_file is None:
        return context
    # Without a password of ours, OpenSSL would ask for one at the terminal.
    password = "" if security.key_secret is None else _secret(security.key_secret.read)
    try:
        context.load_cert_chain(security.cert_file, security.key_file, lambda: password)
    except (OSError, ValueError) as error:
        named = f"{security.cert_file} and {security.key_file}"
        if isinstance(error, ssl.SSLError) and error.reason == "KEY_VALUES_MISMATCH":
            cause, fix = "are not of one pair", "renew both together"
        elif isinstance(error, FileNotFoundError | PermissionError):
            cause, fix = f"cannot be read: {error.strerror}", "mount the secret there or name other files"
        elif command := conversion(security.cert_file) or conversion(str(security.key_file)):
            cause, fix = "cannot be used", command
        elif security.key_secret is None:
            cause, fix = (
                f"cannot be used: {one_line(error)}",
                ("each must be a PEM file; a key with a passphrase needs kafka.security.key_password_file"),
            )
        else:
            cause, fix = (
                f"cannot be used: {one_line(error)}",
                ("each must be a PEM file, and kafka.security.key_password_file hold the key's passphrase"),
            )
        raise KafkaUnavailable(f"kafka.security.cert_file and key_file: {named} {cause}", fix) from error
    return context


def _secret(read: Any) -> str:
    try:
        return str(read())
    except SecretError as error:
        raise KafkaUnavailable(str(error), "mount the secret there or name another file") from error
