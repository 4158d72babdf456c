"""Three workers on one Kafka and one API server, and what happens to them: nothing lost, nothing doubled."""

from __future__ import annotations

import os

import pytest

from tests.chaos.bed import Site
from tests.chaos.crew import Act, crew, draw

pytestmark = pytest.mark.real

# By hand, for longer: WORKERS_SECONDS=600 WORKERS_SEED=$RANDOM pytest -m real tests/integration/test_workers.py
SECONDS = float(os.environ.get("WORKERS_SECONDS", "60"))
SEED = int(os.environ.get("WORKERS_SEED", "6"))
RATE = 200.0


@pytest.mark.timeout(SECONDS + 300)
async def test_workers_come_and_go_at_random_and_every_line_has_its_outcome_once(site: Site) -> None:
    async with crew(site, 4, seed=SEED) as made:
        for worker in made.workers[:3]:
            await worker.start()
        async with made.load(RATE):
            await made.play(draw(SEED), SECONDS)
            for index in set(range(3)) - set(made.running):
                await made.workers[index].start()
        verdict = await made.finish()
        shown = f"seed {SEED}, {dict(made.acts)}, fenced {dict(made.fenced())}, {verdict}"
        assert verdict.violations == [], shown
        assert verdict.missing == 0, shown
        assert verdict.published > RATE * SECONDS / 2
        assert {Act.KILL, Act.SLEEP, Act.STOP} <= set(made.acts), shown
        print(shown)  # noqa: T201  # with -s
