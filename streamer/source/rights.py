"""Whether single pods may be asked for: a refusal holds for a namespace, so it is asked about once, not per pod."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import structlog

from streamer.flow.backoff import Backoff

_FIRST_SECONDS: Final = 5.0
_MOST_SECONDS: Final = 300.0
"""The longest pause: a right that was withdrawn comes back when somebody grants it."""
_ANSWER_SECONDS: Final = 60.0
"""Whoever has the turn to ask has an answer by then."""

log = structlog.get_logger()


@dataclass(slots=True)
class _Refusal:
    next_at: float
    backoff: Backoff = field(default_factory=lambda: Backoff(_FIRST_SECONDS, _MOST_SECONDS))


class Rights:
    """By namespace: while pods may not be asked for, one request at a time, with a back-off that all share.

    `on_granted` is called with a namespace in which they may be asked for again. Times are on the loop's clock.
    """

    def __init__(self, on_granted: Callable[[str], None] = lambda _: None) -> None:
        self._on_granted = on_granted
        self._refusals: dict[str, _Refusal] = {}

    def seconds_to_turn(self, namespace: str, now: float) -> float:
        """How long to wait before a pod of this namespace may be asked for; 0: now, and nobody else meanwhile."""
        refusal = self._refusals.get(namespace)
        if refusal is None:
            return 0.0
        if now < refusal.next_at:
            return refusal.next_at - now
        refusal.next_at = now + _ANSWER_SECONDS
        return 0.0

    def refused(self, namespace: str, now: float, cause: str) -> None:
        """The server has refused one (403)."""
        if namespace not in self._refusals:
            fix = f"grant verb get on pods in namespace {namespace}"
            log.error("pods_forbidden", namespace=namespace, cause=cause, fix=fix)
        refusal = self._refusals.setdefault(namespace, _Refusal(now))
        refusal.next_at = now + refusal.backoff.next_seconds()

    def granted(self, namespace: str) -> None:
        """The server has answered for one."""
        if self._refusals.pop(namespace, None) is not None:
            self._on_granted(namespace)

    def reconsider(self, namespace: str) -> None:
        """Something has changed in a namespace, "" for all: the next one may ask at once."""
        for name, refusal in self._refusals.items():
            if namespace in ("", name):
                refusal.next_at = 0.0
