"""A day in a cluster of 14 nodes: as many alerts of each rule as were once counted there, from made-up pods.

What was counted: 29,465 `Contact K8S API Server From Container`, 3,150 `Run shell untrusted`, 450 `Drop and execute new
binary in container` and 5 reports of dropped events in 24 hours. Which pods they came from, and when, was not: that is
assumed here, and `NOISES` says what.
"""

from __future__ import annotations

import datetime as dt
import itertools
import random
import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from streamer.simulator.other_rules import DROP_RULE
from streamer.simulator.syscall_rules import SYSCALL_RULES
from streamer.simulator.templates import alert_template, drop_template
from streamer.simulator.workloads import WORKLOADS

CONTACT: Final = "Contact K8S API Server From Container"
SHELL: Final = "Run shell untrusted"
DROP: Final = "Drop and execute new binary in container"
COUNTS: Final = {CONTACT: 29_465, SHELL: 3_150, DROP: 450, DROP_RULE: 5}
NODES: Final = 14
START_NS: Final = 1_795_132_800 * 10**9  # 2026-11-20T00:00:00Z
_VERSION: Final = (0, 44)
_LETTERS: Final = "bcdfghjklmnpqrstvwxz2456789"


class Noise(NamedTuple):
    """What pods of one workload do again and again."""

    rule: str
    act: str
    """How the command line of the act begins."""
    workload: str
    nodes: tuple[int, ...]
    """The nodes on which the workload has a pod."""
    every_seconds: float
    burst: int = 1
    """Alerts each time, within two seconds."""
    hours: tuple[int, int] = (0, 24)
    is_job: bool = False
    """Each time it is another pod, on one of the nodes."""


NOISES: Final = (
    Noise(CONTACT, "fluent-bit", "fluent-bit", tuple(range(14)), 1140, burst=6),
    Noise(CONTACT, "kube-state-metrics", "kube-state-metrics", (3,), 420, burst=12),
    Noise(CONTACT, "argocd", "argocd-application-controller", (5,), 10),
    Noise(CONTACT, "python3 -m kopf", "jupyter-hub", (0,), 5, hours=(8, 18)),
    Noise(CONTACT, "python3 -m kopf", "spark-worker", (11,), 30),
    Noise(CONTACT, "java", "ledger-api", (1, 6, 9), 120),
    Noise(SHELL, 'sh -c "redis-cli', "cart-redis", (2,), 60),
    Noise(SHELL, "bash -c 'set -o pipefail; pg_isready", "catalogue-postgres", (7,), 60),
    Noise(SHELL, "sh -c curl", "checkout", (4, 8), 600),
    Noise(
        DROP, "pip-build-env", "gitlab-runner", (10, 11, 12, 13), 1440, burst=15, hours=(7, 19), is_job=True
    ),
)
_SECONDS: Final = 86_400
STORM: Final = Noise(SHELL, 'sh -c "redis-cli', "cart-redis", (9,), 0.02, is_job=True)
"""A job that is started 50 times a second, each time in a pod of its own."""
STORM_SECONDS: Final = 120


class Line(NamedTuple):
    """One line of the log of the Falco pod on a node."""

    time_ns: int
    node: int
    body: bytes


def lines(seed: int = 0) -> list[Line]:
    """All lines of the day, in the order of time."""
    rng = random.Random(seed)
    found: list[Line] = []
    for rule, count in COUNTS.items():
        every = [line for noise in NOISES if noise.rule == rule for line in _noise(noise, rng)]
        every += [_drop_report(rng) for _ in range(count) if rule == DROP_RULE]
        found += rng.sample(every, count)  # the noises make a few more than were counted
    return sorted(found)


def storm(seed: int = 0) -> list[Line]:
    """Two minutes after midnight in which `STORM` is all there is."""
    rng = random.Random(seed)
    end_ns = START_NS + STORM_SECONDS * 10**9
    return sorted(itertools.takewhile(lambda line: line.time_ns < end_ns, _noise(STORM, rng)))


def _noise(noise: Noise, rng: random.Random) -> Iterator[Line]:
    rule = next(rule for rule in SYSCALL_RULES if rule.name == noise.rule)
    act = next(act for act in rule.acts if act.cmdline.startswith(noise.act))
    workload = next(workload for workload in WORKLOADS if workload.name == noise.workload)
    begin, end = (hour * 3600 for hour in noise.hours)
    for home in noise.nodes[:1] if noise.is_job else noise.nodes:
        template = alert_template(rng, rule, act, workload, _VERSION, message_key=False)
        if noise.is_job:  # also where its workload numbers its pods
            template = re.sub(rb'("k8s.pod.name":")[^"]*', rb"\1job-%(pod)b", template)
        node, pod = home, _pod(rng)
        at = begin + rng.random() * noise.every_seconds
        while at < end:
            if noise.is_job:
                node, pod = rng.choice(noise.nodes), _pod(rng)
            for _ in range(noise.burst):
                yield _line(template, at + rng.random() * 2 * (noise.burst > 1), node, pod, rng)
            # A period is never exact: by a hundredth more or less.
            at += noise.every_seconds * rng.uniform(0.99, 1.01)


def _drop_report(rng: random.Random) -> Line:
    return _line(drop_template(_VERSION), rng.random() * _SECONDS, rng.randrange(NODES), _pod(rng), rng)


def _pod(rng: random.Random) -> tuple[bytes, bytes]:
    """What distinguishes a pod from others of its workload: the ends of its name and of its container's id."""
    return "".join(rng.choices(_LETTERS, k=5)).encode(), b"%05x" % rng.getrandbits(20)


def _line(template: bytes, at: float, node: int, pod: tuple[bytes, bytes], rng: random.Random) -> Line:
    event_ns = START_NS + int(min(at, _SECONDS - 1) * 10**9)
    second, nanosecond = divmod(event_ns, 10**9)
    time = dt.datetime.fromtimestamp(second, dt.UTC)
    fraction = b"%09d" % nanosecond
    body = template % {
        b"host": b"node-%d" % (node + 1),
        b"pod": pod[0],
        b"cid": pod[1],
        b"clock": f"{time:%H:%M:%S}.".encode() + fraction,
        b"iso": f"{time:%Y-%m-%dT%H:%M:%S}.".encode() + fraction + b"Z",
        b"ns": b"%d" % event_ns,
        b"port": b"%d" % rng.randrange(32_768, 61_000),
        b"number": b"%d" % rng.randrange(256),
        b"temp": b"%08x" % rng.getrandbits(32),
    }
    # Falco stamps the event, the runtime the line, a little later.
    return Line(event_ns + rng.randrange(200_000, 3_000_000), node, body)
