"""What the viewer takes from a record: the facts that it lists, counts and filters by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from sys import intern
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from streamer.model import Alert, Priority
from streamer.model.record import Headers
from streamer.transform.matcher import texts
from streamer.transform.parse import parse
from streamer.transform.stamp import StampReader

if TYPE_CHECKING:
    from streamer.sink import Message

_NAMESPACES: Final = ("k8s.ns.name", "ka.target.namespace")
_PODS: Final = ("k8s.pod.name", "ka.target.name")
_PROCESSES: Final = ("proc.name",)
_USERS: Final = ("user.name", "ka.user.name")
_IMAGES: Final = ("container.image.repository",)
_SHOWN: Final = 200
"""Characters of a value that the list shows; the details have all of it."""
_TEXT_SHOWN: Final = 400
_OWN_BYTES: Final = 2_500
"""About what a kept record takes in memory besides its value."""
_OF_ONE: Final = frozenset({"ce_id", "ce_time"})
"""Headers that are another in each record; the values of all others are few."""
_MOST_SHARED: Final = 20_000


class Kind(IntEnum):
    """What became of an alert."""

    PUBLISHED = 0
    OVERFLOW = 1
    """Whole on the overflow topic, where a limit diverted it."""
    REPEATED = 2
    """Counted in a summary."""


KINDS: Final = len(Kind)


class Series(NamedTuple):
    """The facts that alerts are counted by; alerts with the same ones are counted together."""

    cluster: str
    priority: Priority
    rule: str
    namespace: str
    """That of the workload which the alert is about."""
    node: str
    image: str
    source: str
    tags: tuple[str, ...]


@dataclass(slots=True, eq=False)
class Entry:
    """A record that is kept: an alert, or a summary of repeats."""

    sequence: int
    time_ms: int
    kind: Kind
    id: str
    """Its `ce_id`."""
    series: Series
    pod: str
    process: str
    user: str
    text: str
    head_id: str
    """Of a summary: the `ce_id` of the alert that opened its window. Else ""."""
    count: int
    """How many alerts it stands for."""
    topic: str
    partition: int
    offset: int
    key: bytes
    value: bytes
    headers: Headers
    spread: tuple[tuple[int, int], ...]
    """Second and number of the alerts that it stands for."""

    @property
    def place(self) -> tuple[int, int]:
        """Where it stands in the list: by time, then by arrival."""
        return self.time_ms, self.sequence

    @property
    def size_bytes(self) -> int:
        """About how much memory it takes."""
        return len(self.value) + _OWN_BYTES

    def alert(self, stamps: StampReader) -> Alert | None:
        """The alert as matchers see it."""
        found = parse(self.value, self.time_ms * 1_000_000, stamps)
        return found if isinstance(found, Alert) else None


class RecordReader:
    """Makes entries of records; health records and others are none."""

    def __init__(self) -> None:
        self._stamps = StampReader()
        self._sequence = 0
        self._series: dict[Series, Series] = {}
        self._values: dict[bytes, bytes] = {}

    def entry(self, seen: Message, kind: str, headers: Mapping[str, bytes]) -> Entry | None:
        """The entry of a record of kind `alert` or `summary`; None where it is neither.

        What is not as the schema says is shown by its headers, which are always there.
        """
        if kind not in {"alert", "summary"}:
            return None
        value = seen.value or b""
        found = parse(value, seen.timestamp_ms * 1_000_000, self._stamps)
        alert = found if isinstance(found, Alert) else None
        self._sequence += 1
        fields: Mapping[str, Any] = alert.fields if alert is not None else {}
        priority = alert.priority if alert is not None else Priority.parse(_text(headers, "priority"))
        summary = _summary(value) if kind == "summary" else {}
        what = Kind.OVERFLOW if "limited_by" in headers else Kind.PUBLISHED
        count = summary.get("count") if kind == "summary" else 1
        count = count if type(count) is int and count > 0 else 1
        time_s = seen.timestamp_ms // 1000
        return Entry(
            sequence=self._sequence,
            time_ms=seen.timestamp_ms,
            kind=Kind.REPEATED if kind == "summary" else what,
            id=_text(headers, "ce_id"),
            series=self._same_series(
                Series(
                    _text(headers, "cluster"),
                    priority if priority is not None else Priority.DEBUG,
                    alert.rule[:_SHOWN] if alert is not None else _text(headers, "rule"),
                    _first(fields, _NAMESPACES),
                    _text(headers, "node"),
                    _first(fields, _IMAGES),
                    alert.source[:_SHOWN] if alert is not None else "",
                    tuple(tag[:_SHOWN] for tag in alert.tags[:20]) if alert is not None else (),
                )
            ),
            pod=_first(fields, _PODS),
            process=_first(fields, _PROCESSES),
            user=_first(fields, _USERS),
            text=_message(value, alert),
            head_id=str(summary.get("head_id") or "") if kind == "summary" else "",
            count=count,
            topic=seen.topic,
            partition=seen.partition,
            offset=seen.offset,
            key=seen.key or b"",
            value=value,
            headers=self._same_headers(seen.headers),
            spread=self._spread(summary, count, time_s) if kind == "summary" else ((time_s, 1),),
        )

    def _same_series(self, series: Series) -> Series:
        """The equal series of an earlier record: thousands of records share one."""
        if len(self._series) >= _MOST_SHARED:
            self._series.clear()
        return self._series.setdefault(series, series)

    def _same_headers(self, headers: Headers) -> Headers:
        """The same headers, made of the names and values of earlier ones."""
        if len(self._values) >= _MOST_SHARED:
            self._values.clear()
        share = self._values.setdefault
        return [(intern(name), value if name in _OF_ONE else share(value, value)) for name, value in headers]

    def _spread(self, summary: Mapping[str, Any], count: int, last_s: int) -> tuple[tuple[int, int], ...]:
        """When the repeats happened, as far as the summary says: each variant's evenly from first to last."""
        found: dict[int, int] = {}
        left = count
        for variant in summary.get("variants") or ():
            if not isinstance(variant, dict) or type(number := variant.get("count")) is not int:
                continue
            number = min(max(number, 0), left)
            left -= number
            first = self._second(variant.get("first_seen"), last_s)
            spread_evenly(found, min(first, last_s), self._second(variant.get("last_seen"), last_s), number)
        if left:
            found[last_s] = found.get(last_s, 0) + left
        return tuple(found.items())

    def _second(self, text: object, otherwise: int) -> int:
        time_ns = self._stamps.time(text) if isinstance(text, str) else None
        return otherwise if time_ns is None else time_ns // 1_000_000_000


