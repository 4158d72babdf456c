"""Records as a viewer reads them."""

from __future__ import annotations

from typing import Any

import orjson

from streamer.model import Target
from streamer.sink import Message
from streamer.transform.stamp import to_rfc3339

NOW_MS = 1_795_172_400_000
"""2026-11-20T11:00:00Z."""
POD = Target("falco", "falco-a", "uid-a", "falco", "node-1")


def seen(
    value: bytes, kind: str = "alert", time_ms: int = NOW_MS, *, key: bytes = b"falco/falco-a", **headers: str
) -> Message:
    given = {"ce_id": "id", "kind": kind, "cluster": "prod", "node": "node-1"} | headers
    return Message(
        "topic", 0, 0, key, value, [(name, text.encode()) for name, text in given.items()], time_ms
    )


def alert(
    identity: str = "a1",
    rule: str = "Shell",
    priority: str = "Warning",
    time_ms: int = NOW_MS,
    *,
    tags: tuple[str, ...] = ("T1059",),
    cluster: str = "prod",
    node: str = "node-1",
    limited_by: str = "",
    **fields: Any,
) -> Message:
    time = to_rfc3339(time_ms * 1_000_000)
    output_fields = {"k8s.ns.name": "shop", "k8s.pod.name": "web-1", "proc.name": "sh", "user.name": "root"}
    value = {
        "output": f"{time[11:29]}: {priority} {rule} happened",
        "output_fields": output_fields | {name.replace("__", "."): held for name, held in fields.items()},
        "priority": priority,
        "rule": rule,
        "source": "syscall",
        "tags": tags,
        "time": time,
    }
    more: dict[str, Any] = {"limited_by": limited_by} if limited_by else {}
    headers: dict[str, Any] = {
        "ce_id": identity,
        "rule": rule,
        "priority": priority.lower(),
        "cluster": cluster,
        "node": node,
    }
    return seen(orjson.dumps(value), "alert", time_ms, **headers, **more)


def summary(
    head_id: str,
    variants: list[tuple[str, int, str]],
    time_ms: int = NOW_MS,
    identity: str = "s1",
    **changed: Any,
) -> Message:
    """Of one window: each variant has an id, a count and a command line."""
    time = to_rfc3339(time_ms * 1_000_000)
    first = to_rfc3339((time_ms - 50_000) * 1_000_000)
    value = orjson.loads(alert(time_ms=time_ms, **changed).value or b"")
    value["summary"] = {
        "count": sum(count for _, count, _ in variants),
        "head_id": head_id,
        "reason": "window_end",
        "final": True,
        "variants": [
            {
                "id": variant, "fields": {"proc.cmdline": line}, "new": True, "count": count,
                "first_seen": first, "last_seen": time,
            }
            for variant, count, line in variants
        ],
    }  # fmt: skip
    return seen(orjson.dumps(value), "summary", time_ms, ce_id=identity, rule="Shell", priority="warning")


def health(
    health: str, time_ms: int = NOW_MS, target: Target = POD, cluster: str = "prod", **content: Any
) -> Message:
    whose = {name: getattr(target, name) for name in ("namespace", "pod", "uid", "container", "node")}
    value = {"health": health, "cluster": cluster, "target": whose, **content}
    return seen(orjson.dumps(value), "health", time_ms, cluster=cluster, node=target.node)


def coverage(
    state: str, time_ms: int = NOW_MS, target: Target = POD, since_ms: int | None = None, **more: Any
) -> Message:
    since = to_rfc3339((time_ms if since_ms is None else since_ms) * 1_000_000)
    return health("coverage", time_ms, target, coverage=state, since=since, changed=True, lines=7, **more)
