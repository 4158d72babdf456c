"""Deadlines in a wheel are those of a sorted list, whatever became of the names meanwhile."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamer.transform.deadlines import Deadlines
from streamer.transform.stamp import NEVER

NAMES = st.binary(min_size=1, max_size=1)
TIMES = st.integers(0, 20_000_000_000) | st.sampled_from([0, 1_000_000_000, 2**63 - 1])
STEPS = st.lists(
    st.tuples(st.just("add"), NAMES, TIMES)
    | st.tuples(st.just("forget"), NAMES, st.just(0))
    | st.tuples(st.just("pop"), st.just(b""), TIMES)
    | st.tuples(st.just("renew"), st.just(b""), st.just(0)),
    max_size=60,
)


@given(STEPS)
def test_names_are_given_in_the_order_of_their_deadlines(steps: list[tuple[str, bytes, int]]) -> None:
    wheel, true = Deadlines[bytes](), dict[bytes, int]()

    def deadline_of(name: bytes) -> int:
        return true.get(name, -1)

    for step, name, time_ns in steps:
        assert wheel.next_ns <= min(true.values(), default=NEVER)
        match step:
            case "add":
                if true.get(name) != time_ns:
                    true[name] = time_ns
                    wheel.add(name, time_ns)
            case "forget":
                true.pop(name, None)
            case "renew":
                wheel.renew(true, deadline_of)
                assert len(wheel) == len(true)
            case "pop":
                expected = sorted((at_ns, known) for known, at_ns in true.items() if at_ns <= time_ns)
                for _, known in expected:
                    assert wheel.pop(time_ns, deadline_of) == known
                    del true[known]
                assert wheel.pop(time_ns, deadline_of) is None


def test_what_is_no_longer_true_is_cleaned_in_the_slots_that_begin() -> None:
    wheel = Deadlines[bytes]()
    for n in range(1000):
        wheel.add(b"a", n)
    assert wheel.pop(0, lambda _: 999) is None
    assert len(wheel) == 1
    assert wheel.pop(999, lambda _: 999) == b"a"
    assert (len(wheel), wheel.next_ns) == (0, 999)


def test_nothing_is_due_at_the_end_of_time_where_nothing_is_expected() -> None:
    wheel = Deadlines[bytes]()
    assert wheel.pop(NEVER, lambda _: -1) is None
