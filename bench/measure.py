"""Run a process and account for it."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Cost:
    """What one process took: seconds of wall time and CPU, peak memory in bytes."""

    wall_seconds: float
    cpu_seconds: float
    peak_bytes: int

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            max(self.wall_seconds, other.wall_seconds),
            self.cpu_seconds + other.cpu_seconds,
            max(self.peak_bytes, other.peak_bytes),
        )


@dataclass(frozen=True)
class Row:
    """One contestant's runs over the same number of alerts."""

    name: str
    alerts: int
    costs: Sequence[Cost]

    def cells(self, floor: Row | None) -> list[str]:
        cpu = [cost.cpu_seconds / self.alerts * 1e6 for cost in self.costs]
        rate = [self.alerts / cost.wall_seconds for cost in self.costs]
        ratio = ""
        if floor is not None:
            base = statistics.median(cost.cpu_seconds / floor.alerts * 1e6 for cost in floor.costs)
            ratio = f"{statistics.median(cpu) / base:.1f}"
        return [
            self.name,
            f"{statistics.median(cpu):.1f}",
            f"{min(cpu):.1f} to {max(cpu):.1f}",
            ratio,
            f"{statistics.median(rate):,.0f}",
            f"{max(cost.peak_bytes for cost in self.costs) / 2**20:.0f}",
        ]


def table(title: str, rows: Sequence[Row]) -> str:
    """The rows as Markdown; the first one is the floor."""
    head = ["", "CPU µs/alert (median)", "min to max", "times the floor", "alerts/s", "peak MiB"]
    lines = [f"### {title}", "", "| " + " | ".join(head) + " |", "|---" + "|---:" * (len(head) - 1) + "|"]
    lines += ["| " + " | ".join(row.cells(rows[0])) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def environment() -> dict[str, str]:
    """For a measured process: ours, but it may keep its compiled modules, as one that is installed does."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def run(
    command: Sequence[str], log: Path, *, until: Callable[[], None] | None = None, stdout: int | None = None
) -> Cost:
    """Run a command to its end; with `until`, wait for that and then ask it to end by SIGTERM."""
    started_at = time.monotonic()
    with log.open("ab") as out:
        process = subprocess.Popen(
            command, stdout=out if stdout is None else stdout, stderr=out, env=environment()
        )
        try:
            done_at = None
            if until is not None:
                until()
                done_at = time.monotonic()
                process.terminate()
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            raise
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(
            f"{command[0]} failed with {process.returncode}: see {log}\n{log.read_text()[-2000:]}"
        )
    wall_seconds = (done_at or time.monotonic()) - started_at
    return Cost(wall_seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)
