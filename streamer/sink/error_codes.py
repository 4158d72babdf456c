"""Kafka's error codes that aiokafka does not know: without this each is `[Error -1] UnknownError`.

The codes are those of org.apache.kafka.common.protocol.Errors.
"""

from __future__ import annotations

from typing import Any, Final

import aiokafka.errors as kafka_errors

UNSUPPORTED_FOR_MESSAGE_FORMAT: Final = 43
UNSUPPORTED_COMPRESSION_TYPE: Final = 76
_NAMES: Final = {
    74: "FENCED_LEADER_EPOCH",
    75: "UNKNOWN_LEADER_EPOCH",
    UNSUPPORTED_COMPRESSION_TYPE: "UNSUPPORTED_COMPRESSION_TYPE",
    77: "STALE_BROKER_EPOCH",
    78: "OFFSET_NOT_AVAILABLE",
    80: "PREFERRED_LEADER_NOT_AVAILABLE",
    81: "GROUP_MAX_SIZE_REACHED",
    82: "FENCED_INSTANCE_ID",
    87: "INVALID_RECORD",
    88: "UNSTABLE_OFFSET_COMMIT",
    89: "THROTTLING_QUOTA_EXCEEDED",
    90: "PRODUCER_FENCED",
}


class _Codes(dict[int, type[Any]]):
    """Aiokafka's classes of errors by code, and classes made for those that it has none for."""

    def get(self, code: int, _: Any = None) -> Any:
        found = super().get(code)
        if found is None:
            name = _NAMES.get(code, "UNKNOWN_CODE")  # an error without arguments is shown as its class
            found = self[code] = type(
                name, (kafka_errors.BrokerResponseError,), {"errno": code, "message": name}
            )
        return found


def learn_codes() -> None:
    """Let `aiokafka.errors.for_code` name every code."""
    if not isinstance(kafka_errors.kafka_errors, _Codes):
        kafka_errors.kafka_errors = _Codes(kafka_errors.kafka_errors)


def error_name(code: int) -> str:
    """What Kafka calls an error, with its number."""
    return f"{kafka_errors.for_code(code).message} (error {code})"
