"""`tap --template`."""

from __future__ import annotations

import pytest

from streamer.cli.template import Template, TemplateError
from streamer.sink import Message
from tests.unit.cli.test_show import HEADERS, KEY, VALUE

MESSAGE = Message(
    "falco.alerts.warning", 2, 7, KEY, VALUE, [*HEADERS.items(), ("node", b"node-3")], 1_795_168_800_123
)


@pytest.mark.parametrize(
    ("template", "shown"),
    [
        ("{time} {priority}", "2026-11-20T10:00:00.123Z warning"),
        ("{rule}: {message}", "Terminal shell in container: A shell was spawned | command=sh"),
        ("{workload} {container} {process}", "shop/web-1 web sh"),
        ("{topic}/{partition}@{offset} {key} {node}", "falco.alerts.warning/2@7 falco/falco-a node-3"),
        ("{k8s.pod.name},{proc.cmdline}", "web-1,-"),
        ("{{{kind}}}", "{alert}"),
        ("no name", "no name"),
    ],
)
def test_names_in_braces_are_replaced(template: str, shown: str) -> None:
    assert Template(template).render(MESSAGE) == shown


@pytest.mark.parametrize(("template", "place"), [("a {", "3"), ("} b", "1"), ("ab{}", "3"), ("{a{b}", "1")])
def test_wrong_braces_are_named_by_their_place(template: str, place: str) -> None:
    with pytest.raises(TemplateError, match=f"at character {place}"):
        Template(template)
