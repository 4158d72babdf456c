"""What the core's windows take: of memory, and of time when a shard that had many is loaded."""

from __future__ import annotations

import gc
import resource
import statistics
import sys
import time
import tracemalloc
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from bench.core import alone
from bench.core_input import commits, distinct, plan
from streamer.model import Change
from streamer.transform.load import load
from streamer.transform.process import Processor
from streamer.transform.state import ShardState

_NO_BOUND: Final = 100_000_000
_COMMIT_LINES: Final = 1000
_LOADS: Final = 3


def bench(groups: int) -> str:
    """The table of this benchmark: `groups` is how many distinct ones flood a shard."""
    stored = groups // 10
    lines = ["### Windows in memory", "", "|  |  |", "|---|---:|"]
    print(f"bench: {groups:,} groups through a shard", file=sys.stderr)
    windows, resident = alone(lambda: _flooded(groups))
    lines += [
        f"| process after {share} of {groups:,} groups, none alike, {windows:,} windows kept | {size / 2**20:.0f} MiB |"
        for share, size in zip(("none", "a quarter", "half", "three quarters", "all"), resident, strict=True)
    ]
    print(f"bench: {stored:,} windows without a bound", file=sys.stderr)
    lines.append(f"| a window that has counted nothing | {alone(lambda: _bytes_each(stored)):.0f} bytes |")
    size_bytes, seconds = alone(lambda: _loading(stored))
    lines.append(
        f"| loading {stored:,} open windows ({size_bytes / 2**20:.0f} MiB stored), median of {_LOADS}, CPU "
        f"| {seconds:.2f} s |"
    )
    return "\n".join(lines) + "\n"


def _flooded(groups: int) -> tuple[int, Sequence[int]]:
    # Without limits: they would keep many groups from opening a window.
    processor = Processor(plan(on=True, limited=False), ShardState("bench"), bytes(16))
    resident = [_resident_bytes()]
    for n, _ in enumerate(_publications(processor, groups), start=1):
        if n % (groups // _COMMIT_LINES // 4) == 0:
            resident.append(_resident_bytes())
    return _kept(processor), resident


def _bytes_each(groups: int) -> float:
    """What is free again once they are forgotten; what is remembered of alerts lately stays."""
    processor = _unbounded()
    tracemalloc.start()
    for _ in _publications(processor, groups):
        pass
    windows, targets = _kept(processor), [known.target for known in processor.state.tracked.values()]
    gc.collect()
    held_bytes, _ = tracemalloc.get_traced_memory()
    processor.forget(targets, time.time_ns())
    gc.collect()
    return (held_bytes - tracemalloc.get_traced_memory()[0]) / windows


def _loading(groups: int) -> tuple[int, float]:
    stored: dict[str, bytes] = {}
    for changes in _publications(_unbounded(), groups):
        for key, value in changes:
            if value is None:
                stored.pop(key, None)
            else:
                stored[key] = value
    seconds = []
    for _ in range(_LOADS):
        started_at = time.process_time()
        Processor(plan(on=True), load("bench", stored.items()))
        seconds.append(time.process_time() - started_at)
    return sum(len(key) + len(value) for key, value in stored.items()), statistics.median(seconds)


def _kept(processor: Processor) -> int:
    return sum(len(tracked.windows) for tracked in processor.state.tracked.values())


def _unbounded() -> Processor:
    """A core that keeps every window, for a day."""
    return Processor(
        plan(on=True, limited=False, max_windows=_NO_BOUND, window_seconds=[86_400]),
        ShardState("bench"),
        bytes(16),
    )


def _publications(processor: Processor, groups: int) -> Iterator[list[Change]]:
    """Let so many groups come, none of them alike; what of the state each transaction changes."""
    now_ns = time.time_ns()
    for batches in commits(distinct(groups), _COMMIT_LINES):
        yield processor.process(batches, now_ns).changes


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
