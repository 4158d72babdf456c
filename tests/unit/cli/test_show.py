"""What people are shown: readable, in one line, and none of an attacker's text is obeyed."""

from __future__ import annotations

import re
import unicodedata

import click
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.cli.show import escape, ledger_line, line
from streamer.cli.workload import workload_of
from streamer.model import Ledger
from tests.unit.strategies import JSON_VALUES

DANGEROUS = {
    "an ANSI escape": "\x1b[2J\x1b]0;title\x07",
    "a C1 control": "\x9b31m",
    "a newline": "one\ntwo\r",
    "a backspace": "safe\b\b\b\bevil",
    "a turn of direction": "\u202egnp.exe\u2066x\u200f",
    "a line separator": "a\u2028b\u2029c",
    "NUL": "a\x00b",
    "a tag": "\U000e0041",
    "a private character": "\ue000",
}

HEADERS = {
    "kind": b"alert",
    "priority": b"warning",
    "rule": b"Terminal shell in container",
}
KEY = b"falco/falco-a"
VALUE = orjson.dumps(
    {
        "priority": "Warning",
        "output": "10:00:00.1: Warning A shell was spawned | command=sh",
        "output_fields": {
            "k8s.ns.name": "shop",
            "k8s.pod.name": "web-1",
            "container.name": "web",
            "proc.name": "sh",
        },
    }
)


def is_harmless(text: str) -> bool:
    return all(unicodedata.category(char) not in {"Cc", "Cf", "Co", "Cn", "Cs", "Zl", "Zp"} for char in text)


@pytest.mark.parametrize("text", DANGEROUS.values(), ids=DANGEROUS.keys())
def test_what_would_act_on_a_terminal_is_spelt_out(text: str) -> None:
    assert is_harmless(escape(text))
    assert "\\" in escape(text)


@given(st.text(st.characters(), max_size=60))
def test_no_text_whatever_can_act(text: str) -> None:
    assert is_harmless(escape(text))


@given(st.text(st.characters(categories=["L", "N", "P", "S", "Zs"])))
def test_what_people_write_stays_as_it_is(text: str) -> None:
    assert escape(text) == text


@given(
    value=st.one_of(JSON_VALUES.map(orjson.dumps), st.binary(max_size=40)),
    headers=st.fixed_dictionaries(
        {}, optional=dict.fromkeys((*HEADERS, "other"), st.one_of(st.binary(max_size=30), st.just(b"alert")))
    ),
    width=st.integers(0, 200),
)
def test_any_record_is_one_harmless_line_no_wider_than_asked(
    value: bytes, headers: dict[str, bytes], width: int
) -> None:
    shown = click.unstyle(line(KEY, value, headers, 1_795_168_800_123, width))
    assert is_harmless(shown)
    assert shown.startswith("10:00:00.123  ")
    label = headers.get("kind", b"").decode(errors="replace")
    assert len(shown) <= max(width, len("10:00:00.123  ") + max(15, len(escape(label.upper())) + 2) + 1)


def test_an_alert_is_its_time_priority_rule_workload_container_process_and_message() -> None:
    shown = click.unstyle(line(KEY, VALUE, HEADERS, 1_795_168_800_123, 200))
    assert re.split(r"  +", shown) == [
        "10:00:00.123",
        "WARNING",
        "Terminal shell in container",
        "shop/web-1",
        "web",
        "sh",
        "A shell was spawned | command=sh",
    ]


def test_a_record_of_another_day_has_its_date() -> None:
    text = click.unstyle(line(KEY, VALUE, HEADERS, 1_795_168_800_007, 200, dated=True))
    assert text.startswith("2026-11-20 10:00:00.007  WARNING ")


def test_a_long_line_is_cut_with_a_mark() -> None:
    shown = click.unstyle(line(KEY, VALUE, HEADERS, 0, 60))
    assert len(shown) == 60
    assert shown.endswith("…")


def test_a_dead_letter_says_its_reason_and_the_line() -> None:
    value = orjson.dumps({"reason": "not_json", "line": "{broken"})
    shown = click.unstyle(line(b"falco/falco-1", value, {"kind": b"dead-letter"}, 0, 200))
    assert "DEAD-LETTER" in shown
    assert "not_json" in shown
    assert "{broken" in shown


