"""Static fields of records: what their names and values may be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from streamer.config import Settings
from streamer.model import CORE_FIELDS
from tests.unit.strategies import ANY_TEXT


def fields(given: object) -> dict[str, str]:
    return dict(Settings.model_validate({"records": {"fields": given}}).records.fields)


@pytest.mark.parametrize("name", ["a", "team", "cost_center", "t2", "x" * 63])
def test_names_are_plain_words(name: str) -> None:
    assert fields({name: "x"}) == {name: "x"}


@pytest.mark.parametrize(
    "name",
    ["", "Team", "2nd", "_a", "a-b", "a.b", "a b", "a\n", "t\u00e9am", "x" * 64, "ce_team", "content-type"],
)
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        fields({name: "x"})


@pytest.mark.parametrize("name", sorted(CORE_FIELDS - {"content-type"}))
def test_a_name_that_records_have_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="choose another name"):
        fields({name: "x"})


@given(ANY_TEXT | st.text(max_size=300))
def test_a_value_is_text_that_can_be_shown(text: str) -> None:
    legal = text.isprintable() and text == text.strip() and 0 < len(text) <= 256
    if legal:
        assert fields({"team": text}) == {"team": text}
        assert text.encode().decode() == text
    else:
        with pytest.raises(ValidationError):
            fields({"team": text})


def test_there_are_twenty_at_most() -> None:
    assert len(fields({f"f{n}": "x" for n in range(20)})) == 20
    with pytest.raises(ValidationError, match="at most 20 fields, got 21"):
        fields({f"f{n}": "x" for n in range(21)})


def test_none_are_given_by_default_or_by_an_empty_key() -> None:
    assert fields({}) == fields(None) == {}
