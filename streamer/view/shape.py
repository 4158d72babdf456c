"""What the page gets: rows, details, coverage and marks, as JSON. Values are texts, never numbers above 2^53."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import orjson

from streamer.transform.stamp import StampReader
from streamer.view import recipes
from streamer.view.health import ClusterHealth, Event
from streamer.view.records import Entry
from streamer.view.ring import Ring
from streamer.view.verdict import current_pods, state_of

_MOST_VARIANTS: Final = 500
_MOST_MARKS: Final = 500
_MOST_PODS: Final = 1_000
_BADNESS: Final = {"blind": 0, "text": 1, "unreported": 2, "silent": 3, "following": 4}


def row(ring: Ring, entry: Entry) -> dict[str, Any]:
    """One row of the list."""
    series = entry.series
    found = {
        "id": entry.id,
        "place": f"{entry.time_ms}.{entry.sequence}",
        "time_ms": entry.time_ms,
        "kind": entry.kind.name.lower(),
        "priority": series.priority.label,
        "rule": series.rule,
        "cluster": series.cluster,
        "namespace": series.namespace,
        "pod": entry.pod,
        "process": entry.process,
        "user": entry.user,
        "node": series.node,
        "source": series.source,
        "text": entry.text,
    }
    return found | repeats(ring, entry)


def repeats(ring: Ring, entry: Entry) -> dict[str, Any]:
    """The growing count on a row."""
    summaries = ring.repeats(entry)
    return {
        "repeats": sum(each.count for each in summaries),
        "last_ms": max((each.time_ms for each in summaries), default=None),
    }


def details(ring: Ring, entry: Entry, stamps: StampReader) -> dict[str, Any]:
    """All that is known of one row."""
    alert = entry.alert(stamps)
    value = entry.value.decode(errors="replace")
    found = row(ring, entry) | {
        "topic": entry.topic,
        "partition": entry.partition,
        "offset": str(entry.offset),
        "key": entry.key.decode(errors="replace"),
        "headers": [[name, held.decode(errors="replace")] for name, held in entry.headers],
        "value": value,
        "value_bytes": len(entry.value),
        "fields": [],
        "output": "",
        "tags": list(entry.series.tags),
        "hostname": "",
        "recipes": {},
        **_suppressed(ring.repeats(entry)),
    }
    if alert is not None:
        output = orjson.loads(entry.value).get("output")
        found["fields"] = [[name, as_text(held)] for name, held in alert.fields.items()]
        found["output"] = output if isinstance(output, str) else ""
        found["hostname"] = alert.hostname
        found["recipes"] = {
            "tap": recipes.tap(alert),
            "filter": recipes.filter_entry(alert),
            "exception": recipes.exception(alert),
        }
    return found


def as_text(value: Any) -> str:
    """A field's value as it is shown: texts as they are, all else as JSON."""
    if isinstance(value, str):
        return value
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # nested deeper than it writes
        return "(nested too deep to be shown; the record has it)"


def _suppressed(summaries: Iterable[Entry]) -> dict[str, Any]:
    """The variants of all summaries of a window, those that came last first."""
    variants: dict[str, dict[str, Any]] = {}
    parts = []
    for entry in summaries:
        try:
            found = orjson.loads(entry.value)
        except orjson.JSONDecodeError:
            continue
        summary = found.get("summary") if isinstance(found, dict) else None
        if not isinstance(summary, dict):
            continue
        parts.append(
            {
                "id": entry.id,
                "time_ms": entry.time_ms,
                "count": entry.count,
                "reason": str(summary.get("reason")),
                "final": summary.get("final") is True,
            }
        )
        for variant in summary.get("variants") or ():
            if isinstance(variant, dict):
                _add_variant(variants, variant)
    ordered = sorted(variants.values(), key=lambda each: str(each["last_seen"]), reverse=True)
    return {"summaries": parts, "variants": ordered[:_MOST_VARIANTS], "variant_count": len(ordered)}


def _add_variant(variants: dict[str, dict[str, Any]], variant: dict[str, Any]) -> None:
    identity, fields = str(variant.get("id")), variant.get("fields")
    count = variant.get("count")
    known = variants.get(identity)
    if known is None:
        variants[identity] = {
            "id": identity,
            "count": count if type(count) is int else 0,
            "new": variant.get("new") is True,
            "first_seen": str(variant.get("first_seen")),
            "last_seen": str(variant.get("last_seen")),
            "fields": [[name, as_text(held)] for name, held in fields.items()]
            if isinstance(fields, dict)
            else [],
        }
        return
    known["count"] += count if type(count) is int else 0
    known["new"] = known["new"] or variant.get("new") is True
    known["last_seen"] = max(known["last_seen"], str(variant.get("last_seen")))


def coverage(clusters: Iterable[ClusterHealth], now_ms: int) -> dict[str, Any]:
    """The Falco pods, the worst first."""
    pods: list[dict[str, Any]] = []
    counts: dict[str, dict[str, int]] = {}
    for health in clusters:
        counted: dict[str, int] = {}
        for pod in current_pods(health, now_ms):
            state = state_of(pod, now_ms)
            counted[state] = counted.get(state, 0) + 1
            voice = health.voices.get(pod.target.pod_name)
            pods.append(
                {
                    "cluster": health.name,
                    "node": pod.target.node,
                    "namespace": pod.target.namespace,
                    "pod": pod.target.pod,
                    "container": pod.target.container,
                    "state": state,
                    "since_ms": pod.since_ms,
                    "reported_ms": pod.reported_ms,
                    "lines": pod.lines,
                    "last_ms": voice.last_ms if voice is not None and voice.last_ms else None,
                    "delay_ms": voice.delay_ms if voice is not None else None,
                }
            )
        counts[health.name] = counted
    pods.sort(key=lambda pod: (_BADNESS.get(pod["state"], 0), pod["cluster"], pod["node"], pod["pod"]))
    return {"pods": pods[:_MOST_PODS], "pod_count": len(pods), "counts": counts}


def marks(clusters: Iterable[ClusterHealth], from_ms: int, to_ms: int) -> list[dict[str, Any]]:
    """Gaps, storms and reports of Falco's in a stretch of time, for the timeline."""
    found: list[dict[str, Any]] = []
    for health in clusters:
        for event in (*health.events, *health.ended_storms, *health.storms.values()):
            if event.health == "dead_letters_limited":
                continue
            first = event.from_ms if event.from_ms is not None else event.time_ms
            active = event.health == "storm" and event.content.get("state") != "ended"
            last = to_ms if active else event.to_ms if event.to_ms is not None else event.time_ms
            if event.health == "falco_report":
                first = last = event.time_ms
            if first < to_ms and max(first, last) >= from_ms:
                found.append(
                    {
                        "health": event.health,
                        "cluster": health.name,
                        "from_ms": first,
                        "to_ms": max(first, last),
                        "what": _what(event),
                        "certain": event.content.get("certain") is True,
                    }
                )
    found.sort(key=lambda mark: mark["from_ms"])
    return found[-_MOST_MARKS:]


def _what(event: Event) -> str:
    content, pod = event.content, event.target.pod_name
    match event.health:
        case "gap":
            lost = "lines are lost" if content.get("certain") is True else "lines may be lost"
            return f"{pod}: {lost} ({content.get('reason')})"
        case "storm":
            return (
                f"{pod}: storm over the limit `{content.get('limit')}` {content.get('name') or ''}".rstrip()
            )
        case _:
            return f"{pod}: {content.get('rule')}"
