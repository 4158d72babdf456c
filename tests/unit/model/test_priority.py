from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.model import Priority


@pytest.mark.parametrize("priority", list(Priority))
@pytest.mark.parametrize(
    "spell", [str.lower, str.upper, str.capitalize, str.swapcase, lambda name: name[0] + name[1:].lower()]
)
def test_every_name_is_read_in_any_case(priority: Priority, spell: type[str]) -> None:
    assert Priority.parse(spell(priority.name)) is priority


@pytest.mark.parametrize("name", ["Info", "info", "INFO", "iNFO"])
def test_info_is_informational(name: str) -> None:
    assert Priority.parse(name) is Priority.INFORMATIONAL


@pytest.mark.parametrize(
    "name", ["", " notice", "notice ", "warn", "err", "0", "emerg", "information", "d\u00e9bug", "\u0130nfo"]
)
def test_anything_else_is_none(name: str) -> None:
    assert Priority.parse(name) is None


@given(st.text())
def test_any_text_is_a_priority_or_none(text: str) -> None:
    found = Priority.parse(text)
    assert found is None or text.lower() in {found.label, "info"}


def test_the_most_severe_comes_first() -> None:
    assert [priority.label for priority in sorted(Priority)] == [
        "emergency",
        "alert",
        "critical",
        "error",
        "warning",
        "notice",
        "informational",
        "debug",
    ]
