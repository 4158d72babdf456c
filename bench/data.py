"""The input: the simulator's alerts, the same for every contestant."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from streamer.simulator import AlertGenerator

_START_NS = 1_790_000_000_000_000_000
_STEP_NS = 1_000_000


def alerts(count: int, seed: int = 1) -> Iterator[bytes]:
    """So many alerts, a millisecond apart."""
    generator = AlertGenerator(seed)
    for n in range(count):
        yield generator.alert(_START_NS + n * _STEP_NS, f"node-{n % 14}")


def alerts_file(folder: Path, count: int) -> Path:
    """A file of alerts, one a line."""
    path = folder / f"alerts-{count}.json"
    print(f"bench: writing {count:,} alerts", file=sys.stderr)
    with path.open("wb") as file:
        for alert in alerts(count):
            file.write(alert + b"\n")
    return path
