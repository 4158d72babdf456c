"""Whether single pods, or their logs, may be requested: a refusal holds for a namespace, so one tries for all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from streamer.flow.backoff import Backoff

_FIRST_SECONDS: Final = 5.0
_MOST_SECONDS: Final = 300.0
"""The longest pause: a right that was withdrawn comes back when somebody grants it."""
_ANSWER_SECONDS: Final = 60.0
"""Whoever has the turn to ask has an answer by then."""


@dataclass(slots=True)
class _Refusal:
    next_at: float
    backoff: Backoff


class Rights:
    """By namespace: while requests are forbidden, one at a time, with a back-off that all share.

    `on_granted` is called with a namespace in which they are allowed again. Times are on the loop's clock.
    """

    def __init__(
        self, on_granted: Callable[[str], None] = lambda _: None, *, most_seconds: float = _MOST_SECONDS
    ) -> None:
        self._on_granted = on_granted
        self._most_seconds = most_seconds
        self._refusals: dict[str, _Refusal] = {}

    def seconds_to_turn(self, namespace: str, now: float) -> float:
        """How long to wait before a request in this namespace; 0: now, and nobody else meanwhile."""
        refusal = self._refusals.get(namespace)
        if refusal is None:
            return 0.0
        if now < refusal.next_at:
            return refusal.next_at - now
        refusal.next_at = now + _ANSWER_SECONDS
        return 0.0

    def refused(self, namespace: str, now: float) -> bool:
        """The server has refused one (403). Whether it is the first since they were allowed."""
        is_first = namespace not in self._refusals
        if is_first:
            first_seconds = min(_FIRST_SECONDS, self._most_seconds)
            self._refusals[namespace] = _Refusal(now, Backoff(first_seconds, self._most_seconds))
        refusal = self._refusals[namespace]
        refusal.next_at = now + refusal.backoff.next_seconds()
        return is_first

    def granted(self, namespace: str) -> None:
        """The server has answered for one."""
        if self._refusals.pop(namespace, None) is not None:
            self._on_granted(namespace)

    def reconsider(self, namespace: str) -> None:
        """Something has changed in a namespace, "" for all: the next one may ask at once."""
        for name, refusal in self._refusals.items():
            if namespace in ("", name):
                refusal.next_at = 0.0
