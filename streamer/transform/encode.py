"""Make Kafka records of alerts, summaries, dead letters and health records.

An alert's value is its bytes as Falco wrote them. Everything else that is known is in headers, each fact once: the
core attributes of CloudEvents 1.0, as its Kafka protocol binding writes them in binary mode (`ce_` before their names,
`content-type` for `datacontenttype`), and plain names that consumers filter by.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final
from urllib.parse import quote

import orjson

from streamer.model import (
    Alert,
    CoverageReport,
    Gap,
    Health,
    Malformed,
    Priority,
    Reason,
    Record,
    RecordKind,
    Target,
)
from streamer.model.record import Headers, SharedHeaders
from streamer.transform.limit import Bucket, StormBucket
from streamer.transform.stamp import to_rfc3339
from streamer.transform.volatile import Kind

SECOND_NS: Final = 1_000_000_000
_DAY_NS: Final = 24 * 3600 * SECOND_NS
_FIVE_MINUTES_NS: Final = 300 * SECOND_NS
_HEADER_BYTES: Final = 256
"""A header repeats text that attackers may influence: it is cut, the value is not."""
_COUNTERS_CHARACTERS: Final = 16_384
"""Of a report's names and values: a health record too large for its topic could not be replaced."""

_MOST_RULES: Final = 1000
"""Rules are few. A flood of names only costs the one who sends it."""
_NO_FIELDS: Final[Mapping[str, str]] = {}
_TYPES: Final = {
    kind: f"org.falco.{kind.replace('-', '')}.v{2 if kind is RecordKind.SUMMARY else 1}"
    for kind in RecordKind
}


def create_time_ms(alert_ns: int, line_ns: int, now_ns: int) -> int:
    """A record's CreateTime in milliseconds.

    The alert's own time where it is plausible compared with the line's (Falco may hold lines back in its buffer for
    long), never later than five minutes from now: Kafka refuses a whole batch for one record of the future.
    """
    plausible = line_ns - _DAY_NS <= alert_ns <= line_ns + _FIVE_MINUTES_NS
    time_ns = alert_ns if plausible else line_ns
    return (time_ns if time_ns <= now_ns + _FIVE_MINUTES_NS else now_ns) // 1_000_000


