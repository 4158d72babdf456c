"""The core alone: what deduplication and limits cost an alert, from its line to its encoded record."""

from __future__ import annotations

import multiprocessing
import resource
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import Final, TypeVar

import orjson

from bench.core_input import MIXES, commits, plan
from bench.measure import Cost, Row, table
from streamer.cli.loop import spare_the_collector
from streamer.model import Ledger
from streamer.transform.process import Processor
from streamer.transform.state import ShardState

Result = TypeVar("Result")
_COMMIT_LINES: Final = 1400
"""A hundred lines of each of 14 targets: what a shard that catches up takes at once."""


def bench(count: int, runs: int) -> str:
    """The tables of this benchmark, one for each mix."""
    tables = []
    for mix in MIXES:
        floor: list[Cost] = []
        costs: dict[bool, list[Cost]] = {False: [], True: []}
        for n in range(runs):
            print(f"bench: core, {mix}, run {n + 1} of {runs}", file=sys.stderr)
            floor.append(alone(partial(_floor, mix, count)))
            for on, found in costs.items():
                cost, ledger = alone(partial(_process, mix, count, on=on))
                found.append(cost)
        share = f"{ledger.deduplicated / count:.1%} deduplicated, {ledger.limited / count:.1%} to overflow"
        rows = [
            Row("orjson.loads of each (C)", count, floor),
            Row("parse, route, encode", count, costs[False]),
            Row(f"and deduplicate, limit: {share}", count, costs[True]),
        ]
        tables.append(table(f"The core alone: {count:,} alerts, {mix}, {runs} runs", rows))
    return "\n".join(tables)


def _floor(mix: str, count: int) -> Cost:
    """What reading the JSON alone costs: the core cannot do without."""
    cpu_seconds = wall_seconds = 0.0
    bodies = MIXES[mix](count)
    while found := list(islice(bodies, _COMMIT_LINES)):
        wall_at, cpu_at = time.perf_counter(), time.process_time()
        for body in found:
            orjson.loads(body)
        cpu_seconds += time.process_time() - cpu_at
        wall_seconds += time.perf_counter() - wall_at
    return Cost(wall_seconds, cpu_seconds, _peak_bytes())


def _process(mix: str, count: int, *, on: bool) -> tuple[Cost, Ledger]:
    """Only what the core does is measured: making the alerts and their batches is not."""
    processor = Processor(plan(on=on), ShardState("bench"), bytes(16))
    cpu_seconds = wall_seconds = 0.0
    now_ns = time.time_ns()
    for batches in commits(MIXES[mix](count), _COMMIT_LINES):
        wall_at, cpu_at = time.perf_counter(), time.process_time()
        processor.process(batches, now_ns)
        cpu_seconds += time.process_time() - cpu_at
        wall_seconds += time.perf_counter() - wall_at
    assert processor.state.ledger.balanced
    assert processor.state.ledger.alerts == count
    return Cost(wall_seconds, cpu_seconds, _peak_bytes()), processor.state.ledger


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def alone(work: Callable[[], Result]) -> Result:
    """Do this in a process of its own, whose memory holds nothing of what was measured before."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)

    def child() -> None:
        spare_the_collector()
        theirs.send(work())

    process = context.Process(target=child)
    process.start()
    theirs.close()  # so that a child that fails ends the wait
    try:
        found: Result = ours.recv()
    except EOFError as error:
        raise RuntimeError("the measured process failed") from error
    finally:
        process.join()
    return found
