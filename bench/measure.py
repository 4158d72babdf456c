"""Run a process and account for it."""

from __future__ import annotations

import compileall
import os
import re
import statistics
import subprocess
import sysconfig
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import streamer

_NOT_IMPORTED: Final = re.compile(r"/kubernetes/.*/(api|models)/(?!__init__)")
"""Most of the Kubernetes client; the image leaves it out, too."""


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
    """One contestant's runs over the same number of alerts, and what it took to start without any."""

    name: str
    alerts: int
    costs: Sequence[Cost]
    starts: Sequence[Cost] = ()

    @property
    def start_seconds(self) -> float:
        """CPU of a start: the median."""
        return statistics.median(cost.cpu_seconds for cost in self.starts) if self.starts else 0.0

    @property
    def cpu_us(self) -> list[float]:
        """CPU for each alert, without the start, in µs: one number a run."""
        return [(cost.cpu_seconds - self.start_seconds) / self.alerts * 1e6 for cost in self.costs]

    def cells(self, floor: Row, *, with_start: bool) -> list[str]:
        """What stands in a row of the table; the rate is that of the whole run, start included."""
        cpu = self.cpu_us
        rate = [self.alerts / cost.wall_seconds for cost in self.costs]
        return [
            self.name,
            f"{statistics.median(cpu):.1f}",
            f"{min(cpu):.1f} to {max(cpu):.1f}",
            f"{statistics.median(cpu) / statistics.median(floor.cpu_us):.1f}",
            *([f"{self.start_seconds:.2f}"] if with_start else []),
            f"{statistics.median(rate):,.0f}",
            f"{max(cost.peak_bytes for cost in self.costs) / 2**20:.0f}",
        ]


def table(title: str, rows: Sequence[Row]) -> str:
    """The rows as Markdown; the first one is the floor. Starts have a column where they were measured."""
    with_start = any(row.starts for row in rows)
    head = ["", "CPU µs/alert (median)", "min to max", "times the floor"]
    head += [*(["start, CPU s"] if with_start else []), "alerts/s", "peak MiB"]
    lines = [f"### {title}", "", "| " + " | ".join(head) + " |", "|---" + "|---:" * (len(head) - 1) + "|"]
    lines += ["| " + " | ".join(row.cells(rows[0], with_start=with_start)) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def compile_modules() -> None:
    """Write the byte code of all that a measured process imports, so that its first start costs what others do."""
    for folder in (Path(streamer.__file__).parent, Path(sysconfig.get_path("purelib"))):
        # A test file of a library may not be for this version of Python: what matters is imported, and compiles.
        compileall.compile_dir(folder, quiet=2, rx=_NOT_IMPORTED, workers=len(os.sched_getaffinity(0)))


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
