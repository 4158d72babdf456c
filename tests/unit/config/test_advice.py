"""Warnings about configurations that are valid and look wrong."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from streamer.config import Settings
from streamer.config.advice import advice, unknown_field
from streamer.config.alert_fields import GROUP_FIELDS
from streamer.simulator.other_rules import AUDIT_RULES
from streamer.simulator.syscall_rules import SYSCALL_RULES
from streamer.transform.matcher import Matcher

NOW = datetime(2026, 11, 20, tzinfo=UTC)


def warnings(match: str, **more: Any) -> list[str]:
    rule = {"action": "drop", "match": match, "reason": "r"}
    settings = Settings.model_validate({"filters": [rule | more.pop("rule", {})], **more})
    return [finding.what for finding in advice(settings, NOW)]


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("prco.name", "proc.name"),
        ("Proc.name", "proc.name"),
        ("k8s.ns.nme", "k8s.ns.name"),
        ("ka.target.namespce", "ka.target.namespace"),
        ("proc.anme[2]", "proc.aname"),
        ("toupper(proc.nmae)", "proc.name"),
    ],
)
def test_a_field_that_no_source_has_is_told_with_the_nearest(name: str, near: str) -> None:
    [told] = warnings(f'{name} != "x"')
    assert told.startswith("`filters.0.match`: ")
    assert f"has a field `{name}`; did you mean `{near}`?" in told


@pytest.mark.parametrize(
    "name",
    [
        "proc.aname[2]",
        "evt.arg.flags",
        "evt.arg[0]",
        "proc.env[HOME]",
        "ka.req.pod.containers.image[0]",
        "k8smeta.pod.label[app.kubernetes.io/name]",
        "container.label.app",
        "json.value[/resource/labels/project_id]",
        "ct.user",
        "okta.actor.name",
        "gitlab.event_type",
        "toupper(proc.pname)",
        "falco.outputs_queue_num_drops",
        *sorted({field for fields in GROUP_FIELDS.values() for field in fields}),
    ],
)
def test_fields_of_known_sources_are_not_told(name: str) -> None:
    assert warnings(f'{name} = "x"') == []


def test_all_fields_of_the_shipped_rules_are_known() -> None:
    names = {name for rule in (*SYSCALL_RULES, *AUDIT_RULES) for name in rule.fields}
    assert len(names) > 40
    assert [name for name in names if unknown_field(Matcher(name, "=", "x")) is not None] == []


def test_what_an_alert_has_beside_its_fields_is_known() -> None:
    assert warnings('rule = "x"') == []
    assert warnings("priority >= error") == []


def test_a_field_of_ones_own_plugin_is_quoted_or_configured() -> None:
    assert len(warnings('door.badge = "7"')) == 1
    assert warnings('"door.badge" = "7"') == []
    assert warnings('door.badge = "7"', dedupe={"group_fields": {"door": ["door.badge"]}}) == []


def test_an_expired_filter_is_told() -> None:
    [told] = warnings('rule = "x"', rule={"expires": "2026-11-20T00:00:00Z"})
    assert told == "`filters.0` has expired (r): it matches nothing any more"
    assert warnings('rule = "x"', rule={"expires": "2026-11-20T00:00:01Z"}) == []
