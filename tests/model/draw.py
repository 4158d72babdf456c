"""Plans drawn from a seed, for a search that is long: hypothesis shrinks better, but draws slower."""

from __future__ import annotations

from random import Random

from tests.model.run import (
    STYLES,
    Block,
    ClockStep,
    Container,
    Crash,
    Cut,
    Delete,
    Event,
    Label,
    Outage,
    Plan,
    Rotate,
    Stall,
    Unfinished,
    Wait,
    Write,
)
from tests.model.server import Weather


def plan(rng: Random) -> Plan:
    """A plan of up to 25 events; one seed, one plan."""
    pick = rng.choice
    rates = (0.0, 0.0, 0.1, 0.3)
    weather = Weather(
        refused=pick(rates),
        cut=pick(rates),
        stalled=pick((0.0, 0.0, 0.1)),
        text=pick((0.0, 0.0, 0.1)),
        slow=pick(rates),
        rotation_bugs=pick((False, True)),
        pipe_bytes=pick((1 << 20, 300, 5000)),
        piece_bytes=pick((1 << 16, 7, 200)),
        status_lag_seconds=pick((0.0, 0.2, 3.0)),
        watch_lag_seconds=pick((0.0, 0.2, 3.0)),
        end_lag_seconds=pick((0.0, 1.0)),
    )
    if rng.random() < 0.2:
        weather = Weather()
    events = tuple(
        (pick((0.0, 0.01, 0.3, 1.5, 5.0, 30.0, 100.0)), _event(rng)) for _ in range(rng.randint(0, 25))
    )
    return Plan(
        events,
        weather,
        rng.randint(0, 1000),
        pick((0, 0, 330)),
        pick((786_432, 1000)),
        pick((100, 2)),
        pick((False, True)),
    )


def _event(rng: Random) -> Event:
    pick = rng.choice
    match rng.randrange(14):
        case 0 | 1 | 2:
            return Write(pick((1, 3, 20, 70, 200)), pick(STYLES), pick((0.0, 0.0, 0.01, 0.4)))
        case 3:
            return Rotate()
        case 4:
            return Crash(pick((0, 0, 1, 2, 5, None)), pick((0.0, 1.0, 30.0, 200.0)))
        case 5:
            return Cut(rng.randint(0, 2))
        case 6:
            return Container(pick(("crash", "exit", "start", "restart", "finish", "lose")))
        case 7:
            return Block(pick((1.0, 10.0, 16.0, 40.0)))
        case 8:
            return Stall()
        case 9:
            return Outage(pick((500, 503, 429, 401, 403, 404, 0)), pick((0.1, 3.0, 50.0)))
        case 10:
            return ClockStep(pick((-20.0, -1.0, 3600.0)))
        case 11:
            return Delete(pick((None, 0.0, 2.0, 30.0)), rng.random() < 0.5)
        case 12:
            return Label(pick((0.0, 0.1, 5.0, 100.0))) if rng.random() < 0.8 else Wait(pick((3.1, 4.2)))
        case _:
            return Unfinished(pick((False, True)))
