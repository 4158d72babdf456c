"""When silent streams are checked."""

from __future__ import annotations

from collections import Counter

import pytest

from streamer.source.patience import PATIENCE
from streamer.source.probes import ProbeTurns


def test_streams_that_fell_silent_together_are_checked_one_after_the_other() -> None:
    turns, now = ProbeTurns(0.25), 1234.567
    given = sorted(now + turns.take(now, 28.0 + n % 14) for n in range(5000))
    assert all(turn % 0.25 == pytest.approx(0.0, abs=1e-6) for turn in given)
    assert set(Counter(round(turn * 4) for turn in given).values()) <= {1, 2, 3}
    assert now + 28.0 <= given[0]
    assert given[-1] <= now + 42.25 + 5000 / 12


def test_a_turn_that_has_passed_is_forgotten() -> None:
    turns = ProbeTurns(0.25)
    for now in range(20_000):
        turns.take(float(now), 1.0)
    assert len(turns._taken) <= 10_001


def test_each_check_that_finds_nothing_doubles_the_time_to_the_next() -> None:
    for probes, expected in enumerate((35.0, 70.0, 140.0, 280.0, 560.0, 600.0, 600.0)):
        seconds = PATIENCE.seconds_to_probe(probes, None)
        assert 0.8 * expected <= seconds <= 1.2 * expected


def test_a_stream_is_checked_after_twenty_of_its_usual_pauses() -> None:
    assert PATIENCE.seconds_to_probe(0, 0.01) <= 1.2 * 35
    assert 0.8 * 200 <= PATIENCE.seconds_to_probe(0, 10.0) <= 1.2 * 200
    assert PATIENCE.seconds_to_probe(0, 3600.0) <= 1.2 * 600


def test_five_thousand_silent_streams_cost_fewer_than_twenty_requests_a_second() -> None:
    mean = sum(PATIENCE.seconds_to_probe(9, None) for _ in range(1000)) / 1000
    assert 5000 / mean < 20


def test_a_busy_stream_is_checked_soon_after_it_falls_silent() -> None:
    assert PATIENCE.seconds_after_lines(600.0, 0.001) == PATIENCE.quiet_seconds
    assert PATIENCE.seconds_after_lines(600.0, 0.5) == 10.0
    assert PATIENCE.seconds_after_lines(5.0, 0.5) == 5.0
    assert PATIENCE.seconds_after_lines(600.0, 10.0) == PATIENCE.seconds_after_lines(600.0, None) == 600.0
