"""A skipped file shows in a stream's times only."""

from __future__ import annotations

from streamer.source.lag import Lag

SECOND = 1_000_000_000
NOON = 1_790_000_000 * SECOND


def at(*seconds: float) -> list[int]:
    return [NOON + int(second * SECOND) for second in seconds]


def test_lines_that_come_when_they_are_written_leave_nothing_out_however_seldom_they_are() -> None:
    lag = Lag(NOON, 8.0)
    for second in (1, 100, 500, 501, 2000):
        assert lag.hole(at(second), now=70.0 + second, behind_seconds=0.0) is None


def test_a_while_that_is_left_out_by_lines_that_came_late_may_hold_a_file() -> None:
    lag = Lag(NOON, 8.0)
    assert lag.hole(at(1, 2), now=72.0, behind_seconds=0.0) is None
    assert lag.hole(at(3, 4, 13, 14), now=84.0, behind_seconds=0.0) == 2
    assert lag.late_seconds == 10.0, "the line before the hole was written 10 s before it came"
    assert lag.hole(at(13, 14), now=84.0, behind_seconds=0.0) is None


def test_so_does_one_between_two_pieces() -> None:
    lag = Lag(NOON, 8.0)
    assert lag.hole(at(1, 2), now=72.0, behind_seconds=0.0) is None
    assert lag.hole(at(3), now=83.0, behind_seconds=0.0) is None
    assert lag.hole(at(12), now=83.1, behind_seconds=0.0) == 0


def test_what_is_read_of_long_ago_is_late_only_if_we_did_not_read() -> None:
    assert Lag(None, 8.0).hole(at(1, 2, 300, 301), now=5000.0, behind_seconds=0.0) is None
    assert Lag(None, 8.0).hole(at(1, 2, 300, 301), now=5000.0, behind_seconds=9.0) == 2


def test_a_clock_that_is_set_forward_is_no_hole() -> None:
    lag = Lag(NOON, 8.0)
    assert lag.hole(at(1), now=71.0, behind_seconds=0.0) is None
    assert lag.hole(at(3600), now=72.0, behind_seconds=0.0) is None
    assert lag.hole(at(3601), now=73.0, behind_seconds=0.0) is None


def test_a_clock_that_is_set_back_in_a_silence_makes_no_later_silence_a_hole() -> None:
    lag = Lag(NOON, 8.0)
    assert lag.hole(at(1), now=71.0, behind_seconds=0.0) is None
    for second in (200, 300, 400):  # by a clock 20 s behind the one before
        assert lag.hole(at(second - 20), now=70.0 + second, behind_seconds=0.0) is None


def test_a_clock_that_is_set_back_and_forward_again_is_no_hole_where_the_log_was_compared_in_between() -> (
    None
):
    lag = Lag(NOON, 8.0)
    assert lag.hole(at(1), now=71.0, behind_seconds=0.0) is None
    assert lag.hole(at(80), now=170.0, behind_seconds=0.0) is None  # by a clock that was set back by 20 s
    lag.compared(171.0)
    assert lag.hole(at(3700), now=173.0, behind_seconds=0.0) is None


def test_no_more_can_be_left_out_than_was_written_since_the_log_was_compared() -> None:
    def looks_late() -> Lag:
        lag = Lag(NOON, 8.0)
        assert lag.hole(at(1), now=71.0, behind_seconds=0.0) is None
        lag.compared(72.0)
        for second in (100, 101, 102):  # by a clock that was set back by 20 s, or 20 s late
            assert lag.hole(at(second - 20), now=70.0 + second, behind_seconds=0.0) is None
        return lag

    assert looks_late().hole(at(3703), now=173.0, behind_seconds=0.0) is None, "a clock that was set forward"
    assert looks_late().hole(at(103), now=173.0, behind_seconds=0.0) == 0
    late = looks_late()
    assert late.hole(at(3703), now=173.0, behind_seconds=0.0) is None
    assert late.late_seconds == 0.0
    assert late.hole(at(3704), now=174.0, behind_seconds=0.0) is None
