"""What health records say of each cluster: its Falco pods, gaps, storms, and Falco's own reports."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Final

import orjson

from streamer.model import Target
from streamer.transform.stamp import StampReader

_MOST_EVENTS: Final = 1_000
_MOST_STORMS: Final = 1_000
_MOST_PODS: Final = 20_000
_MOST_CLUSTERS: Final = 200
_DELAYS: Final = 21
_DELAYS_NEEDED: Final = 3
FORGET_MS: Final = 86_400_000
"""After so long without a report a pod is not remembered."""


@dataclass(slots=True)
class Pod:
    """One Falco container, as it was last reported."""

    target: Target
    coverage: str
    since_ms: int
    """Since when it is in this state."""
    reported_ms: int
    first_ms: int
    """When it was reported first."""
    lines: int


@dataclass(slots=True)
class Voice:
    """What was heard from a Falco pod in alerts."""

    last_ms: int = 0
    """The time of its latest alert or summary."""
    delays_ms: deque[int] = field(default_factory=lambda: deque(maxlen=_DELAYS))
    """How long after their own times its latest alerts were read here, while that was at once."""

    @property
    def delay_ms(self) -> int | None:
        """The usual delay; None where too little is known."""
        return round(median(self.delays_ms)) if len(self.delays_ms) >= _DELAYS_NEEDED else None


@dataclass(frozen=True, slots=True)
class Event:
    """A gap, a report of Falco's, or dead letters that a limit kept back."""

    health: str
    target: Target
    time_ms: int
    from_ms: int | None
    to_ms: int | None
    content: Mapping[str, Any]


@dataclass(slots=True)
class ClusterHealth:
    """One cluster."""

    name: str
    pods: dict[str, Pod] = field(default_factory=dict)
    """By `Target.id`."""
    voices: dict[str, Voice] = field(default_factory=dict)
    """By namespace/pod."""
    events: deque[Event] = field(default_factory=lambda: deque(maxlen=_MOST_EVENTS))
    storms: dict[tuple[str, ...], Event] = field(default_factory=dict)
    """Those that go on."""
    ended_storms: deque[Event] = field(default_factory=lambda: deque(maxlen=_MOST_EVENTS))
    first_ms: int = 0
    """The time of its first record."""


class HealthBook:
    """All clusters; health records are noted as they come."""

    def __init__(self) -> None:
        self.clusters: dict[str, ClusterHealth] = {}
        self.version = 0
        """Grows with each record that may change a verdict."""
        self._stamps = StampReader()

    def note(self, cluster: str, value: bytes, time_ms: int) -> None:
        """Take a health record. What a later release may report besides is left out."""
        try:
            found = orjson.loads(value)
        except orjson.JSONDecodeError:
            return
        target = _target(found.get("target")) if isinstance(found, dict) else None
        book = self._cluster(cluster, time_ms)
        if target is None or book is None:
            return
        self.version += 1
        match found.get("health"):
            case "coverage":
                self._coverage(book, target, found, time_ms)
            case "storm":
                self._storm(book, target, found, time_ms)
            case "gap" | "falco_report" | "dead_letters_limited" as health:
                book.events.append(self._event(health, target, found, time_ms))
            case _:
                pass

    def heard(self, cluster: str, key: bytes, time_ms: int, delay_ms: int | None) -> None:
        """An alert or summary came from a pod; with a delay where it was read as soon as it was written."""
        book = self._cluster(cluster, time_ms)
        if book is None:
            return
        name = key.decode(errors="replace")
        voice = book.voices.get(name)
        if voice is None:
            if len(book.voices) >= _MOST_PODS:
                return
            voice = book.voices[name] = Voice()
        voice.last_ms = max(voice.last_ms, time_ms)
        if delay_ms is not None:
            voice.delays_ms.append(max(0, delay_ms))

    def forget(self, now_ms: int) -> None:
        """Forget what is too old to say anything."""
        for book in self.clusters.values():
            for identity in [each for each, pod in book.pods.items() if now_ms - pod.reported_ms > FORGET_MS]:
                del book.pods[identity]
            for name in [each for each, voice in book.voices.items() if now_ms - voice.last_ms > FORGET_MS]:
                del book.voices[name]
            for key in [each for each, storm in book.storms.items() if now_ms - storm.time_ms > FORGET_MS]:
                del book.storms[key]

    def _cluster(self, name: str, time_ms: int) -> ClusterHealth | None:
        book = self.clusters.get(name)
        if book is None:
            if len(self.clusters) >= _MOST_CLUSTERS:
                return None
            book = self.clusters[name] = ClusterHealth(name, first_ms=time_ms)
            self.version += 1
        book.first_ms = min(book.first_ms, time_ms)
        return book

    def _coverage(self, book: ClusterHealth, target: Target, found: Mapping[str, Any], time_ms: int) -> None:
        before = book.pods.get(target.id)
        if before is not None and before.reported_ms > time_ms:
            return
        if before is None and len(book.pods) >= _MOST_PODS:
            return
        lines = found.get("lines")
        book.pods[target.id] = Pod(
            target,
            str(found.get("coverage")),
            self._ms(found.get("since")) or time_ms,
            time_ms,
            time_ms if before is None else before.first_ms,
            lines if type(lines) is int else 0,
        )

    def _storm(self, book: ClusterHealth, target: Target, found: Mapping[str, Any], time_ms: int) -> None:
        workload = found.get("workload")
        parts = sorted(map(str, workload.items())) if isinstance(workload, dict) else []
        limit = str(found.get("limit"))
        whose = target.id if limit in {"workload", "target"} else ""
        key = (limit, str(found.get("name")), whose, *parts)
        event = self._event("storm", target, found, time_ms)
        if found.get("state") == "ended":
            book.storms.pop(key, None)
            book.ended_storms.append(event)
        elif len(book.storms) < _MOST_STORMS:
            book.storms[key] = event

    def _event(self, health: str, target: Target, found: Mapping[str, Any], time_ms: int) -> Event:
        return Event(health, target, time_ms, self._ms(found.get("from")), self._ms(found.get("to")), found)

    def _ms(self, text: object) -> int | None:
        time_ns = self._stamps.time(text) if isinstance(text, str) else None
        return None if time_ns is None else time_ns // 1_000_000


def _target(found: object) -> Target | None:
    if not isinstance(found, dict):
        return None
    return Target(*(str(found.get(name, "")) for name in ("namespace", "pod", "uid", "container", "node")))
