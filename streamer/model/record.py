"""What leaves: Kafka records, and the changes of state that are committed with them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple

from streamer.model.alert import Reason
from streamer.model.ledger import Ledger
from streamer.model.target import Target


class RecordKind(StrEnum):
    """What a record is; consumers find it in the header `kind`."""

    ALERT = "alert"
    DEAD_LETTER = "dead-letter"
    HEALTH = "health"
    SUMMARY = "summary"


class Health(StrEnum):
    """What a health record reports; consumers find it in the header `health`."""

    COVERAGE = "coverage"
    GAP = "gap"
    STORM = "storm"
    FALCO_REPORT = "falco_report"
    DEAD_LETTERS_LIMITED = "dead_letters_limited"
    VOLATILE_FIELDS = "volatile_fields"
    INTERNAL_ERROR = "internal_error"


CORE_FIELDS: Final = frozenset(
    ("content-type", "id", "cluster", "node", "kind", "rule", "priority", "limited_by", "health", "reason")
)
"""The names of headers and of `falco_streamer` that have a meaning; so have all that begin with `ce_`."""

Headers = list[tuple[str, bytes]]


class SharedHeaders:
    """The headers that many records have in common: all but `ce_id` and `ce_time`.

    All these records hold the same object, so that it is encoded once and counted once.
    """

    __slots__ = ("_hash", "headers", "kind")

    def __init__(self, kind: RecordKind, headers: Headers) -> None:
        """`headers` must not change afterwards."""
        self.kind = kind
        self.headers = headers
        self._hash = hash(tuple(headers))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SharedHeaders) and self.headers == other.headers

    def __hash__(self) -> int:
        return self._hash

    def texts(self) -> dict[str, str]:
        """The headers by their names."""
        return {name: value.decode() for name, value in self.headers}


class Record(NamedTuple):
    """One Kafka record. `timestamp_ms` is its CreateTime in milliseconds."""

    topic: str
    key: bytes
    value: bytes
    time: str
    """Its `ce_time`."""
    shared: SharedHeaders
    timestamp_ms: int
    id: str
    """Its `ce_id`."""

    @property
    def headers(self) -> Headers:
        """All its headers, in the order in which they are sent."""
        return [("ce_id", self.id.encode()), ("ce_time", self.time.encode()), *self.shared.headers]


class Change(NamedTuple):
    """One changed key of a shard's state; no value is a tombstone."""

    key: str
    value: bytes | None


@dataclass(slots=True)
class Publication:
    """What one transaction writes: records, changes of the shard's state, and the ledger after it."""

    records: list[Record] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    ledger: Ledger = field(default_factory=Ledger)
    lines: int = 0
    """Lines whose outcome this publication settles."""
    malformed: Counter[tuple[Target, Reason]] = field(default_factory=Counter)
    """What was wrong with lines, for the log and the metrics."""
    filtered: Counter[str] = field(default_factory=Counter)
    """Alerts that each filter dropped, by its name."""
    volatile_fields: list[tuple[Target, str, str, tuple[str, ...]]] = field(default_factory=list)
    """Source, rule and fields that were found to differ in nearly every alert, for the log."""
    evictions: int = 0
    """Windows that were forgotten because there were too many."""
