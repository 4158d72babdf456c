"""How every client reaches Kafka: the settings, as aiokafka wants them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from streamer.config.kafka import Kafka
from streamer.sink.credentials import Credentials

REQUEST_TIMEOUT_MS: Final = 10_000
"""Below the time for a whole operation (12 s), which is below the transaction's (15 s)."""


@dataclass(frozen=True, slots=True)
class Connection:
    """What all clients of one process have in common: the settings, as aiokafka wants them."""

    kafka: Kafka
    check_crcs: bool = True
    """Off for the mock broker only, whose control batches have none."""
    credentials: Credentials = field(init=False, compare=False, repr=False)
    """Of all clients, so that they share tokens; they look into it at each new connection."""

    def __post_init__(self) -> None:
        """Credentials are the settings' own."""
        object.__setattr__(self, "credentials", Credentials(self.kafka.security))

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

        KafkaUnavailable where a certificate, a password or the like cannot be used.
        """
        return {
            "bootstrap_servers": list(self.kafka.bootstrap_servers),
            "client_id": f"{self.kafka.client_id}-{role}",
            "request_timeout_ms": REQUEST_TIMEOUT_MS,
            "security_protocol": self.kafka.security.protocol.upper(),
            **self.credentials.read(),
        }
