"""When silent streams are checked."""

from __future__ import annotations

from collections import Counter

import pytest

from streamer.source.patience import PATIENCE


def test_a_stream_that_fell_silent_is_checked_within_the_minute_and_together_with_others() -> None:
    began = 1234.567
    turns = [began + n / 100 + PATIENCE.seconds_to_probe(began + n / 100, 0, None) for n in range(3000)]
    for n, turn in enumerate(turns):
        assert 28.0 <= turn - (began + n / 100) <= 42.25
        assert turn % 0.25 == pytest.approx(0.0, abs=1e-6)
    # Spread all the same: they fall due over 44 s, so that none of the 176 times has many more than its 17.
    assert max(Counter(round(turn * 4) for turn in turns).values()) < 50


def test_each_check_that_finds_nothing_doubles_the_time_to_the_next() -> None:
    for probes, expected in enumerate((35.0, 70.0, 140.0, 280.0, 560.0, 600.0, 600.0)):
        seconds = PATIENCE.seconds_to_probe(1000.0, probes, None)
        assert 0.8 * expected <= seconds <= 1.2 * expected + 0.25


def test_a_stream_is_checked_after_twenty_of_its_usual_pauses() -> None:
    assert PATIENCE.seconds_to_probe(1000.0, 0, 0.01) <= 1.2 * 35 + 0.25
    assert 0.8 * 200 <= PATIENCE.seconds_to_probe(1000.0, 0, 10.0) <= 1.2 * 200 + 0.25
    assert PATIENCE.seconds_to_probe(1000.0, 0, 3600.0) <= 1.2 * 600 + 0.25


def test_five_thousand_silent_streams_cost_fewer_than_twenty_requests_a_second() -> None:
    mean = sum(PATIENCE.seconds_to_probe(1000.0, 9, None) for _ in range(1000)) / 1000
    assert 5000 / mean < 20


def test_a_busy_stream_is_checked_soon_after_it_falls_silent() -> None:
    assert PATIENCE.seconds_after_lines(600.0, 0.001) == PATIENCE.quiet_seconds
    assert PATIENCE.seconds_after_lines(600.0, 0.5) == 10.0
    assert PATIENCE.seconds_after_lines(5.0, 0.5) == 5.0
    assert PATIENCE.seconds_after_lines(600.0, 10.0) == PATIENCE.seconds_after_lines(600.0, None) == 600.0
