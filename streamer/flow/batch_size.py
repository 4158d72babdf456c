"""An adaptive batch size: transactions get smaller when Kafka is slow, so that they end in time."""

from __future__ import annotations

from typing import Final

_LEAST_BYTES: Final = 64 * 1024
_QUICK_SECONDS: Final = 2.0
"""A batch twice as large then still ends well before the time limit of a transaction (12 s)."""


class AdaptiveBatchSize:
    """The most bytes of lines in one transaction: halved by each failure, doubled by each quick transaction.

    A transaction has a time limit. With a quota or a slow link, a batch that is too large would fail on every retry,
    and the backlog would make the next batch larger still.
    """

    def __init__(self) -> None:
        self._bytes: int | None = None

    def of(self, most_bytes: int) -> int:
        """How many bytes of lines to take now; at most `most_bytes`."""
        return most_bytes if self._bytes is None else min(self._bytes, most_bytes)

    def failed(self, size_bytes: int) -> None:
        """A transaction with `size_bytes` of lines failed, for any reason."""
        self._bytes = max(_LEAST_BYTES, size_bytes // 2)

    def succeeded(self, size_bytes: int, seconds: float, most_bytes: int) -> None:
        """A transaction with `size_bytes` of lines took `seconds`. Batches less than half full are ignored."""
        if self._bytes is not None and seconds <= _QUICK_SECONDS and size_bytes >= self._bytes // 2:
            self._bytes *= 2
            if self._bytes >= most_bytes:
                self._bytes = None