LEDGER = Ledger(lines=12_345, alerts=12_000, log_lines=340, invalid=5, published=12_000, dead_lettered=5)


def test_the_ledger_is_told_in_words() -> None:
    assert click.unstyle(ledger_line(LEDGER)) == (
        "12,345 lines = 12,000 alerts + 340 log lines + 5 invalid; 12,000 published, 5 dead-lettered: balanced"
    )
    assert "OUT OF BALANCE" in ledger_line(Ledger(lines=1))


@given(st.integers(0, 200))
def test_the_ledger_fits_in_the_last_line_of_a_terminal(width: int) -> None:
    shown = click.unstyle(ledger_line(LEDGER, width))
    assert len(shown) <= max(width, len("balanced"))
    assert shown.endswith("balanced")


def test_a_summary_is_shown_as_what_it_counts() -> None:
    value = orjson.dumps(
        {
            "priority": "Warning",
            "output": "10:00:00.1: Warning Terminal shell in container repeated 9 times in 5 min",
            "summary": {"count": 9},
        }
    )
    shown = click.unstyle(line(KEY, value, HEADERS | {"kind": b"summary"}, 0, 200))
    assert shown.endswith("Terminal shell in container  -  -  -  repeated 9 times in 5 min")


def test_a_gap_says_what_is_missing_and_how_certain_that_is() -> None:
    gap = {
        "health": "gap",
        "reason": "rotation_unseen",
        "certain": False,
        "from": "10:00Z",
        "to": "10:05Z",
        "detail": "rotated away",
    }
    shown = click.unstyle(line(KEY, orjson.dumps(gap), HEADERS | {"kind": b"health"}, 0, 200))
    assert shown.endswith(
        "rotation_unseen  falco/falco-a  lines may be lost after 10:00Z before 10:05Z: rotated away"
    )
    certain = click.unstyle(
        line(KEY, orjson.dumps({**gap, "certain": True}), HEADERS | {"kind": b"health"}, 0, 200)
    )
    assert "lines are lost after" in certain


def test_coverage_is_no_alert_of_priority_notice() -> None:
    value = {"health": "coverage", "coverage": "blind"}
    shown = line(b"falco/falco-a", orjson.dumps(value), {"kind": b"health"}, 0, 200)
    assert click.unstyle(shown) == "00:00:00.000  COVERAGE       blind  falco/falco-a  "


@pytest.mark.parametrize("levels", [900, 1015])
@pytest.mark.parametrize("name", ["output", "priority", "health", "reason", "detail", "count", "from"])
@pytest.mark.parametrize("kind", [b"alert", b"health", b"dead-letter"])
def test_values_nested_deeper_than_python_prints_are_left_out(kind: bytes, name: str, levels: int) -> None:
    value = b'{"health":"gap","%b":%b%b}' % (name.encode(), b"[" * levels, b"]" * levels)
    assert "[[" not in line(KEY, value, {**HEADERS, "kind": kind}, 0, 200)


@pytest.mark.parametrize(
    ("value", "workload"),
    [
        ({"hostname": "node-3", "output_fields": {"container.id": "host"}}, ("node-3", "host", "-")),
        ({"source": "syscall", "hostname": "node-3"}, ("node-3", "-", "-")),
        (
            {"output_fields": {"k8s.ns.name": "<NA>", "container.id": "3f2a"}, "source": "syscall"},
            ("-", "3f2a", "-"),
        ),
        (
            {
                "source": "k8s_audit",
                "output_fields": {"ka.target.namespace": "shop", "ka.target.name": "web"},
            },
            ("shop/web", "-", "-"),
        ),
        ({"source": "aws_cloudtrail", "hostname": "a"}, ("aws_cloudtrail", "-", "-")),
        ({"output_fields": [1], "source": 3}, ("-", "-", "-")),
    ],
)
def test_the_workload_of_an_alert(value: dict[str, object], workload: tuple[str, ...]) -> None:
    assert workload_of(value) == workload
