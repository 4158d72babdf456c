"""What a log tells of the Falco that wrote it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamer.simulator import AlertGenerator
from streamer.transform.symptoms import symptoms
from tests.unit.transform.samples import SECOND_NS, START_NS

GENERATOR = AlertGenerator(3, sources=("syscall",))


def alert(at_ns: int) -> bytes:
    return GENERATOR.alert(at_ns, "node-1")


def test_alerts_that_are_written_at_once_are_nothing_to_worry_about() -> None:
    found = symptoms(
        (alert(at), at + 2_000_000) for at in range(START_NS, START_NS + 9 * SECOND_NS, SECOND_NS)
    )
    assert (found.lines, found.alerts, found.late, found.clumps, found.buffered) == (9, 9, 0, 0, False)


def test_a_burst_is_no_clump() -> None:
    found = symptoms((alert(START_NS + n * 1000), START_NS + n * 1000 + 5_000_000) for n in range(50))
    assert not found.buffered


def test_alerts_that_happened_apart_and_come_together_were_held_back() -> None:
    flushed_at = START_NS + 60 * SECOND_NS
    found = symptoms((alert(START_NS + n * 20 * SECOND_NS), flushed_at + n) for n in range(3))
    assert found.buffered
    assert (found.late, found.most_late_ns) == (3, 60 * SECOND_NS)


def test_a_log_caught_up_after_a_pause_is_late_once_and_not_in_clumps() -> None:
    found = symptoms((alert(START_NS + n * SECOND_NS), START_NS + (8 + n) * SECOND_NS) for n in range(4))
    assert (found.late, found.clumps, found.most_late_ns) == (4, 0, 8 * SECOND_NS)


def test_text_and_malformed_lines_are_told_apart() -> None:
    lines = [
        b"10:00:00.123456789: Warning A shell (user=root)",
        b"Fri Nov 20 10:00:00 2026: Loading rules from:",
        b'{"broken',
    ]
    found = symptoms((line, START_NS) for line in lines)
    assert (found.lines, found.alerts, found.text_alerts, found.malformed) == (3, 0, 1, 1)


def test_what_falco_prints_is_what_it_printed_last() -> None:
    text = b"10:00:00.123456789: Warning A shell (user=root)"
    for lines, prints_text in (
        ([text], True),
        ([text, alert(START_NS)], False),
        ([text, b"Fri Nov 20 10:00:00 2026: Loading rules from:"], True),
        ([alert(START_NS), text, text], True),
        ([], False),
    ):
        assert symptoms((line, START_NS) for line in lines).prints_text is prints_text


@given(st.lists(st.tuples(st.binary(max_size=60), st.integers(0, 2**63 - 1)), max_size=20))
def test_any_lines_can_be_looked_at(lines: list[tuple[bytes, int]]) -> None:
    found = symptoms(lines)
    assert found.lines == len(lines)
    assert found.alerts + found.text_alerts + found.malformed <= len(lines)
