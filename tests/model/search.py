"""`python -m tests.model.search 0 20000`: the plans of these seeds, on all processors; what fails, in full.

For a search that is long: hypothesis shrinks what it finds, but draws slower, and stops at the first.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from random import Random

from tests.model.draw import plan
from tests.model.run import run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.model.search", description=__doc__)
    parser.add_argument("first", type=int, help="the first seed")
    parser.add_argument("behind", type=int, help="the seed behind the last one")
    parser.add_argument("--jobs", type=int, default=None, help="processes; one per processor by default")
    wanted = parser.parse_args()
    failures = 0
    with multiprocessing.Pool(wanted.jobs) as pool:
        seeds = range(wanted.first, wanted.behind)
        for number, (seed, found) in enumerate(pool.imap_unordered(_judge, seeds, chunksize=4), 1):
            if found:
                failures += 1
                sys.stdout.write(f"seed {seed}: {'; '.join(found)}\n{plan(Random(seed))}\n")
            if number % 1000 == 0:
                sys.stdout.write(f"{number} plans, {failures} failed\n")
            sys.stdout.flush()
    sys.stdout.write(f"{len(seeds)} plans, {failures} failed\n")
    return 1 if failures else 0


def _judge(seed: int) -> tuple[int, list[str]]:
    try:
        return seed, run(plan(Random(seed)))
    except Exception as error:  # a run that breaks off is a find as well
        return seed, [repr(error)]


if __name__ == "__main__":
    sys.exit(main())
