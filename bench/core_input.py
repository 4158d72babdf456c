"""Input for the core alone: alerts as batches of stamped lines, which is how a follower hands them over."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, Final

from bench.data import alerts
from streamer.config import Settings
from streamer.model import DigestRing, LogBatch, Target
from streamer.plan import plan_of
from streamer.simulator import AlertGenerator
from streamer.transform.align import advance
from streamer.transform.plan import Plan
from streamer.transform.stamp import to_rfc3339

NODES: Final = 14
START_NS: Final = 1_790_000_000_000_000_000
STEP_NS: Final = 1_000_000
TARGETS: Final = [Target("falco", f"falco-{n}", f"uid-{n}", "falco", f"node-{n}") for n in range(NODES)]
_CONTAINER: Final = re.compile(rb'"container\.id":(?:"[^"]*"|null)')


def usual(count: int) -> Iterator[bytes]:
    """The simulator's skew: some hundred kinds of alerts make most of them."""
    yield from alerts(count)


def distinct(count: int) -> Iterator[bytes]:
    """No two of a group: each comes from a container of its own."""
    generator = AlertGenerator(1, sources=("syscall",))
    for n in range(count):
        found = generator.alert(START_NS + n * STEP_NS, f"node-{n % NODES}")
        yield _CONTAINER.sub(b'"container.id":"%012x"' % n, found, count=1)


def flood(count: int) -> Iterator[bytes]:
    """One group on each node that repeats."""
    generator = AlertGenerator(1, combinations=1, sources=("syscall",))
    for n in range(count):
        yield generator.alert(START_NS + n * STEP_NS, f"node-{n % NODES}")


MIXES: Final[dict[str, Callable[[int], Iterator[bytes]]]] = {
    "the usual skew": usual,
    "no two alike": distinct,
    "one group repeats": flood,
}


def plan(*, on: bool, limited: bool = True, **dedupe: Any) -> Plan:
    """A shard's plan by default, with deduplication and limits or without them. `dedupe` is what else is set."""
    return plan_of(
        Settings.model_validate(
            {
                "cluster": "bench",
                "kafka": {"bootstrap_servers": ["kafka:9092"]},
                "dedupe": {"enabled": on, **dedupe},
                "limits": {"enabled": on and limited},
            }
        )
    )


def commits(bodies: Iterator[bytes], lines: int, targets: int = NODES) -> Iterator[list[LogBatch]]:
    """What the transactions of a shard take in: `lines` lines each, a batch for each target."""
    rings = [DigestRing()] * targets
    time_ns = START_NS
    while found := list(islice(bodies, lines)):
        split: list[tuple[list[bytes], list[int]]] = [([], []) for _ in range(targets)]
        for n, body in enumerate(found):
            raw, times_ns = split[n % targets]
            raw.append(to_rfc3339(time_ns).encode() + b" " + body)
            times_ns.append(time_ns)
            time_ns += STEP_NS
        batches = []
        for n, (raw, times_ns) in enumerate(split):
            rings[n] = advance(rings[n], raw, {})
            batches.append(LogBatch(TARGETS[n], raw, times_ns, rings[n], sum(map(len, raw))))
        yield batches
