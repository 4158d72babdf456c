from __future__ import annotations

from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.model import Ledger

NAMES = [field.name for field in fields(Ledger)]
LEDGERS = st.builds(Ledger, **dict.fromkeys(NAMES, st.integers(0, 2**63)))


@st.composite
def balanced_ledgers(draw: st.DrawFn) -> Ledger:
    outcomes = (
        "log_lines",
        "filtered",
        "deduplicated",
        "limited",
        "published",
        "dead_lettered",
        "dead_letter_limited",
    )
    found = Ledger(**{name: draw(st.integers(0, 1000)) for name in outcomes})
    found.alerts = found.filtered + found.deduplicated + found.limited + found.published
    found.invalid = found.dead_lettered + found.dead_letter_limited
    found.lines = found.alerts + found.log_lines + found.invalid
    return found


@given(LEDGERS, LEDGERS)
def test_a_sum_adds_every_counter_and_changes_neither(one: Ledger, other: Ledger) -> None:
    before = one.copy(), other.copy()
    total = one + other
    assert all(getattr(total, name) == getattr(one, name) + getattr(other, name) for name in NAMES)
    assert (one, other) == before


@given(balanced_ledgers(), balanced_ledgers())
def test_balanced_ledgers_have_a_balanced_sum(one: Ledger, other: Ledger) -> None:
    assert one.balanced
    assert (one + other).balanced


@given(balanced_ledgers(), st.sampled_from(NAMES[:10]))
def test_one_line_miscounted_unbalances(ledger: Ledger, name: str) -> None:
    setattr(ledger, name, getattr(ledger, name) + 1)
    assert not ledger.balanced
    assert ledger.as_dict()["balanced"] is False


@pytest.mark.parametrize("name", ["summaries", "health_records", "gaps", "fragments"])
def test_what_is_no_lines_outcome_stands_beside_the_account(name: str) -> None:
    assert Ledger(**{name: 7}).balanced


@given(LEDGERS)
def test_as_a_dict_it_names_all_counters_and_whether_they_balance(ledger: Ledger) -> None:
    told = ledger.as_dict()
    assert told.pop("balanced") == ledger.balanced
    assert Ledger(**told) == ledger


def test_a_copy_stays_as_it_was() -> None:
    ledger = Ledger(lines=1, log_lines=1)
    copied = ledger.copy()
    ledger.lines += 1
    assert copied == Ledger(lines=1, log_lines=1)
