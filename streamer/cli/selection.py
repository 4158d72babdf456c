"""Which records `tap` shows: a pure choice by what is in a record."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Final

import orjson

from streamer.cli.workload import NAMESPACES
from streamer.model import Alert, Health, Priority
from streamer.transform.matcher import Matcher, texts
from streamer.transform.parse import parse
from streamer.transform.stamp import StampReader

_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d)")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_ALERTS: Final = frozenset({"alert", "summary"})


@dataclass(frozen=True, slots=True)
class Selection:
    """All conditions must hold.

    Records that are not alerts' have no priority and no fields: a condition on these leaves them out.
    """

    kinds: Collection[str]
    coverage: bool = True
    """Whether health records of the kind `coverage` are shown, which come for each target again and again."""
    clusters: Sequence[str] = ()
    """Globs over the record's cluster, of which any may match; so for the others."""
    nodes: Sequence[str] = ()
    priority: Priority | None = None
    """The least severe that is shown."""
    rules: Sequence[str] = ()
    namespaces: Sequence[str] = ()
    """Globs over the namespace of the workload that the alert is about."""
    matchers: Sequence[Matcher] = ()
    """All of them must match."""
    excluded: Sequence[Matcher] = ()
    """None of them may match; they say nothing about records that are not alerts'."""
    _stamps: StampReader = field(default_factory=StampReader, compare=False, repr=False)

    def takes(self, headers: Mapping[str, bytes], value: bytes) -> bool:
        """Whether a record is shown."""
        kind, health = _header(headers, "kind"), _header(headers, "health")
        if kind not in self.kinds or (health == Health.COVERAGE and not self.coverage):
            return False
        for globs, name in ((self.clusters, "cluster"), (self.nodes, "node")):
            if globs and not any(fnmatchcase(_header(headers, name), glob) for glob in globs):
                return False
        if kind not in _ALERTS:
            return not self._asks_for_alerts
        if not (self._asks_for_alerts or self.excluded):
            return True
        alert = parse(value, 0, self._stamps)
        return isinstance(alert, Alert) and self._takes(alert)

    @property
    def _asks_for_alerts(self) -> bool:
        return bool(self.priority is not None or self.rules or self.namespaces or self.matchers)

    def _takes(self, alert: Alert) -> bool:
        if self.priority is not None and alert.priority > self.priority:
            return False
        if self.rules and not any(fnmatchcase(alert.rule, rule) for rule in self.rules):
            return False
        if self.namespaces:
            about = [text for name in NAMESPACES for text in texts(alert.fields.get(name)) if text]
            if not any(fnmatchcase(name, wanted) for name in about for wanted in self.namespaces):
                return False
        return all(matcher.compile()(alert) for matcher in self.matchers) and not any(
            matcher.compile()(alert) for matcher in self.excluded
        )


def _header(headers: Mapping[str, bytes], name: str) -> str:
    return headers.get(name, b"").decode(errors="replace")


def since_ms(text: str, now_ms: int) -> int:
    """A moment from `15m`, `2h`, `1d` ago, or an RFC 3339 time, in ms since the epoch. Raises ValueError."""
    if found := _DURATION.fullmatch(text):
        return now_ms - round(float(found[1]) * _SECONDS[found[2]] * 1000)
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("the time has no zone")
    return round(moment.timestamp() * 1000)


def as_json(topic: str, partition: int | None, offset: int | None, timestamp_ms: int, key: bytes | None, value: bytes,
            headers: Sequence[tuple[str, bytes]]) -> bytes:  # fmt: skip
    """A record with everything that Kafka has of it, as one JSON object; null for what only Kafka can know."""
    try:
        content: object = orjson.Fragment(value) if isinstance(orjson.loads(value), dict) else None
    except orjson.JSONDecodeError:
        content = None
    return orjson.dumps(
        {
            "topic": topic,
            "partition": partition,
            "offset": offset,
            "timestamp_ms": timestamp_ms,
            "key": None if key is None else key.decode(errors="replace"),
            "headers": {name: held.decode(errors="replace") for name, held in headers},
            "value": value.decode(errors="replace") if content is None else content,
        }
    )
