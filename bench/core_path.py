"""The path of a repeat through the core, step by step: what each costs, of one line that comes again and again."""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Callable
from typing import Final

import orjson

from bench.core_input import START_NS, TARGETS, plan, usual
from streamer.model import Alert, DigestRing, LogBatch
from streamer.transform.context import Context
from streamer.transform.outcome import BatchRun
from streamer.transform.parse import parse
from streamer.transform.stamp import StampReader, body_start, to_rfc3339
from streamer.transform.state import ShardState
from streamer.transform.windows import Windows
from streamer.transform.writer import Writer

_ROUNDS: Final = 40
_LOOPS: Final = 5_000


def bench() -> str:
    """The table of this benchmark."""
    print("bench: the path of a repeat", file=sys.stderr)
    body = max(
        list(usual(50)), key=lambda found: b'"fd.name":"10.' in found
    )  # a connection, with a client port
    line = to_rfc3339(START_NS).encode() + b" " + body
    stamps = StampReader()
    alert = parse(body, START_NS, stamps)
    assert isinstance(alert, Alert)
    context = Context(plan(on=True), ShardState("bench", key=bytes(16)))
    tracked = context.state.take(TARGETS[0])
    run = BatchRun(context, tracked, Writer(context, START_NS, None))
    run.take(LogBatch(TARGETS[0], [line] * 3, [START_NS] * 3, DigestRing(), 3 * len(line)))
    treatments, windows = context.treatments_of(tracked), tracked.windows
    treatment, encoder = treatments.of(alert), context.encoder(tracked.target)
    fingerprint = treatment.selection.fingerprint(alert)
    assert fingerprint is not None
    window = windows.get(fingerprint.group)
    assert window is not None
    ordinals = iter(range(START_NS + 1, 2 * START_NS))
    deduplicator, selection = context.deduplicator, treatment.selection

    def whole() -> None:
        time_ns = next(ordinals)
        run._line(0, line, line[body_start(line) :], time_ns, True)  # noqa: SLF001 -- a line, without its batch

    steps: list[tuple[str, Callable[[], object]]] = [
        ("the text behind the timestamp", lambda: line[body_start(line) :]),
        ("`orjson.loads` (C)", lambda: orjson.loads(body)),
        ("that, and rule, priority, source, time, host name, fields", lambda: parse(body, START_NS, stamps)),
        (
            "the kind: names of fields, compared with those of the rule's last alert",
            lambda: treatments.of(alert),
        ),
        (
            "fields as JSON, without what normalisers take out; their hashes",
            lambda: selection.fingerprint(alert),
        ),
        (
            "the window, and whether it has shown this",
            lambda: _shown(windows, fingerprint.group, fingerprint.variant),
        ),
        (
            "counting it",
            lambda: deduplicator.count(windows, window, fingerprint.variant, treatment, alert, START_NS, 0),
        ),
        ("the whole of a repeat", whole),
        ("what it is spared: SHA-256 of the line", lambda: hashlib.sha256(line).digest()),
        (
            "what it is spared: id, headers, record",
            lambda: encoder.alert(alert, "x" * 45, "t", START_NS, START_NS),
        ),
        ("what it is spared: whose limits", lambda: treatment.workload.keys(alert)),
    ]
    found = ["### The path of a repeat", "", "| step | ns |", "|---|---:|"]
    found += [f"| {name} | {_cost_ns(step):,.0f} |" for name, step in steps]
    return "\n".join(found) + "\n"


def _shown(windows: Windows, group: bytes, variant: bytes) -> bool:
    window = windows.get(group)
    return window is not None and window.has_shown(variant)


def _cost_ns(step: Callable[[], object]) -> float:
    """The least of many rounds: what the step takes where nothing else runs."""
    rounds = []
    for _ in range(_ROUNDS):
        at = time.process_time_ns()
        for _ in range(_LOOPS):
            step()
        step_ns = time.process_time_ns() - at
        at = time.process_time_ns()
        for _ in range(_LOOPS):
            _nothing()
        rounds.append((step_ns - (time.process_time_ns() - at)) / _LOOPS)
    return min(rounds)


def _nothing() -> None:
    pass