class TargetEncoder:
    """Encodes what one target's log gives; what is the same for all its records is made once."""

    __slots__ = (
        "_alert_headers",
        "_annotate",
        "_cluster",
        "_common",
        "_fields",
        "_own_headers",
        "_rule_headers",
        "_target",
        "id_prefix",
        "key",
    )

    def __init__(
        self, cluster: str, target: Target, *, annotate: bool = False, fields: Mapping[str, str] = _NO_FIELDS
    ) -> None:
        self._cluster = cluster
        self._annotate = annotate
        self._fields = fields
        self._target = target
        self.key = target.pod_name.encode()
        self.id_prefix = hashlib.sha256(f"{cluster}\0{target.uid}\0{target.container}".encode()).hexdigest()[
            :12
        ]
        source = f"/clusters/{quote(cluster)}/namespaces/{quote(target.namespace)}/pods/{quote(target.pod)}"
        self._common: Headers = [
            ("content-type", b"application/json"),
            ("ce_specversion", b"1.0"),
            ("ce_source", source.encode()),
            ("cluster", cluster.encode()),
            ("node", target.node.encode()),
            *((name, value.encode()) for name, value in fields.items()),
        ]
        self._rule_headers: dict[tuple[RecordKind, str, Priority, str], SharedHeaders] = {}
        self._alert_headers: dict[str, dict[str, tuple[Priority, SharedHeaders]]] = {}
        # By limit and rule: mostly all alerts of a rule have one priority.
        self._own_headers: dict[tuple[str, ...], SharedHeaders] = {}

    def line_id(self, line_digest: str, ordinal: int) -> str:
        """The `ce_id` of what comes of a line: the same each time the line is read.

        `line_digest` is the SHA-256 of the raw line in hexadecimal, `ordinal` how many equal lines stand among
        the 64 before it.
        """
        known = f"{self.id_prefix}-{line_digest[:32]}"
        return f"{known}-{ordinal}" if ordinal else known

    def alert(
        self, alert: Alert, identity: str, topic: str, line_ns: int, now_ns: int, limited_by: str = ""
    ) -> Record:
        """The record of an alert; `limited_by` names the limit that diverted it to this topic."""
        time = alert.time or to_rfc3339(line_ns)
        if (by_rule := self._alert_headers.get(limited_by)) is None:
            by_rule = self._alert_headers[limited_by] = {}
        known = by_rule.get(alert.rule)
        if known is None or known[0] is not alert.priority:
            known = alert.priority, self._headers_of_rule(RecordKind.ALERT, alert, limited_by)
            if len(by_rule) >= _MOST_RULES:
                by_rule.clear()
            by_rule[alert.rule] = known
        return Record(
            topic,
            self.key,
            self._annotated(alert.body, identity, RecordKind.ALERT) if self._annotate else alert.body,
            time,
            known[1],
            create_time_ms(alert.time_ns, line_ns, now_ns),
            identity,
        )

    def summary(
        self, value: bytes, sample: Alert, identity: str, topic: str, last_ns: int, line_ns: int, now_ns: int
    ) -> Record:
        """The record of a summary: the headers of its alerts, with a kind of its own.

        `last_ns` is the time of the last alert that was counted, `line_ns` that of its line.
        """
        return Record(
            topic,
            self.key,
            self._annotated(value, identity, RecordKind.SUMMARY) if self._annotate else value,
            to_rfc3339(last_ns),
            self._headers_of_rule(RecordKind.SUMMARY, sample),
            create_time_ms(last_ns, line_ns, now_ns),
            identity,
        )

    def dead_letter(
        self,
        found: Malformed,
        line: bytes,
        original_bytes: int,
        identity: str,
        topic: str,
        line_ns: int,
        now_ns: int,
    ) -> Record:
        """The record of a line that could not be published; `line` may be only its beginning."""
        value: dict[str, Any] = {
            "reason": found.reason,
            "detail": found.detail,
            **self._origin,
            "line_time": to_rfc3339(line_ns),
            "original_bytes": original_bytes,
            "truncated": len(line) < original_bytes,
            "line": line.decode(errors="replace"),
        }
        if not _is_utf8(line):
            value["line_base64"] = base64.b64encode(line).decode()
        return self._record(RecordKind.DEAD_LETTER, value, identity, topic, line_ns, now_ns)

    def gap(self, gap: Gap, lines_before: int, topic: str, line_ns: int, now_ns: int) -> Record:
        """The record of a hole in the log, after `lines_before` lines of the target."""
        value = {
            "reason": gap.reason,
            "certain": gap.certain,
            **self._origin,
            "from": None if gap.from_ns is None else to_rfc3339(gap.from_ns),
            "to": None if gap.to_ns is None else to_rfc3339(gap.to_ns),
            "detail": gap.detail,
            "evidence": gap.evidence,
        }
        identity = self._event_id("gap", gap.reason, lines_before, gap.from_ns, gap.to_ns)
        return self._health(Health.GAP, value, identity, topic, line_ns, now_ns)

    def dead_letters_held(
        self, reason: Reason, bucket: Bucket, lines_before: int, topic: str, now_ns: int
    ) -> Record:
        """The health record that counts the dead letters that a limit kept back; it follows `lines_before` lines.

        Its CreateTime is the present: Kafka could refuse an old one for ever.
        """
        value = {
            "reason": reason,
            **self._origin,
            "count": bucket.held,
            "from": to_rfc3339(bucket.held_from_ns),
            "to": to_rfc3339(bucket.held_to_ns),
        }
        identity = self._event_id("held", reason, lines_before, bucket.held_from_ns, bucket.held_to_ns)
        record = self._health(Health.DEAD_LETTERS_LIMITED, value, identity, topic, bucket.held_to_ns, now_ns)
        return record._replace(timestamp_ms=now_ns // 1_000_000)

    def storm(
        self, bucket: StormBucket, lines_before: int, topic: str, now_ns: int, *, ended: bool
    ) -> Record:
        """The health record that a limit has been exceeded for long, or is not any more."""
        state = "ended" if ended else "started"
        value = {
            "state": state,
            "limit": bucket.limit,
            "name": bucket.name,
            "workload": bucket.workload,
            **self._origin,
            "count": bucket.held,
            "from": to_rfc3339(bucket.held_from_ns),
            "to": to_rfc3339(bucket.held_to_ns),
        }
        identity = self._event_id(
            "storm", state, bucket.limit, bucket.name, lines_before, bucket.held_from_ns
        )
        record = self._health(Health.STORM, value, identity, topic, bucket.held_to_ns, now_ns)
        return record._replace(timestamp_ms=now_ns // 1_000_000)

    def volatile_fields(self, kind: Kind, topic: str, line_ns: int, now_ns: int) -> Record:
        """The health record that these fields differ in nearly every alert of a source that nobody has configured."""
        value = {
            "source": kind.source,
            "rule": kind.rule,
            "fields": kind.volatile,
            **self._origin,
        }
        identity = self._event_id("volatile_fields", kind.source, kind.rule, kind.volatile, line_ns)
        return self._health(Health.VOLATILE_FIELDS, value, identity, topic, line_ns, now_ns)

    def coverage(
        self, report: CoverageReport, lines_before: int, sequence: int, topic: str, now_ns: int
    ) -> Record:
        """The health record that says whether alerts of this target would arrive; `sequence` is that of its commit."""
        value = {
            "coverage": report.coverage,
            **self._origin,
            "since": to_rfc3339(report.since_ns),
            "changed": report.changed,
            "lines": lines_before,
        }
        identity = self._event_id("coverage", report.coverage, sequence, now_ns)
        return self._health(Health.COVERAGE, value, identity, topic, now_ns, now_ns)

    def falco_report(self, alert: Alert, alert_id: str, topic: str, line_ns: int, now_ns: int) -> Record:
        """The health record that Falco itself is not well: it dropped events, or could not restart."""
        value = {
            "rule": alert.rule,
            **self._origin,
            "alert_id": alert_id,
            "counters": _counters(alert.fields),
        }
        identity = self._event_id("falco_report", alert_id)
        return self._health(Health.FALCO_REPORT, value, identity, topic, line_ns, now_ns)

    def internal_error(
        self, part: str, found: Mapping[str, Any], name: str, topic: str, time_ns: int, now_ns: int
    ) -> Record:
        """The health record that takes the place of one that could not be made; `name` tells it from others.

        Its CreateTime is the present: nothing of it may depend on what the core has failed at.
        """
        value = {"part": part, **self._origin, **found}
        identity = self._event_id("internal_error", part, name)
        record = self._health(Health.INTERNAL_ERROR, value, identity, topic, time_ns, now_ns)
        return record._replace(timestamp_ms=now_ns // 1_000_000)

    @property
    def _origin(self) -> dict[str, Any]:
        """Whose log it is, in the values of our own records."""
        return {"cluster": self._cluster, "target": asdict(self._target)}

    def _health(
        self, health: Health, value: dict[str, Any], identity: str, topic: str, time_ns: int, now_ns: int
    ) -> Record:
        value = {"health": health, **value}
        return self._record(RecordKind.HEALTH, value, identity, topic, time_ns, now_ns)

    def _record(
        self, kind: RecordKind, value: dict[str, Any], identity: str, topic: str, time_ns: int, now_ns: int
    ) -> Record:
        """A record of our own; what its value is about and why is in the headers as well."""
        about = [(name, value[name].encode()) for name in ("health", "reason") if name in value]
        key = (kind, *(text.decode() for _, text in about))
        shared = self._own_headers.get(key)
        if shared is None:
            headers = [*_kind_headers(kind), *about, *self._common]
            shared = self._own_headers[key] = SharedHeaders(kind, headers)
        time_ms = create_time_ms(time_ns, time_ns, now_ns)
        return Record(topic, self.key, orjson.dumps(value), to_rfc3339(time_ns), shared, time_ms, identity)

    def _annotated(self, body: bytes, identity: str, kind: RecordKind) -> bytes:
        """The value with what we know of it as its last key; up to there, its bytes are the original ones."""
        ours = {
            "id": identity,
            "cluster": self._cluster,
            "node": self._target.node,
            "kind": kind,
            **self._fields,
        }
        return b'%b,"falco_streamer":%b}' % (body.rstrip()[:-1], orjson.dumps(ours))

    def _headers_of_rule(self, kind: RecordKind, alert: Alert, limited_by: str = "") -> SharedHeaders:
        """The headers that all records of a rule share."""
        key = (kind, alert.rule, alert.priority, limited_by)
        known = self._rule_headers.get(key)
        if known is None:
            if len(self._rule_headers) >= _MOST_RULES:
                self._rule_headers.clear()
            headers = [
                ("rule", alert.rule.encode()[:_HEADER_BYTES].decode(errors="ignore").encode()),
                ("priority", alert.priority.label.encode()),
                *_kind_headers(kind),
                *self._common,
            ]
            if limited_by:
                headers.append(("limited_by", limited_by.encode()))
            known = self._rule_headers[key] = SharedHeaders(kind, headers)
        return known

    def summary_id(self, group: bytes, head: bytes, part: int, tries: int, piece: int) -> str:
        """The `ce_id` of a summary: the same for the same piece of the same part of the same window.

        A window differs from others of its group by its first alert: several may begin at one time.
        """
        return self._event_id("summary", group.hex(), head.hex(), part, tries, piece)

    def head_id(self, head: bytes) -> str:
        """The `ce_id` of a window's first alert, from what the window keeps of it."""
        return self.line_id(head[:16].hex(), head[16])

    def _event_id(self, *parts: object) -> str:
        text = "\0".join(map(str, parts))
        return f"{self.id_prefix}-{hashlib.sha256(text.encode()).hexdigest()[:32]}"


def _kind_headers(kind: RecordKind) -> Headers:
    return [
        ("kind", kind.encode()),
        ("ce_type", _TYPES[kind].encode()),
    ]


def _counters(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a report that fit a health record; the alert itself, which is published as well, has them all."""
    counters, room = {}, _COUNTERS_CHARACTERS
    for name, value in fields.items():
        if value is None or isinstance(value, str | int | float):
            size = len(name) + len(str(value))
            if size <= room:
                counters[name] = value
                room -= size
    return counters


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
