"""The adaptive size of a transaction."""

from __future__ import annotations

from streamer.flow.batch_size import AdaptiveBatchSize

MOST = 4 * 1024 * 1024


def test_all_that_is_allowed_at_first() -> None:
    assert AdaptiveBatchSize().of(MOST) == MOST


def test_half_of_what_failed_and_never_less_than_a_read() -> None:
    size = AdaptiveBatchSize()
    size.failed(3_000_000)
    assert size.of(MOST) == 1_500_000
    for _ in range(20):
        size.failed(size.of(MOST))
    assert size.of(MOST) == 64 * 1024
    assert size.of(10_000) == 10_000


def test_more_again_only_after_what_was_quick_and_nearly_full() -> None:
    size = AdaptiveBatchSize()
    size.failed(1_000_000)
    size.succeeded(500_000, 5.0, MOST)
    size.succeeded(200_000, 0.1, MOST)
    assert size.of(MOST) == 500_000
    for expected in (1_000_000, 2_000_000, 4_000_000, MOST):
        size.succeeded(size.of(MOST), 0.1, MOST)
        assert size.of(MOST) == expected
    assert size.of(2 * MOST) == 2 * MOST
