"""How much one transaction carries."""

from __future__ import annotations

from streamer.flow.portion import Portion

MOST = 4 * 1024 * 1024


def test_all_that_is_allowed_at_first() -> None:
    assert Portion().of(MOST) == MOST


def test_half_of_what_failed_and_never_less_than_a_read() -> None:
    portion = Portion()
    portion.failed(3_000_000)
    assert portion.of(MOST) == 1_500_000
    for _ in range(20):
        portion.failed(portion.of(MOST))
    assert portion.of(MOST) == 64 * 1024
    assert portion.of(10_000) == 10_000


def test_more_again_only_after_what_was_quick_and_nearly_full() -> None:
    portion = Portion()
    portion.failed(1_000_000)
    portion.succeeded(500_000, 5.0, MOST)
    portion.succeeded(200_000, 0.1, MOST)
    assert portion.of(MOST) == 500_000
    for expected in (1_000_000, 2_000_000, 4_000_000, MOST):
        portion.succeeded(portion.of(MOST), 0.1, MOST)
        assert portion.of(MOST) == expected
    assert portion.of(2 * MOST) == 2 * MOST
