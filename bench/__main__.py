"""`python -m bench [core] [file] [api] …`: run benchmarks and print their tables."""

from __future__ import annotations

import argparse
import asyncio
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

from bench import (
    api_to_kafka,
    core,
    core_memory,
    core_path,
    deadnodes,
    file_to_kafka,
    herd,
    latency,
    memory,
    pending,
    rollout,
    streams,
    view,
)
from bench.measure import compile_modules
from streamer.telemetry.build import CORE
from tests.testbed import compiled
from tests.testbed.kafka import Kafka

EVERY = ["core", "rollout", "file", "api", "latency", "quiet", "streams", "view"]
READING = ["herd", "many", "deadnodes", "memory", "pending"]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Benchmarks; tables on stdout.")
    parser.add_argument(
        "which",
        nargs="*",
        metavar="|".join(EVERY + READING),
        choices=[*EVERY, *READING, []],
        default=EVERY + READING,
        help="Which ones (all).",
    )
    parser.add_argument("--alerts", type=int, default=500_000, help="How many (default: %(default)s).")
    parser.add_argument("--runs", type=int, default=5, help="How often each (default: %(default)s).")
    sizes = parser.add_argument_group("of the reading side")
    sizes.add_argument("--pods", type=int, help="How many pods there are, instead of each one's own number.")
    sizes.add_argument(
        "--log-mib", type=float, default=10.0, help="herd, many: of each (default: %(default)s)."
    )
    sizes.add_argument(
        "--link",
        type=float,
        nargs="+",
        default=[60.0, 20.0],
        help="herd, many: 10^6 bytes/s (default: 60 20).",
    )
    sizes.add_argument(
        "--deadline", type=float, default=120.0, help="herd, many: seconds for a run (default: %(default)s)."
    )
    sizes.add_argument(
        "--seconds",
        type=float,
        default=75.0,
        help="deadnodes, pending, view: how long (default: %(default)s).",
    )
    parser.add_argument("--compiled", action="store_true", help="The core as the image has it, compiled.")
    asked = parser.parse_args()
    if asked.compiled and CORE == "python":
        with compiled.installed() as environment:
            command = [sys.executable, "-m", "bench", *sys.argv[1:]]
            sys.exit(subprocess.run(command, env=environment, check=False).returncode)
    print(f"{_machine()}, core: {CORE}\n", flush=True)
    compile_modules()
    if "core" in asked.which:
        print(core.bench(asked.alerts, asked.runs), flush=True)
        print(core_path.bench(), flush=True)
        print(core_memory.bench(2 * asked.alerts), flush=True)
    if "rollout" in asked.which:
        print(rollout.bench(asked.pods or 5_000), flush=True)
    if not set(asked.which) - {"core", "rollout"}:
        return
    with tempfile.TemporaryDirectory(prefix="falco-streamer-bench-") as name, Kafka() as kafka:
        folder = Path(name)
        if "file" in asked.which:
            print(file_to_kafka.bench(folder, kafka, asked.alerts, asked.runs), flush=True)
        if "api" in asked.which:
            print(asyncio.run(api_to_kafka.bench(folder, kafka, asked.alerts, asked.runs)), flush=True)
        if "latency" in asked.which:
            print(asyncio.run(latency.bench(folder, kafka)), flush=True)
        if "quiet" in asked.which:
            print(asyncio.run(latency.quiet(folder, kafka)), flush=True)
        if "streams" in asked.which:
            counts = (asked.pods,) if asked.pods else streams.COUNTS
            print(asyncio.run(streams.bench(folder, kafka, counts)), flush=True)
        if "view" in asked.which:
            print(asyncio.run(view.bench(folder, kafka, asked.seconds)), flush=True)
        for which in asked.which:
            if which in READING:
                print(asyncio.run(_reading(which, folder, kafka, asked)), flush=True)


async def _reading(which: str, folder: Path, kafka: Kafka, asked: argparse.Namespace) -> str:
    """One of the benchmarks of the reading side."""
    pods = asked.pods
    match which:
        case "herd" | "many":
            link = tuple(asked.link)
            of_herd = herd.Sizes(pods or 150, pods or 1_500, asked.log_mib, link, asked.deadline)
            return await (herd.bench if which == "herd" else herd.many)(folder, kafka, of_herd)
        case "deadnodes":
            dead = (pods or 300) // 3
            return await deadnodes.bench(
                folder, kafka, deadnodes.Sizes((pods or 300) - dead, dead, asked.seconds)
            )
        case "memory":
            of_memory = memory.Sizes(behind_pods=pods or 250, busy_pods=pods or 1_000)
            return await memory.bench(folder, kafka, of_memory)
    return await pending.bench(folder, kafka, pending.Sizes(pods or 1_000, asked.seconds))


def _machine() -> str:
    model = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    return f"{api_to_kafka.cores()} cores of {model}, Linux {platform.release()}, Python {platform.python_version()}"


main()
