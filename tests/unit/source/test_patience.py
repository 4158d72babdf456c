"""When silent streams are asked whether they have missed something."""

from __future__ import annotations

from collections import Counter

import pytest

from streamer.source.patience import PATIENCE


def test_a_silent_stream_has_its_turn_within_the_minute_and_together_with_others() -> None:
    began = 1234.567
    turns = [began + n / 100 + PATIENCE.seconds_to_probe(began + n / 100) for n in range(3000)]
    for n, turn in enumerate(turns):
        assert 28.0 <= turn - (began + n / 100) <= 42.25
        assert turn % 0.25 == pytest.approx(0.0, abs=1e-6)
    # Spread all the same: they fall due over 44 s, so that none of the 176 times has many more than its 17.
    assert max(Counter(round(turn * 4) for turn in turns).values()) < 50
