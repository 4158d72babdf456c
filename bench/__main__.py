"""`python -m bench [core] [file] [api] …`: run benchmarks and print their tables."""

from __future__ import annotations

import argparse
import asyncio
import platform
import tempfile
from pathlib import Path

from bench import api_to_kafka, core, core_memory, file_to_kafka, herd, latency, streams
from tests.testbed.kafka import Kafka

EVERY = ["core", "file", "api", "latency", "quiet", "streams", "herd", "many"]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Benchmarks; tables on stdout.")
    parser.add_argument(
        "which",
        nargs="*",
        metavar="|".join(EVERY),
        choices=[*EVERY, []],
        default=EVERY,
        help="Which ones (all).",
    )
    parser.add_argument("--alerts", type=int, default=500_000, help="How many (default: %(default)s).")
    parser.add_argument("--runs", type=int, default=5, help="How often each (default: %(default)s).")
    sizes = parser.add_argument_group("of the reading side")
    sizes.add_argument("--pods", type=int, default=150, help="herd: how many pods (default: %(default)s).")
    sizes.add_argument("--many", type=int, default=1_500, help="many: how many pods (default: %(default)s).")
    sizes.add_argument("--log-mib", type=float, default=10.0, help="Log of each pod (default: %(default)s).")
    sizes.add_argument("--link", type=float, default=60.0, help="10^6 bytes a second (default: %(default)s).")
    sizes.add_argument(
        "--deadline", type=float, default=120.0, help="Seconds for a run (default: %(default)s)."
    )
    asked = parser.parse_args()
    print(f"{_machine()}\n", flush=True)
    if "core" in asked.which:
        print(core.bench(asked.alerts, asked.runs), flush=True)
        print(core_memory.bench(2 * asked.alerts), flush=True)
    if asked.which == ["core"]:
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
            print(asyncio.run(streams.bench(folder, kafka)), flush=True)
        of_herd = herd.Sizes(asked.pods, asked.many, asked.log_mib, asked.link, asked.deadline)
        if "herd" in asked.which:
            print(asyncio.run(herd.bench(folder, kafka, of_herd)), flush=True)
        if "many" in asked.which:
            print(asyncio.run(herd.many(folder, kafka, of_herd)), flush=True)


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
