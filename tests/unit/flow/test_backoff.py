"""Waits grow, are spread, never vanish, and start small again after progress."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.flow.backoff import Backoff


def test_the_ceiling_doubles_up_to_the_most() -> None:
    backoff = Backoff(0.5, 3.0, draw=lambda: 1.0)
    assert [backoff.next_seconds() for _ in range(5)] == [0.5, 1.0, 2.0, 3.0, 3.0]


def test_progress_starts_small_again() -> None:
    backoff = Backoff(0.5, 3.0, draw=lambda: 1.0)
    for _ in range(4):
        backoff.next_seconds()
    backoff.reset()
    assert backoff.next_seconds() == 0.5


def test_even_the_luckiest_draw_waits_a_tenth() -> None:
    backoff = Backoff(1.0, 8.0, draw=lambda: 0.0)
    assert [backoff.next_seconds() for _ in range(5)] == pytest.approx([0.1, 0.2, 0.4, 0.8, 0.8])


@given(st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=40), st.floats(0.001, 10))
def test_every_wait_lies_between_a_tenth_of_its_ceiling_and_the_ceiling(
    draws: list[float], first: float
) -> None:
    remaining = iter(draws)
    backoff = Backoff(first, 5.0, draw=lambda: next(remaining))
    for n in range(len(draws)):
        ceiling = min(5.0, first * 2**n)
        assert ceiling * 0.0999 <= backoff.next_seconds() <= ceiling * 1.0001


def test_two_that_fail_together_do_not_come_back_together() -> None:
    one, other = Backoff(), Backoff()
    assert [one.next_seconds() for _ in range(4)] != [other.next_seconds() for _ in range(4)]
