"""How much one transaction carries: less where Kafka is slow, so that it can end in time."""

from __future__ import annotations

from typing import Final

_LEAST_BYTES: Final = 64 * 1024
_QUICK_SECONDS: Final = 2.0
"""Twice of what took so long still ends well before the limit of a transaction (12 s)."""


class Portion:
    """As much as is allowed, halved by each failure and doubled by each transaction that was quick.

    A transaction has a limit in time. What a quota or a thin line cannot carry in that time would fail for ever, and
    what waits behind it only makes the next one larger.
    """

    def __init__(self) -> None:
        self._bytes: int | None = None

    def of(self, most_bytes: int) -> int:
        """How many bytes of lines to take now, where `most_bytes` are allowed."""
        return most_bytes if self._bytes is None else min(self._bytes, most_bytes)

    def failed(self, size_bytes: int) -> None:
        """A transaction of so many bytes of lines failed for whatever reason."""
        self._bytes = max(_LEAST_BYTES, size_bytes // 2)

    def succeeded(self, size_bytes: int, seconds: float, most_bytes: int) -> None:
        """A transaction of so many bytes of lines took so long; one that was far from full proves nothing."""
        if self._bytes is not None and seconds <= _QUICK_SECONDS and size_bytes >= self._bytes // 2:
            self._bytes *= 2
            if self._bytes >= most_bytes:
                self._bytes = None
