"""What a line of Falco's log can be: an alert, a line of text, or something malformed."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any, Final, NamedTuple

from streamer.model.priority import Priority


class Alert:
    """One of Falco's alerts. `body` is its JSON as Falco wrote it and is what reaches Kafka.

    A plain class instead of a NamedTuple: the core makes one for each line and reads it a dozen times. Compiled, a
    read of a NamedTuple's field costs a look-up, that of a class's a pointer.
    """

    __slots__ = ("body", "fields", "hostname", "priority", "rule", "source", "tag_list", "time", "time_ns")

    def __init__(
        self,
        body: bytes,
        rule: str,
        priority: Priority,
        source: str,
        time: str,
        time_ns: int,
        hostname: str,
        tag_list: Sequence[Any],
        fields: dict[str, Any],
    ) -> None:
        self.body: Final = body
        self.rule: Final = rule
        self.priority: Final = priority
        self.source: Final = source
        self.time: Final = time
        """Falco's own `time`, RFC 3339 in UTC, or "" where it is missing or no time."""
        self.time_ns: Final = time_ns
        """`time` in nanoseconds; the line's where `time` is ""."""
        self.hostname: Final = hostname
        self.tag_list: Final = tag_list
        """As it was read; `tags` are the texts in it."""
        self.fields: Final = fields

    def __repr__(self) -> str:
        return f"Alert({self.body!r})"

    @property
    def tags(self) -> tuple[str, ...]:
        """What the rule's author has tagged it with."""
        return tuple([tag for tag in self.tag_list if type(tag) is str])


class TextClass(StrEnum):
    """The kinds of text that Falco itself prints in addition to its alerts; none is an error."""

    EMPTY = "empty"
    LOG = "log"  # Falco's operational log: start-up banner, messages, warnings
    STATISTICS = "statistics"  # what Falco prints when it exits
    OTHER = "other"


class TextLine(NamedTuple):
    """A line of Falco's own text: counted, never published."""

    text_class: TextClass


class Reason(StrEnum):
    """Why a line or record went to the dead-letter topic."""

    TEXT_ALERT = "text_alert"
    INVALID_JSON = "invalid_json"
    NOT_AN_ALERT = "not_an_alert"
    UNKNOWN_PRIORITY = "unknown_priority"
    LINE_TOO_LONG = "line_too_long"
    RECORD_TOO_LARGE = "record_too_large"  # Kafka refused it for its size
    INVALID_TIMESTAMP = "invalid_timestamp"  # Kafka refused it for its time
    INTERNAL_ERROR = "internal_error"  # the core failed at it


class Malformed(NamedTuple):
    """A line that is neither an alert nor Falco's text; `detail` says in a few words what is wrong."""

    reason: Reason
    detail: str
