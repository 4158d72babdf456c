from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from streamer.model import Alert
from streamer.transform.filter import Filter, FilterAction, Filters, Matcher, MatcherError
from streamer.transform.parse import parse
from streamer.transform.stamp import StampReader
from tests.unit.strategies import ALERT_BODIES
from tests.unit.transform.samples import START_NS, alert


def read(body: bytes) -> Alert:
    found = parse(body, START_NS, StampReader())
    assert isinstance(found, Alert)
    return found


FIELDS: dict[str, Any] = {
    "k8s.ns.name": "dev-7",
    "proc.name": None,
    "proc.args": "a\nb",
    "user.uid": 0,
    "proc.is_exe_upper_layer": True,
    "k8s.pod.labels": ["app:web", "tier:front"],
}
SAMPLE = read(alert(output_fields=FIELDS))


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ('rule = "Terminal shell in container"', True),
        ("rule=Terminal shell in container", True),
        ('rule = "Terminal shell"', False),
        ('rule =~ "Terminal.*"', True),
        ('rule =~ "shell"', False),
        ("priority = notice", True),
        ("priority = Notice", True),
        ("priority = info", False),
        ("priority != Informational", True),
        ("priority != notice", False),
        (r"priority =~ \S+", True),
        ("priority =~ Not.*|Warning", True),
        ("source=syscall", True),
        ("hostname != node-1", False),
        ("tags = container", True),
        ("tags != container", False),
        ('tags =~ "mitre_.*"', True),
        ("k8s.ns.name =~ dev-[0-9]+", True),
        ("k8s.ns.name !~ dev-[0-9]+", False),
        ('proc.name = ""', True),
        ('absent.field = ""', True),
        ("absent.field != x", True),
        ("user.uid = 0", True),
        ("proc.is_exe_upper_layer = true", True),
        ("k8s.pod.labels = tier:front", True),
        ("k8s.pod.labels = tier", False),
        ('proc.args =~ "a.b"', True),
        ("  proc.args   !~   c  ", True),
    ],
)
def test_a_matcher_compares(text: str, matches: bool) -> None:
    assert Matcher.parse(text).compile()(SAMPLE) is matches


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no matcher"),
        ("rule", "no matcher"),
        ("= x", "no matcher"),
        ("rule =", "has no value"),
        ('rule = "x', "quoted value"),
        ('rule = "x" y', "quoted value"),
        ("rule =~ (", "regular expression.*missing"),
        ("priority = hihg", "^.hihg. is no priority; they are emergency, alert, "),
        ("rule =~ (?=a)b", "regular expression.*invalid"),
    ],
)
def test_a_broken_matcher_says_why(text: str, why: str) -> None:
    with pytest.raises(MatcherError, match=why):
        Matcher.parse(text)


def filters(*items: tuple[str, str], expires_ns: int | None = None) -> Filters:
    return Filters(
        [
            Filter(FilterAction(action), (Matcher.parse(text),), "a reason", expires_ns)
            for action, text in items
        ]
    )


def test_the_first_filter_that_matches_decides() -> None:
    assert not filters().drops(SAMPLE, START_NS)
    assert filters(("drop", "source=syscall")).drops(SAMPLE, START_NS)
    assert not filters(("keep", "tags=container"), ("drop", "source=syscall")).drops(SAMPLE, START_NS)
    assert filters(("drop", "source=syscall"), ("keep", "tags=container")).drops(SAMPLE, START_NS)


def test_a_filter_ends_by_the_alerts_own_line() -> None:
    ending = filters(("drop", "source=syscall"), expires_ns=START_NS)
    assert ending.drops(SAMPLE, START_NS - 1)
    assert not ending.drops(SAMPLE, START_NS)


def test_falcos_report_on_itself_is_dropped_only_by_name() -> None:
    name = "Falco internal: syscall event drop"
    report = read(alert(rule=name, priority="Debug", source="internal"))
    assert not filters(("drop", "priority=debug")).drops(report, START_NS)
    assert not filters(("drop", 'rule =~ ".*"')).drops(report, START_NS)
    assert filters(("drop", f'rule = "{name}"')).drops(report, START_NS)


@given(ALERT_BODIES)
def test_any_alert_can_be_asked(body: bytes) -> None:
    found = read(body)
    for text in 'rule =~ ".*"', "tags =~ .*", 'x != ""', "output =~ .+":
        assert Matcher.parse(text).compile()(found) in {True, False}
