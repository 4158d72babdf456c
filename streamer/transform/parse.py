"""Tell what a line is: one of Falco's alerts, Falco's own text, or something malformed.

Falco prints alerts (JSON, one object a line) to stdout, and its operational log to stderr as text, whatever
`json_output` says; the log API merges the two. Alerts themselves are text where JSON output is off, which is
the default of Falco and of every chart.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any, Final

import orjson

from streamer.model import Alert, Malformed, Priority, Reason, TextClass, TextLine
from streamer.model.priority import PRIORITIES
from streamer.transform.stamp import StampReader, to_rfc3339

_PRIORITY_WORDS: Final = "|".join(p.name.capitalize() for p in Priority).encode()
# Falco's `output` begins with the local time, or with an ISO 8601 one (time_format_iso_8601), then the priority.
_TEXT_ALERT: Final = re.compile(
    rb"(?:\d\d:\d\d:\d\d\.\d{9}|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}(?:Z|[+-]\d\d:?\d\d)): (?:"
    + _PRIORITY_WORDS
    + rb") "
)
# `Fri Nov 20 10:00:00 2026: text`, or `2026-11-20T10:00:00+0000: text`.
_LOG: Final = re.compile(
    rb"(?:[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \d{4}"
    rb"|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:Z|[+-]\d\d:?\d\d)): "
)
_STATISTICS: Final = re.compile(
    rb"Events detected: |Rule counts by severity:|Triggered rules by rule name:|Syscall event drop monitoring:"
    rb"|   ?[^:]+: \d+$"
)
# Keys that only an alert has: a line that holds one is a part of an alert, or text with one glued to it.
_ALERT_KEYS: Final = (b'"priority":', b'"output_fields":', b'"rule":')
# What is left of an alert without its beginning: a member of an object, or the end of one.
_MEMBER: Final = re.compile(rb'":["{\[\d-]')
_OBJECT_END: Final = re.compile(rb'(?:["\]}]|:[\w.+-]*)\}$')

_INTERNAL: Final = "Falco internal: "


def is_internal(rule: str) -> bool:
    """Whether an alert is Falco's report on itself, such as `Falco internal: syscall event drop`."""
    return rule.startswith(_INTERNAL)


def parse(body: bytes, line_ns: int, stamps: StampReader) -> Alert | TextLine | Malformed:
    """Classify a line's text (without its timestamp). `line_ns` stands in where an alert has no time."""
    if body[-1:] == b"\r":  # a container with a TTY ends its lines so
        body = body[:-1]
    if body[:1] != b"{":
        return _parse_text(body)
    try:
        found: dict[str, Any] = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        return Malformed(Reason.INVALID_JSON, str(error))
    rule, priority_name = found.get("rule"), found.get("priority")
    if type(rule) is not str or type(priority_name) is not str:
        missing = "rule" if type(rule) is not str else "priority"
        return Malformed(Reason.NOT_AN_ALERT, f'no "{missing}" of type string')
    priority = PRIORITIES.get(priority_name) or Priority.parse(priority_name)
    if priority is None:
        return Malformed(Reason.UNKNOWN_PRIORITY, f"priority {priority_name[:40]!r}")
    written = found.get("time")
    time: str = written if type(written) is str else ""
    time_ns = stamps.time(time) if time else None
    if time_ns is None:
        time, time_ns = "", line_ns
    elif len(time) != 30 or time[10] != "T" or time[29] != "Z":  # not as Falco writes it
        time = to_rfc3339(time_ns)
    source, hostname, tags = found.get("source"), found.get("hostname"), found.get("tags")
    fields = found.get("output_fields")
    return Alert(
        body,
        rule,
        priority,
        source if type(source) is str else "syscall",  # the only source there was before Falco named it
        time,
        time_ns,
        hostname if type(hostname) is str else "",
        tags if type(tags) is list else (),
        fields if type(fields) is dict else {},
    )


def _parse_text(body: bytes) -> Alert | TextLine | Malformed:
    if _TEXT_ALERT.match(body):
        return Malformed(Reason.TEXT_ALERT, "an alert printed as text")
    holds_alert_key = any(key in body for key in _ALERT_KEYS)
    if _LOG.match(body) and not holds_alert_key:
        return TextLine(TextClass.LOG)
    text = body.strip()
    if not text:
        return TextLine(TextClass.EMPTY)
    if text[:1] in (b"{", b"["):
        with suppress(orjson.JSONDecodeError):
            orjson.loads(text)
            return Malformed(Reason.NOT_AN_ALERT, "JSON, but not an alert on a line of its own")
    if holds_alert_key or text[:1] == b"{" or _MEMBER.search(text) or _OBJECT_END.search(text[-64:]):
        return Malformed(Reason.INVALID_JSON, "a piece of JSON, or JSON glued to other text")
    if _STATISTICS.match(body):
        return TextLine(TextClass.STATISTICS)
    return TextLine(TextClass.OTHER)
