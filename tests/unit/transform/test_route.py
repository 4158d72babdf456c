from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from streamer.model import Alert, Priority
from streamer.transform.parse import parse
from streamer.transform.route import Route, Router
from streamer.transform.stamp import StampReader
from tests.unit.strategies import ALERT_BODIES
from tests.unit.transform.samples import START_NS, alert

BY_PRIORITY = {priority: f"falco.alerts.{priority.label}" for priority in Priority}


def read(body: bytes) -> Alert:
    found = parse(body, START_NS, StampReader())
    assert isinstance(found, Alert)
    return found


def topic(*routes: Route, **changed: Any) -> str:
    return Router(BY_PRIORITY, routes).topic(read(alert(**changed)))


@pytest.mark.parametrize("priority", list(Priority))
def test_without_routes_the_priority_names_the_topic(priority: Priority) -> None:
    assert topic(priority=priority.label) == f"falco.alerts.{priority.label}"


def test_several_priorities_may_share_a_topic() -> None:
    router = Router(dict.fromkeys(Priority, "falco.all"))
    assert {router.topic(read(alert(priority=priority.label))) for priority in Priority} == {"falco.all"}


@pytest.mark.parametrize(
    ("route", "changed", "matches"),
    [
        (Route("x"), {}, True),
        (Route("x", rules=("Terminal shell in container",)), {}, True),
        (Route("x", rules=("Terminal*",)), {}, True),
        (Route("x", rules=("terminal*",)), {}, False),
        (Route("x", rules=("Terminal",)), {}, False),
        (Route("x", rules=("*shell",)), {}, False),
        (Route("x", rules=("Nothing", "*shell*")), {}, True),
        (Route("x", rules=("Rule [ab]",)), {"rule": "Rule b"}, True),
        (Route("x", rules=("a.c",)), {"rule": "abc"}, False),
        (Route("x", rules=("a*",)), {"rule": "a\nb"}, True),
        (Route("x", tags=frozenset({"nothing", "T1059"})), {}, True),
        (Route("x", tags=frozenset({"t1059"})), {}, False),
        (Route("x", tags=frozenset({"T1059"})), {"tags": ...}, False),
        (Route("x", sources=frozenset({"syscall"})), {}, True),
        (Route("x", sources=frozenset({"k8s_audit"})), {}, False),
        (Route("x", sources=frozenset({"syscall"})), {"source": ...}, True),
        (Route("x", namespaces=frozenset({"shop"})), {}, True),
        (Route("x", namespaces=frozenset({"bank"})), {}, False),
        (Route("x", namespaces=frozenset({"shop"})), {"output_fields": ...}, False),
        (Route("x", namespaces=frozenset({"shop"})), {"output_fields": {"k8s.ns.name": None}}, False),
        (Route("x", namespaces=frozenset({"shop"})), {"output_fields": {"k8s.ns.name": ["shop"]}}, False),
        (
            Route("x", namespaces=frozenset({"shop"})),
            {"output_fields": {"ka.target.namespace": "shop"}},
            True,
        ),
        (
            Route("x", namespaces=frozenset({"shop"})),
            {"output_fields": {"k8s.ns.name": None, "ka.target.namespace": "shop"}},
            True,
        ),
        (
            Route("x", rules=("Terminal*",), tags=frozenset({"T1059"}), sources=frozenset({"syscall"})),
            {},
            True,
        ),
        (Route("x", rules=("Terminal*",), tags=frozenset({"T1059"}), sources=frozenset({"okta"})), {}, False),
    ],
)
def test_a_route_takes_what_meets_all_its_conditions(
    route: Route, changed: dict[str, Any], matches: bool
) -> None:
    assert topic(route, **changed) == ("x" if matches else "falco.alerts.notice")


def test_the_first_route_that_matches_wins() -> None:
    routes = Route("first", sources=frozenset({"okta"})), Route("second", rules=("T*",)), Route("third")
    assert topic(*routes) == "second"
    assert topic(*routes, source="okta") == "first"
    assert topic(*routes, rule="Other") == "third"


@given(ALERT_BODIES)
def test_no_text_of_an_alert_names_a_topic(body: bytes) -> None:
    routes = [Route("override", rules=("*a*",)), Route("tagged", tags=frozenset({"container"}))]
    assert Router(BY_PRIORITY, routes).topic(read(body)) in {*BY_PRIORITY.values(), "override", "tagged"}
