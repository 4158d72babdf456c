from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.transform.limit import Bucket, Rate, StormBucket
from streamer.transform.stamp import LAST_NS

SECOND_NS = 1_000_000_000

RATES = st.builds(Rate, per_minute=st.floats(0, 100_000, allow_subnormal=False), burst=st.integers(0, 100))
STEPS = st.lists(st.integers(0, 90 * SECOND_NS) | st.just(0) | st.integers(0, 1000), max_size=60)


def times(steps: list[int]) -> list[int]:
    elapsed, found = 0, []
    for step in steps:
        elapsed += step
        found.append(elapsed)
    return found


def admit_all(bucket: Bucket, rate: Rate, at: list[int]) -> list[bool]:
    return [bucket.admit(rate, elapsed_ns) for elapsed_ns in at]


@given(RATES, STEPS)
def test_never_more_than_the_rate_times_the_time_and_the_burst_pass_in_any_interval(
    rate: Rate, steps: list[int]
) -> None:
    at = times(steps)
    passed = admit_all(Bucket(rate.burst, 0), rate, at)
    for start in range(len(at)):
        for end in range(start, len(at)):
            seconds = (at[end] - at[start]) / SECOND_NS
            allowed = rate.burst + seconds * rate.per_minute / 60
            assert sum(passed[start : end + 1]) <= allowed + 1e-6


@given(STEPS.map(times), STEPS.map(times), RATES, st.randoms(use_true_random=False))
def test_two_targets_are_decided_alike_in_any_interleaving(
    mine: list[int], theirs: list[int], rate: Rate, random: object
) -> None:
    alone = admit_all(Bucket(rate.burst, 0), rate, mine), admit_all(Bucket(rate.burst, 0), rate, theirs)
    order = [0] * len(mine) + [1] * len(theirs)
    random.shuffle(order)  # type: ignore[attr-defined]
    buckets, queues = [Bucket(rate.burst, 0), Bucket(rate.burst, 0)], [iter(mine), iter(theirs)]
    together: tuple[list[bool], list[bool]] = ([], [])
    for which in order:
        together[which].append(buckets[which].admit(rate, next(queues[which])))
    assert together == alone


@given(RATES, STEPS, st.integers(0, 60))
def test_a_copy_goes_on_as_the_original(rate: Rate, steps: list[int], cut: int) -> None:
    at = times(steps)
    bucket = Bucket(rate.burst, 0)
    admit_all(bucket, rate, at[:cut])
    copied = replace(bucket)
    assert admit_all(bucket, rate, at[cut:]) == admit_all(copied, rate, at[cut:])
    assert bucket == copied


def test_a_burst_passes_at_once_and_then_one_a_second() -> None:
    rate, bucket = Rate(per_minute=60, burst=3), Bucket(3, 0)
    assert admit_all(bucket, rate, [0, 0, 0, 0]) == [True, True, True, False]
    assert admit_all(bucket, rate, [SECOND_NS, SECOND_NS]) == [True, False]
    assert admit_all(bucket, rate, [SECOND_NS * 5 // 2, SECOND_NS * 3]) == [True, True]


def test_a_long_silence_fills_no_more_than_the_burst() -> None:
    rate, bucket = Rate(per_minute=60, burst=2), Bucket(2, 0)
    assert admit_all(bucket, rate, [0, 0]) == [True, True]
    assert admit_all(bucket, rate, [10**18] * 3) == [True, True, False]


def test_a_clock_that_stands_behind_gives_nothing_and_takes_nothing() -> None:
    rate, bucket = Rate(per_minute=60, burst=1), Bucket(1, 0)
    assert admit_all(bucket, rate, [10 * SECOND_NS, 0, 9 * SECOND_NS]) == [True, False, False]
    assert admit_all(bucket, rate, [11 * SECOND_NS]) == [True]


@pytest.mark.parametrize("rate", [Rate(per_minute=6000, burst=0), Rate(per_minute=0, burst=0)])
def test_a_bucket_without_room_lets_nothing_pass(rate: Rate) -> None:
    assert not any(admit_all(Bucket(rate.burst, 0), rate, [0, SECOND_NS, 10**18]))


@pytest.mark.parametrize("per_minute", [5e-324, 1e-9, 0.001])
def test_a_bucket_that_is_never_full_again_can_be_stored(per_minute: float) -> None:
    bucket, rate = StormBucket(1_000_000.0, 0), Rate(per_minute, 1_000_000)
    for _ in range(1000):
        assert bucket.admit(rate, LAST_NS)
        assert LAST_NS >= bucket.full_ns >= bucket.at_ns
    assert not StormBucket(5.0, 0, full_ns=SECOND_NS).is_idle(0)


def test_a_smaller_burst_in_the_configuration_counts_at_once() -> None:
    bucket = Bucket(100, 0)
    assert admit_all(bucket, Rate(per_minute=0, burst=2), [0, 0, 0]) == [True, True, False]


def test_what_is_held_is_counted_from_first_to_last() -> None:
    bucket = Bucket(0, 0)
    for line_ns in 30, 20, 50:
        bucket.hold(line_ns)
    assert (bucket.held, bucket.held_from_ns, bucket.held_to_ns) == (3, 30, 50)
    bucket.held = 0
    bucket.hold(70)
    assert (bucket.held, bucket.held_from_ns, bucket.held_to_ns) == (1, 70, 70)
