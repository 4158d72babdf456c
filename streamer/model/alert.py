"""What a line of Falco's log can be: an alert, a line of text, or something malformed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

from streamer.model.priority import Priority


class Alert(NamedTuple):
    """One of Falco's alerts. `body` is its JSON as Falco wrote it and is what reaches Kafka."""

    body: bytes
    rule: str
    priority: Priority
    source: str
    time: str
    """Falco's own `time`, RFC 3339 in UTC, or "" where it is missing or no time."""
    time_ns: int
    """`time` in nanoseconds; the line's where `time` is ""."""
    hostname: str
    tag_list: Sequence[Any]
    """As it was read; `tags` are the texts in it."""
    fields: Mapping[str, Any]

    @property
    def tags(self) -> tuple[str, ...]:
        """What the rule's author has tagged it with."""
        return tuple([tag for tag in self.tag_list if type(tag) is str])


class TextClass(StrEnum):
    """The kinds of text that Falco itself prints beside its alerts; none is an error."""

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
