from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from streamer.model import Alert, Priority
from streamer.transform.matcher import Matcher
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


def route(to: str, *matchers: str) -> Route:
    return Route(to, tuple(map(Matcher.parse, matchers)))


@pytest.mark.parametrize(
    ("matchers", "changed", "matches"),
    [
        ([], {}, True),
        (['rule = "Terminal shell in container"'], {}, True),
        (['rule =~ "Terminal.*"'], {}, True),
        (['rule =~ "Terminal"'], {}, False),
        (['rule =~ "a.*"'], {"rule": "a\nb"}, True),
        (['tags =~ "nothing|T1059"'], {}, True),
        (['tags = "T1059"'], {"tags": ...}, False),
        (['source = "k8s_audit"'], {}, False),
        (['source = "syscall"'], {"source": ...}, True),
        (['k8s.ns.name = "shop"'], {}, True),
        (['k8s.ns.name != "bank"'], {"output_fields": {"k8s.ns.name": None}}, False),
        (["priority >= warning"], {}, False),
        (["priority >= warning"], {"priority": "Error"}, True),
        (['rule =~ "Terminal.*"', 'tags = "T1059"', 'source = "syscall"'], {}, True),
        (['rule =~ "Terminal.*"', 'tags = "T1059"', 'source = "okta"'], {}, False),
    ],
)
def test_a_route_takes_what_all_its_matchers_match(
    matchers: list[str], changed: dict[str, Any], matches: bool
) -> None:
    assert topic(route("x", *matchers), **changed) == ("x" if matches else "falco.alerts.notice")


def test_the_first_route_that_matches_wins() -> None:
    routes = route("first", 'source = "okta"'), route("second", 'rule =~ "T.*"'), route("third")
    assert topic(*routes) == "second"
    assert topic(*routes, source="okta") == "first"
    assert topic(*routes, rule="Other") == "third"


@given(ALERT_BODIES)
def test_no_text_of_an_alert_names_a_topic(body: bytes) -> None:
    routes = [route("override", 'rule =~ ".*a.*"'), route("tagged", 'tags = "container"')]
    assert Router(BY_PRIORITY, routes).topic(read(body)) in {*BY_PRIORITY.values(), "override", "tagged"}
