"""`python -m tests.chaos --minutes N --seed S`: chaos at length, with a report; exit code 1 on any violation."""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sys
import tempfile
from pathlib import Path

from tests.chaos.run import RATE, run
from tests.chaos.schedule import Fault, steps
from tests.testbed import BuildError, PartMissing, StartError


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=2.0, help="how long faults go on (default: 2)")
    parser.add_argument("--seed", type=int, help="of the schedule and the alerts (default: a new one)")
    parser.add_argument("--rate", type=float, default=RATE, help=f"lines a second (default: {RATE:.0f})")
    parser.add_argument(
        "--only", nargs="+", choices=[fault.name for fault in Fault], help="these faults, not all"
    )
    parser.add_argument("--keep", type=Path, help="a folder for the worker's log (default: removed)")
    wanted = parser.parse_args()
    seed = secrets.randbelow(1_000_000) if wanted.seed is None else wanted.seed
    faults = [Fault[name] for name in wanted.only or Fault.__members__]
    sys.stdout.write(f"chaos: {wanted.minutes:g} minutes, SEED={seed}\n")
    sys.stdout.flush()
    with tempfile.TemporaryDirectory(prefix="falco-streamer-chaos-") as temporary:
        folder = wanted.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            report = asyncio.run(run(folder, steps(seed, faults), wanted.minutes * 60, seed, wanted.rate))
        except (PartMissing, BuildError, StartError) as failure:
            sys.stderr.write(f"chaos: {failure}\n")
            return 1
    sys.stdout.write(f"{report}\nSEED={seed}\n")
    return 1 if report.violations else 0


if __name__ == "__main__":
    sys.exit(main())
