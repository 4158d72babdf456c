"""Make Kafka records of alerts, dead letters, gaps and notices.

An alert's value is its bytes as Falco wrote them. Everything we know besides stands in headers, as CloudEvents
1.0 in Kafka's binary mode, with the plain names that consumers filter by.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import asdict
from typing import Any, Final
from urllib.parse import quote

import orjson

from streamer.model import Alert, Gap, Malformed, Priority, Reason, Record, RecordKind, Target
from streamer.model.record import Headers
from streamer.transform.limit import Bucket
from streamer.transform.stamp import to_rfc3339

SECOND_NS: Final = 1_000_000_000
_DAY_NS: Final = 24 * 3600 * SECOND_NS
_FIVE_MINUTES_NS: Final = 300 * SECOND_NS
_HEADER_BYTES: Final = 256
"""A header repeats text that attackers may influence: it is cut, the value is not."""

_TYPES: Final = {kind: f"org.falco.{kind.replace('-', '')}.v1" for kind in RecordKind}


def create_time_ms(alert_ns: int, line_ns: int, now_ns: int) -> int:
    """A record's CreateTime in milliseconds.

    The alert's own time where it is plausible beside the line's (Falco may hold lines back in its buffer for
    long), never later than five minutes from now: Kafka refuses a whole batch for one record of the future.
    """
    plausible = line_ns - _DAY_NS <= alert_ns <= line_ns + _FIVE_MINUTES_NS
    time_ns = alert_ns if plausible else line_ns
    return (time_ns if time_ns <= now_ns + _FIVE_MINUTES_NS else now_ns) // 1_000_000


class TargetEncoder:
    """Encodes what one target's log gives; what is the same for all its records is made once."""

    __slots__ = ("_alert_headers", "_annotate", "_cluster", "_common", "_target", "id_prefix", "key")

    def __init__(self, cluster: str, target: Target, *, annotate: bool = False) -> None:
        self._cluster = cluster
        self._annotate = annotate
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
            ("ce_subject", self.key),
            ("cluster", cluster.encode()),
            ("ce_cluster", cluster.encode()),
            ("node", target.node.encode()),
        ]
        self._alert_headers: dict[tuple[str, Priority], Headers] = {}

    def line_id(self, line_digest: str, ordinal: int) -> str:
        """The `ce_id` of what comes of a line: the same each time the line is read.

        `line_digest` is the SHA-256 of the raw line in hexadecimal, `ordinal` how many equal lines stand among
        the 64 before it.
        """
        known = f"{self.id_prefix}-{line_digest[:32]}"
        return f"{known}-{ordinal}" if ordinal else known

    def alert(self, alert: Alert, identity: str, topic: str, line_ns: int, now_ns: int) -> Record:
        """The record of an alert."""
        kind = (alert.rule, alert.priority)
        fixed = self._alert_headers.get(kind)
        if fixed is None:
            if len(self._alert_headers) >= 1000:  # rules are few; whoever floods us with names pays for it
                self._alert_headers.clear()
            fixed = self._alert_headers[kind] = self._headers_of_rule(*kind)
        time = alert.time or to_rfc3339(line_ns)
        return Record(
            topic,
            self.key,
            self._annotated(alert.body, identity) if self._annotate else alert.body,
            [("ce_id", identity.encode()), ("ce_time", time.encode()), *fixed],
            create_time_ms(alert.time_ns, line_ns, now_ns),
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
            "cluster": self._cluster,
            "target": asdict(self._target),
            "line_time": to_rfc3339(line_ns),
            "original_bytes": original_bytes,
            "truncated": len(line) < original_bytes,
            "line": line.decode(errors="replace"),
        }
        if not _is_utf8(line):
            value["line_base64"] = base64.b64encode(line).decode()
        headers = [("reason", found.reason.encode())]
        return self._record(RecordKind.DEAD_LETTER, value, headers, identity, topic, line_ns, now_ns)

    def gap(self, gap: Gap, lines_before: int, topic: str, line_ns: int, now_ns: int) -> Record:
        """The record of a hole in the log, after `lines_before` lines of the target."""
        value = {
            "reason": gap.reason,
            "certain": gap.certain,
            "cluster": self._cluster,
            "target": asdict(self._target),
            "from": None if gap.from_ns is None else to_rfc3339(gap.from_ns),
            "to": None if gap.to_ns is None else to_rfc3339(gap.to_ns),
            "detail": gap.detail,
        }
        identity = self._event_id("gap", gap.reason, lines_before, gap.from_ns, gap.to_ns)
        headers = [("reason", gap.reason.encode())]
        return self._record(RecordKind.GAP, value, headers, identity, topic, line_ns, now_ns)

    def dead_letters_held(
        self, reason: Reason, bucket: Bucket, lines_before: int, topic: str, now_ns: int
    ) -> Record:
        """The notice that counts the dead letters that a limit kept back; it follows `lines_before` lines.

        Told by our clock, so its CreateTime is the present: an old one could be refused for ever.
        """
        value = {
            "notice": "dead_letters_limited",
            "reason": reason,
            "cluster": self._cluster,
            "target": asdict(self._target),
            "count": bucket.held,
            "from": to_rfc3339(bucket.held_from_ns),
            "to": to_rfc3339(bucket.held_to_ns),
        }
        identity = self._event_id("held", reason, lines_before, bucket.held_from_ns, bucket.held_to_ns)
        headers = [("reason", reason.encode())]
        notice = self._record(RecordKind.NOTICE, value, headers, identity, topic, bucket.held_to_ns, now_ns)
        return notice._replace(timestamp_ms=now_ns // 1_000_000)

    def _record(
        self,
        kind: RecordKind,
        value: dict[str, Any],
        headers: Headers,
        identity: str,
        topic: str,
        time_ns: int,
        now_ns: int,
    ) -> Record:
        every = [
            ("ce_id", identity.encode()),
            ("ce_time", to_rfc3339(time_ns).encode()),
            *_kind_headers(kind),
            *headers,
            *self._common,
        ]
        time_ms = create_time_ms(time_ns, time_ns, now_ns)
        return Record(topic, self.key, orjson.dumps(value), every, time_ms, identity)

    def _annotated(self, body: bytes, identity: str) -> bytes:
        """The alert with what we know of it as its last key; up to there, its bytes are the original ones."""
        ours = {"id": identity, "cluster": self._cluster, "node": self._target.node, "kind": RecordKind.ALERT}
        return b'%b,"falco_streamer":%b}' % (body.rstrip()[:-1], orjson.dumps(ours))

    def _headers_of_rule(self, rule: str, priority: Priority) -> Headers:
        label = priority.label.encode()
        return [
            ("rule", rule.encode()[:_HEADER_BYTES].decode(errors="ignore").encode()),
            ("priority", label),
            ("ce_priority", label),
            *_kind_headers(RecordKind.ALERT),
            *self._common,
        ]

    def _event_id(self, *parts: object) -> str:
        text = "\0".join(map(str, parts))
        return f"{self.id_prefix}-{hashlib.sha256(text.encode()).hexdigest()[:32]}"


def _kind_headers(kind: RecordKind) -> Headers:
    return [
        ("kind", kind.encode()),
        ("ce_kind", kind.encode()),
        ("ce_type", _TYPES[kind].encode()),
        ("ce_dataschema", f"urn:falco-streamer:schema:{_TYPES[kind]}".encode()),
    ]


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
