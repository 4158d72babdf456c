from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.transform.normalise import NORMALISERS, Normaliser

EVERY = Normaliser(tuple(NORMALISERS))


@pytest.mark.parametrize(
    ("value", "normal"),
    [
        ("10.0.0.7:51234->10.96.0.1:443", "10.0.0.7->10.96.0.1:443"),
        ("::1:51234->::1:443", "::1->::1:443"),
        ("10.0.0.7:22->10.96.0.1:443", "10.0.0.7:22->10.96.0.1:443"),
        ("0.0.0.0:1024->", "0.0.0.0->"),
        ("10.0.0.7:51234", "10.0.0.7:51234"),
        ("sh -c echo 1.1.1.1:51234->x", "sh -c echo 1.1.1.1:51234->x"),
        ("a:\u00b2->b", "a:\u00b2->b"),
        ("/tmp/tmp.Ab12Cd34Ef/x", "/tmp/tmp*/x"),
        ("/tmp/tmpab12cd3_", "/tmp/tmp*"),
        ("/tmp/evil.sh", "/tmp/evil.sh"),
        ("/tmpab12cd34x", "/tmpab12cd34x"),
        ("cat /proc/4711/environ", "cat /proc/*/environ"),
        ("/proc/4711/task/4712/maps", "/proc/*/maps"),
        ("/proc/self/maps", "/proc/self/maps"),
    ],
)
def test_takes_out_what_differs_each_time(value: str, normal: str) -> None:
    assert EVERY.values((value, 1, None)) == (normal, 1, None)
    assert EVERY.signs_in(value.encode()) or value == normal


@given(st.text() | st.from_regex(r"[a-z0-9.:]*->[0-9.:]*|/proc/[0-9]+.*|tmp\.?[a-z0-9]*"))
def test_takes_any_text_and_never_makes_it_longer(value: str) -> None:
    [normal] = EVERY.values((value,))
    assert len(normal) <= len(value)


def test_only_what_was_chosen() -> None:
    assert Normaliser(("process_id",)).values(("/proc/1/x", "tmp.Ab12Cd34")) == ("/proc/*/x", "tmp.Ab12Cd34")
    assert not Normaliser(()).signs_in(b"/proc/ tmp ->")