def spread_evenly(into: dict[int, int], first_s: int, last_s: int, count: int, step_s: int = 15) -> None:
    """Add `count` events to seconds from the first to the last, evenly, in steps of `step_s` at least."""
    steps = min(count - 1, max(last_s - first_s, 0) // step_s)
    if steps <= 0:
        if count > 0:
            into[last_s] = into.get(last_s, 0) + count
        return
    done = 0
    for step in range(steps + 1):
        upto = count * (step + 1) // (steps + 1)
        second = first_s + (last_s - first_s) * step // steps
        into[second] = into.get(second, 0) + upto - done
        done = upto


def _summary(value: bytes) -> Mapping[str, Any]:
    try:
        found = orjson.loads(value)
    except orjson.JSONDecodeError:
        return {}
    summary = found.get("summary") if isinstance(found, dict) else None
    return summary if isinstance(summary, dict) else {}


def _text(headers: Mapping[str, bytes], name: str) -> str:
    return headers.get(name, b"").decode(errors="replace")[:_SHOWN]


def _first(fields: Mapping[str, Any], names: Sequence[str]) -> str:
    """The first of these fields that has a text."""
    for name in names:
        for text in texts(fields.get(name)):
            if text and text != "<NA>":
                return text[:_SHOWN]
    return ""


def _message(value: bytes, alert: Alert | None) -> str:
    """What happened, without the time and priority that Falco's `output` repeats."""
    if alert is None:
        return value[:_TEXT_SHOWN].decode(errors="replace")
    output = orjson.loads(value).get("output")
    if not isinstance(output, str):
        return ""
    _, found, message = output.partition(f": {alert.priority.name.capitalize()} ")
    return (message if found else output)[:_TEXT_SHOWN]
