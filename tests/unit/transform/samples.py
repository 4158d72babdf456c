"""Lines as Falco's pods write them, and what a shard needs to take them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import orjson

from streamer.model import DigestRing, Gap, LogBatch, Oversize, Priority, Target
from streamer.transform.align import advance
from streamer.transform.fingerprint import FingerprintPlan, KeyFields
from streamer.transform.limit import Rate
from streamer.transform.plan import Plan
from streamer.transform.route import Router
from streamer.transform.stamp import to_rfc3339
from streamer.transform.treatment import DedupePlan, LimitPlan

SECOND_NS = 1_000_000_000
START_NS = 1_795_168_800 * SECOND_NS  # 2026-11-20T10:00:00Z
NOW_NS = START_NS + 3600 * SECOND_NS

FALCO = Target("falco", "falco-x7k2p", "0d2b4c1e-5f60-4f6e-9a51-7e1d2c3b4a59", "falco", "node-1")
OTHER = Target("falco", "falco-9qq4z", "77aa5c0e-1b2c-4d3e-8f90-a1b2c3d4e5f6", "falco", "node-2")

PLAN = Plan(
    cluster="prod-eu-1",
    router=Router({priority: f"falco.alerts.{priority.label}" for priority in Priority}),
    dead_letter_topic="falco.dead-letter",
    health_topic="falco.health",
    overflow_topic="falco.overflow",
    summaries_topic="falco.summaries",
    dead_letters=Rate(per_minute=60, burst=3),
    dedupe=DedupePlan(enabled=False),
    limits=LimitPlan(enabled=False),
)
"""Every alert passes: for tests of what stands around deduplication and limits."""

DEDUPED = replace(
    PLAN,
    dedupe=DedupePlan(
        max_variants=3,
        fingerprint=FingerprintPlan({"syscall": KeyFields(("proc.name",))}, volatile=("evt.*",)),
    ),
)
"""Groups by process name, of which few variants pass: for tests of summaries."""


def alert(time_ns: int = START_NS, **changed: Any) -> bytes:
    """A current Falco's alert: compact, keys in bytewise order. A key changed to `...` is left out."""
    time = to_rfc3339(time_ns)
    found = {
        "hostname": "node-1",
        "output": f"{time[11:29]}: Notice A shell was spawned in a container | command=sh -c ls",
        "output_fields": {
            "container.id": "3ad7b26ded6d",
            "evt.time": time_ns,
            "k8s.ns.name": "shop",
            "k8s.pod.name": "web-6d4b75cb6d-hx7zn",
            "proc.cmdline": "sh -c ls",
            "user.loginuid": -1,
        },
        "priority": "Notice",
        "rule": "Terminal shell in container",
        "source": "syscall",
        "tags": ["T1059", "container", "mitre_execution"],
        "time": time,
    } | changed
    return orjson.dumps({key: value for key, value in found.items() if value is not ...})


def shell(time_ns: int, command: Any, priority: str = "Notice", **fields: Any) -> bytes:
    """An alert of one group, unless `proc.name` is another."""
    every = {"proc.name": "sh", "proc.cmdline": command, "evt.time": time_ns, "user.name": "root"}
    return alert(time_ns, priority=priority, output_fields=every | fields)


def stamped(body: bytes, time_ns: int) -> bytes:
    """The line of the log API for a body."""
    return to_rfc3339(time_ns).encode() + b" " + body


class Feed:
    """A target's log as batches: keeps the ring, as a follower does."""

    def __init__(self, target: Target = FALCO, *, is_stamped: bool = True) -> None:
        self.target = target
        self.ring = DigestRing()
        self._is_stamped = is_stamped

    def batch(
        self,
        *lines: tuple[int, bytes],
        oversize: dict[int, Oversize] | None = None,
        fragments: int = 0,
        gap: Gap | None = None,
    ) -> LogBatch:
        """A batch of bodies with their times."""
        raw = [stamped(body, time_ns) if self._is_stamped else body for time_ns, body in lines]
        return self.raw_batch(raw, [time_ns for time_ns, _ in lines], oversize, fragments, gap)

    def raw_batch(
        self,
        raw: Sequence[bytes],
        times_ns: Sequence[int],
        oversize: dict[int, Oversize] | None = None,
        fragments: int = 0,
        gap: Gap | None = None,
    ) -> LogBatch:
        """A batch of lines as the API sent them."""
        self.ring = advance(self.ring, raw, oversize or {})
        return LogBatch(
            self.target,
            list(raw),
            list(times_ns) if self._is_stamped else [],
            self.ring,
            sum(map(len, raw)),
            self._is_stamped,
            oversize or {},
            fragments,
            gap,
        )
