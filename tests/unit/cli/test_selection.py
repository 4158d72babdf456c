"""What `tap` shows of what there is."""

from __future__ import annotations

from datetime import UTC, datetime

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.cli.selection import Selection, as_json, since_ms
from streamer.cli.show import escape_json
from streamer.model import Priority
from streamer.transform.matcher import Matcher
from tests.unit.cli.test_show import DANGEROUS, is_harmless

KINDS = {"alert", "summary", "health"}
ALERT = orjson.dumps(
    {
        "time": "2026-11-20T10:00:00.000000000Z",
        "rule": "Terminal shell in container",
        "priority": "Warning",
        "source": "syscall",
        "tags": ["shell", "mitre_execution"],
        "output": "x",
        "output_fields": {"k8s.ns.name": "shop-eu", "proc.name": "bash", "fd.num": 3, "user.name": None},
    }
)


def takes(*where: str, **conditions: object) -> bool:
    given = Selection(KINDS, matchers=tuple(map(Matcher.parse, where)), **conditions)  # type: ignore[arg-type]
    return given.takes({"kind": b"alert", "cluster": b"prod-eu-1", "node": b"node-3"}, ALERT)


def test_without_conditions_all_kinds_that_are_wanted_are_shown() -> None:
    assert takes()
    assert Selection(KINDS).takes({"kind": b"health"}, b"{}")
    assert not Selection(KINDS).takes({"kind": b"dead-letter"}, b"{}")
    assert not Selection(KINDS).takes({"kind": b""}, ALERT)


@pytest.mark.parametrize(
    ("priority", "shown"), [(Priority.DEBUG, True), (Priority.WARNING, True), (Priority.ERROR, False)]
)
def test_a_priority_means_it_and_more_severe_ones(priority: Priority, shown: bool) -> None:
    assert takes(priority=priority) is shown


def test_globs_match_rules_and_namespaces() -> None:
    assert takes(rules=("Write*", "Terminal*"), namespaces=("shop-*",))
    assert not takes(rules=("terminal*",))
    assert not takes(namespaces=("shop",))


@pytest.mark.parametrize(
    ("where", "shown"),
    [
        ('proc.name = "bash"', True),
        ('proc.name =~ "(ba|z)sh"', True),
        ('proc.name != "bash"', False),
        ('fd.num = "3"', True),
        ('user.name = ""', False),
        ('user.name = "" or absent', True),
        ('tags = "shell"', True),
        ('tags !~ "mitre_.*"', False),
        ("priority = WARNING", True),
        ("priority >= notice", True),
        ("priority > warning", False),
        ('source = "k8s_audit"', False),
        ('no.such.field = "x"', False),
        ('no.such.field != "x"', False),
    ],
)
def test_any_field_can_be_asked_for(where: str, shown: bool) -> None:
    assert takes(where) is shown


def test_all_conditions_must_hold() -> None:
    assert takes('proc.name = "bash"', 'fd.num = "3"', rules=("Terminal*",))
    assert not takes('proc.name = "bash"', 'fd.num = "4"', rules=("Terminal*",))


def test_conditions_on_alerts_leave_other_kinds_out() -> None:
    assert not Selection(KINDS, rules=("*",)).takes({"kind": b"health"}, b'{"rule":"x","priority":"Debug"}')
    assert not Selection(KINDS, rules=("*",)).takes({"kind": b"alert"}, b"{broken")


def test_globs_match_the_cluster_and_the_node_of_any_record() -> None:
    assert takes(clusters=("prod-*",), nodes=("node-1", "node-3"))
    assert not takes(clusters=("dev-*",))
    assert not takes(nodes=("node-1",))
    gap = {"kind": b"health", "health": b"gap", "cluster": b"prod-eu-1"}
    assert Selection(KINDS, clusters=("prod-eu-?",)).takes(gap, b"{}")
    assert not Selection(KINDS, nodes=("*3",)).takes(gap, b"{}")


def test_what_is_excluded_is_left_out_and_other_kinds_stay() -> None:
    excluded = tuple(map(Matcher.parse, ('proc.name = "zsh"', 'proc.name = "bash"')))
    assert not takes(excluded=excluded)
    assert takes(excluded=excluded[:1])
    assert Selection(KINDS, excluded=excluded).takes({"kind": b"health"}, b"{}")


def test_coverage_can_be_left_out_alone() -> None:
    selection = Selection(KINDS, coverage=False)
    assert not selection.takes({"kind": b"health", "health": b"coverage"}, b"{}")
    assert selection.takes({"kind": b"health", "health": b"gap"}, b"{}")


def test_since_is_a_while_ago_or_a_time() -> None:
    now = 1_795_168_800_000
    assert since_ms("15m", now) == now - 900_000
    assert since_ms("1.5h", now) == now - 5_400_000
    assert since_ms("1d", now) == now - 86_400_000
    moment = datetime(2026, 11, 20, 10, tzinfo=UTC)
    assert since_ms("2026-11-20T10:00:00Z", now) == since_ms("2026-11-20T11:00:00+01:00", now)
    assert since_ms("2026-11-20T10:00:00Z", now) == moment.timestamp() * 1000
    for wrong in ("yesterday", "15", "15 minutes", "2026-11-20T10:00:00", ""):
        with pytest.raises(ValueError, match=r".+"):
            since_ms(wrong, now)


def test_json_holds_all_that_kafka_has_and_the_value_as_it_is() -> None:
    value = b'{"rule": "x", "n": 18446744073709551616}'
    text = as_json("t", 1, 2, 3, b"ns/pod", value, [("kind", b"alert")])
    assert value in text  # no number is rounded, no space lost
    assert text.count(b"\n") == 0
    other = orjson.loads(as_json("t", 1, 2, 3, None, b"\xff text", []))
    assert (other["key"], other["value"]) == (None, "\ufffd text")


@pytest.mark.parametrize("text", DANGEROUS.values(), ids=DANGEROUS.keys())
def test_json_on_a_terminal_is_harmless_and_still_json(text: str) -> None:
    shown = escape_json(orjson.dumps({"output": text}).decode())
    assert is_harmless(shown)
    assert orjson.loads(shown) == {"output": text}


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_any_json_stays_what_it_is(text: str) -> None:
    shown = escape_json(orjson.dumps(text).decode())
    assert is_harmless(shown)
    assert orjson.loads(shown) == text


def test_values_nested_deeper_than_python_prints_are_in_no_namespace() -> None:
    selection = Selection(KINDS, namespaces=("shop-*",))
    for levels in (900, 1015):
        nested = b"[" * levels + b'"shop-eu"' + b"]" * levels
        assert not selection.takes({"kind": b"alert"}, ALERT.replace(b'"shop-eu"', nested))
