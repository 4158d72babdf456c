"""What is done to the worker and its surroundings, in which order: a function of the seed alone."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Fault(StrEnum):
    """What goes wrong, or only happens. The comment says what the worker is expected to make of it."""

    # The worker itself.
    KILL = "worker killed"  # SIGKILL, several times in a row: goes on behind the last commit
    STOP = "worker stopped"  # SIGTERM: drains, exit code 0
    FREEZE = "worker frozen"  # SIGSTOP: streams wait for it
    ZOMBIE = "worker frozen, replaced, thawed"  # two owners at once: one is fenced
    # What it reads from.
    API_KILL = "API server killed"
    KUBELET_KILL = "log endpoint killed"
    KUBELET_FREEZE = "log endpoint frozen"
    API_CUT = "connections to the API reset"
    API_LATENCY = "connections to the API slow"
    API_HANG = "connections to the API half open"
    # What it writes to.
    KAFKA_KILL = "Kafka killed"
    KAFKA_STOP = "Kafka stopped"
    KAFKA_FREEZE = "Kafka frozen"
    KAFKA_CUT = "connections to Kafka reset"
    KAFKA_LATENCY = "connections to Kafka slow"
    KAFKA_HANG = "connections to Kafka half open"
    # What happens to pods while nobody reads.
    ROTATED_AWAY = "two rotations while no worker ran"  # a gap, not certain
    HOLE = "three restarts while no worker ran"  # exactly one certain gap
    GONE = "pod gone while no worker ran"  # a gap, not certain
    # What happens to pods every day, while all is well: no gap.
    ROTATE = "rotation"
    ROTATE_TWICE = "two rotations in a row"
    RESTART = "container restart"
    CRASH_LOOP = "crash loop"
    RECREATE = "pod deleted and made again"
    FLOOD = "flood of broken lines"


class Meanwhile(StrEnum):
    """What happens to a pod during a fault of something else."""

    ROTATE = "rotation"
    RESTART = "container restart"
    RECREATE = "pod deleted and made again"


PEACEFUL = (
    Fault.ROTATE,
    Fault.ROTATE_TWICE,
    Fault.RESTART,
    Fault.CRASH_LOOP,
    Fault.RECREATE,
    Fault.FLOOD,
)
"""They come while all is well, so the worker is given time to get there first."""

_API = (Meanwhile.ROTATE, Meanwhile.RESTART)
_ALL = (*_API, Meanwhile.RECREATE)
# A kubelet rotates logs itself: none while it is down. Without the API, no status of a pod can be written.
_SHAPES: dict[Fault, tuple[float, float, tuple[Meanwhile, ...]]] = {
    Fault.STOP: (0.0, 2.0, _API),
    Fault.FREEZE: (1.0, 18.0, _API),
    Fault.ZOMBIE: (3.0, 6.0, (Meanwhile.ROTATE,)),
    Fault.API_KILL: (0.2, 3.0, (Meanwhile.ROTATE,)),
    Fault.KUBELET_KILL: (0.2, 4.0, ()),
    Fault.KUBELET_FREEZE: (2.0, 8.0, ()),
    Fault.API_CUT: (0.0, 0.5, _API),
    Fault.API_LATENCY: (3.0, 6.0, _API),
    Fault.API_HANG: (2.0, 5.0, _API),
    Fault.KAFKA_KILL: (0.2, 3.0, _ALL),
    Fault.KAFKA_STOP: (0.2, 3.0, _ALL),
    Fault.KAFKA_FREEZE: (15.0, 60.0, _ALL),
    Fault.KAFKA_CUT: (0.0, 0.5, _ALL),
    Fault.KAFKA_LATENCY: (3.0, 6.0, _ALL),
    Fault.KAFKA_HANG: (2.0, 5.0, _ALL),
    Fault.HOLE: (0.5, 1.5, ()),
    Fault.GONE: (0.3, 1.0, ()),
    Fault.ROTATED_AWAY: (0.3, 1.0, ()),
}


# A minute each where they last: most are kept short, so that ten minutes see every fault several times. Who is not
# given time to detect half open connections by himself gets a reset.
_SELDOM_LONG = {Fault.KAFKA_FREEZE, Fault.API_HANG}


@dataclass(frozen=True, slots=True)
class Step:
    """One fault: how long it lasts, what happens meanwhile, and whether the worker may recover before the next."""

    fault: Fault
    seconds: float = 0.0
    victim: int = 0
    """Which of the pods that are there for it."""
    pauses: tuple[float, ...] = ()
    """Between deaths, restarts or rotations in a row."""
    meanwhile: tuple[Meanwhile, ...] = ()
    settle: bool = True

    def __str__(self) -> str:
        during = f", meanwhile {' and '.join(self.meanwhile)}" if self.meanwhile else ""
        return f"{self.fault}{during}" + ("" if self.settle else ", no time to recover")


def steps(seed: int, faults: Sequence[Fault] = tuple(Fault)) -> Iterator[Step]:
    """Rounds without end: each has every fault once, in an order of its own, with kills strewn in."""
    rng = random.Random(seed)
    while True:
        round_ = list(faults)
        rng.shuffle(round_)
        for fault in round_:
            yield step(rng, fault)
            if Fault.KILL in faults and rng.random() < 0.25:
                yield step(rng, Fault.KILL)


def step(rng: random.Random, fault: Fault) -> Step:
    """Draw what a fault leaves open."""
    victim = rng.randrange(1000)
    settle = rng.random() < 0.6
    if fault is Fault.KILL:
        pauses = tuple(round(rng.uniform(0.3, 2.0), 2) for _ in range(rng.randint(1, 4)))
        return Step(fault, rng.uniform(0.0, 1.0), victim, pauses, _draw(rng, _API), settle)
    if fault in PEACEFUL:
        count = rng.randint(3, 4) if fault is Fault.CRASH_LOOP else 2
        # A kubelet looks at the logs' sizes every 10 s, and can be told to do so every 3 s.
        least, most = (3.0, 4.0) if fault is Fault.ROTATE_TWICE else (1.0, 2.0)
        return Step(fault, 0.0, victim, tuple(rng.uniform(least, most) for _ in range(count)))
    low, high, during = _SHAPES[fault]
    if fault in _SELDOM_LONG and rng.random() < 0.7:
        high, settle = low + (high - low) / 5, fault is not Fault.API_HANG
    return Step(fault, rng.uniform(low, high), victim, (), _draw(rng, during), settle)


def _draw(rng: random.Random, among: Sequence[Meanwhile]) -> tuple[Meanwhile, ...]:
    return tuple(each for each in among if rng.random() < 0.35)
