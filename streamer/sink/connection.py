"""How every client reaches Kafka: the settings, as aiokafka wants them."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import Any, Final

from streamer.config.kafka import Kafka
from streamer.config.secret import SecretError
from streamer.config.security import Security
from streamer.sink.errors import KafkaUnavailable, one_line

REQUEST_TIMEOUT_MS: Final = 10_000
"""Below the time for a whole operation (12 s), which is below the transaction's (15 s)."""


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
        cause = f"the TLS files of kafka.security cannot be used ({named}): {one_line(error)}"
        raise KafkaUnavailable(
            cause, "each must be a readable PEM file, the key without a passphrase"
        ) from error
    return context
