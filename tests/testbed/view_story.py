"""A quarter of an hour of two clusters, with a bit of everything, to look at the viewer's page with."""

from __future__ import annotations

import random
import time
from dataclasses import replace
from typing import Any, Final

import orjson

from streamer.simulator import AlertGenerator
from streamer.sink import Message
from streamer.transform.stamp import to_rfc3339
from tests.unit.view.records import POD, coverage, health, seen, summary

_CLUSTERS: Final = {
    "prod-eu-1": tuple(f"eu-worker-{number}" for number in range(1, 7)),
    "prod-us-1": tuple(f"us-worker-{number}" for number in range(1, 4)),
}
_ALERTS: Final = 900
_STORM: Final = (300, 345)


def story() -> list[Message]:
    """One node is blind, one had a gap, and a job that started shells had a storm."""
    return [*_alerts(random.Random(3)), *_health()]


def at(seconds_ago: float) -> int:
    """A time in milliseconds."""
    return time.time_ns() // 1_000_000 - round(seconds_ago * 1000)


def _alerts(rng: random.Random) -> list[Message]:
    generator = AlertGenerator(11, sources=("syscall", "k8s_audit"))
    found = []
    for number in range(_ALERTS):
        age = rng.gauss(325, 12) if number % 4 == 0 else rng.random() * 890 + 0.5
        cluster = rng.choice(("prod-eu-1", "prod-eu-1", "prod-us-1"))
        node = rng.choice(_CLUSTERS[cluster])
        value = generator.alert(at(age) * 10**6, node)
        alert = orjson.loads(value)
        headers = {
            "ce_id": f"s{number}",
            "cluster": cluster,
            "node": node,
            "rule": alert["rule"],
            "priority": alert["priority"].lower(),
        }
        if number % 8 == 0 and _STORM[0] < age < _STORM[1]:
            headers["limited_by"] = "workload"
        found.append(
            seen(value, "alert", at(age), key=f"falco/falco-{node[:2]}{node[-1]}".encode(), **headers)
        )
        if number % 6 == 0 and "limited_by" not in headers:
            names = range(rng.randrange(1, 4))
            variants = [(f"v{number}-{n}", rng.randrange(1, 40), f"sh -c 'step {n}'") for n in names]
            repeats = summary(f"s{number}", variants, at(max(age - 55, 0.2)))
            counted = {**alert, "summary": orjson.loads(repeats.value or b"")["summary"]}
            headers |= {"ce_id": f"r{number}"}
            found.append(
                seen(
                    orjson.dumps(counted),
                    "summary",
                    repeats.timestamp_ms,
                    key=found[-1].key or b"",
                    **headers,
                )
            )
    return found


def _health() -> list[Message]:
    found = []
    for cluster, nodes in _CLUSTERS.items():
        for node in nodes:
            target = replace(POD, pod=f"falco-{node[:2]}{node[-1]}", uid=f"uid-{node}", node=node)
            blind = node == "eu-worker-4"
            reported, state = (at(48), "blind") if blind else (at(5), "following")
            found.append(coverage(state, reported, target, at(48), cluster=cluster))
            if node == "eu-worker-2":
                gap: dict[str, Any] = {"reason": "rotation_unseen", "certain": False, **_stretch(520, 490)}
                found.append(health("gap", at(490), target, cluster, **gap))
                storm = {"state": "ended", "limit": "workload", "name": "Run shell untrusted", "count": 60}
                workload = {"workload": {"k8s.ns.name": "ci"}, **_stretch(_STORM[1], _STORM[0])}
                found.append(health("storm", at(290), target, cluster, **storm, **workload))
    return found


def _stretch(first: float, last: float) -> dict[str, str]:
    return {"from": to_rfc3339(at(first) * 10**6), "to": to_rfc3339(at(last) * 10**6)}
