"""Each attack tries, seed after seed, to hide marked alerts; none may succeed."""

from __future__ import annotations

import os
import random
from collections.abc import Callable

import pytest

from tests.adversarial.arena import Arena, Attack
from tests.adversarial.attacks import CROWDS, any_two
from tests.adversarial.intrusions import INTRUSIONS

SEEDS = int(os.environ.get("ADVERSARIAL_SEEDS", "60"))
"""How often each attack is tried; `make test` takes 1,000, a night takes a million."""
FIRST_SEED = int(os.environ.get("ADVERSARIAL_FIRST_SEED", "0"))


@pytest.mark.timeout(0 if SEEDS > 1000 else 300)
@pytest.mark.parametrize("attack", [*CROWDS, any_two, *INTRUSIONS], ids=lambda attack: str(attack.__name__))
def test_no_seed_hides_a_marked_alert(attack: Callable[[random.Random], Attack]) -> None:
    for seed in range(FIRST_SEED, FIRST_SEED + SEEDS):
        try:
            Arena(attack(random.Random(seed)), seed).run()
        except Exception as error:
            error.add_note(f"attack {attack.__name__}, seed {seed}")
            raise
