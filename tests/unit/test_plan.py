"""What the core is given for what stands in the settings."""

from __future__ import annotations

import random
import re
from dataclasses import replace
from typing import Any

import orjson
import pytest

from streamer.config import Settings
from streamer.model import Alert, Priority
from streamer.plan import dedupe_plan, filters, limit_plan, plan_of
from streamer.simulator.rules import Act, Rule
from streamer.simulator.syscall_rules import SYSCALL_RULES
from streamer.simulator.templates import alert_template
from streamer.simulator.workloads import WORKLOADS
from streamer.transform.fingerprint import Fingerprinter, KeyFields
from streamer.transform.limit import Rate
from streamer.transform.parse import parse
from streamer.transform.stamp import StampReader
from streamer.transform.treatment import DedupeOverride, DedupePlan, LimitOverride, LimitPlan, TargetLimit

SECOND_NS = 10**9


def settings(**given: Any) -> Settings:
    return Settings.model_validate({"cluster": "prod-1", **given})


def alert(rule: str, priority: str = "Notice", **fields: object) -> Alert:
    body = {
        "rule": rule,
        "priority": priority,
        "time": "2026-11-20T10:00:00.000000000Z",
        "output_fields": fields,
    }
    found = parse(orjson.dumps(body), 0, StampReader())
    assert isinstance(found, Alert)
    return found


def test_the_plan_holds_all_parts() -> None:
    given = settings(topics={"overflow": "<prefix>.more", "summaries": "<prefix>.<cluster>.sum"})
    plan = plan_of(given)
    assert plan.overflow_topic == "falco.more"
    assert plan.dedupe == dedupe_plan(given, 8)
    assert plan.summaries_topic == "falco.prod-1.sum"
    assert plan.limits == limit_plan(given, 8)
    assert not plan.filters
    assert plan_of(settings(records={"fields": {"team": "a"}})).fields == {"team": "a"}
    assert plan_of(given, cores=1).dedupe.max_windows == 200_000


def test_the_settings_defaults_are_the_cores_for_eight_shards() -> None:
    ours, core = dedupe_plan(settings(), 8), DedupePlan()
    assert (ours.enabled, ours.window_ns, ours.max_variants) == (
        core.enabled,
        core.window_ns,
        core.max_variants,
    )
    assert (ours.max_windows, ours.max_evidence_bytes) == (core.max_windows, core.max_evidence_bytes)
    limits = limit_plan(settings(), 8)
    assert replace(limits, by={}, target=None) == LimitPlan()
    assert limits.target == TargetLimit(Rate(90, 600), Rate(30, 200))


def test_fields_of_a_source_fall_back_to_those_of_other_sources() -> None:
    given = settings(
        dedupe={
            "group_fields": {"kafka": ["a"], "other": ["g"]},
            "variant_fields": {"okta": ["v"], "in-house": ["w"]},
            "volatile_fields": ["t*"],
            "normalisers": [],
        }
    )
    plan = dedupe_plan(given, 1).fingerprint
    assert plan.fields["kafka"] == KeyFields(("a",), ("*",))
    assert plan.fields["in-house"] == KeyFields(("g",), ("w",))
    assert plan.fields["okta"].variant == ("v",)
    assert plan.other == KeyFields(("g",), ("*",))
    assert "other" not in plan.fields
    assert (plan.volatile, plan.normalisers) == (("t*",), ())


def test_overrides_say_only_what_is_different() -> None:
    overrides = [
        {"rules": ["a*", "b"], "enabled": False},
        {
            "rules": "c",
            "window_seconds": [0.5, 2],
            "max_variants": 0,
            "group_fields": [],
            "variant_fields": "x",
        },
    ]
    assert dedupe_plan(settings(dedupe={"overrides": overrides}), 1).overrides == (
        DedupeOverride(("a*", "b"), enabled=False),
        DedupeOverride(("c",), None, (SECOND_NS // 2, 2 * SECOND_NS), 0, KeyFields((), ("x",))),
    )
    limits = {"overrides": [{"rules": "a*", "rate_per_minute": 1.5, "burst": 3}]}
    assert limit_plan(settings(limits=limits), 1).overrides == (LimitOverride(("a*",), Rate(1.5, 3)),)


@pytest.mark.parametrize(("whole", "cores", "share"), [(200, 8, 25), (7, 8, 1), (9, 1, 9), (9, 4, 2)])
def test_what_the_cluster_may_use_is_shared_by_the_cores(whole: int, cores: int, share: int) -> None:
    rate = {"rate_per_minute": 60, "burst": whole}
    given = settings(
        dedupe={"max_windows": whole, "max_evidence_bytes": whole},
        limits={"max_buckets": whole, "overall": rate, "per_topic": rate},
        topics={"alerts": {"debug": "x", "informational": "x"}},
        routes=[{"match": 'tags = "t"', "topic": "routed"}],
    )
    dedupe, limits = dedupe_plan(given, cores), limit_plan(given, cores)
    assert (dedupe.max_windows, dedupe.max_evidence_bytes, limits.max_buckets) == (share, share, share)
    assert limits.overall == Rate(60 / cores, share)
    topics = {f"falco.alerts.{priority.label}" for priority in Priority if priority <= Priority.NOTICE}
    assert limits.per_topic == dict.fromkeys([*topics, "x", "routed"], Rate(60 / cores, share))
    assert limits.rate == Rate(60, 300), "a target's limits are not shared: a target has one core"


def test_protected_priorities_become_the_cores() -> None:
    names = ["emergency", "alert", "critical", "debug"]
    protected = limit_plan(settings(limits={"protected": names}), 1).protected
    assert protected == {Priority.EMERGENCY, Priority.ALERT, Priority.CRITICAL, Priority.DEBUG}


def test_filters_drop_until_they_expire_in_their_order() -> None:
    def rule(action: str, *match: str, **more: str) -> dict[str, object]:
        return {"action": action, "match": match, "reason": "r", **more}

    given = filters(
        settings(
            filters=[
                rule("keep", 'k8s.ns.name = "prod"'),
                rule("drop", 'rule =~ "Terminal.*"', 'priority = "Notice"', expires="1970-01-01T00:00:05.5Z"),
            ]
        )
    )
    terminal = alert("Terminal shell in container", **{"k8s.ns.name": "dev"})
    end_ns = 5_500_000_000
    assert given.drops(terminal, end_ns - 1)
    assert not given.drops(terminal, end_ns)
    assert not given.drops(alert("Terminal shell in container", **{"k8s.ns.name": "prod"}), 0)
    assert not given.drops(alert("Terminal shell in container", "Warning"), 0)


@pytest.mark.parametrize("name", ["Info", "informational", "INFORMATIONAL"])
def test_filters_know_a_priority_by_all_its_names(name: str) -> None:
    given = filters(settings(filters=[{"action": "drop", "match": f'priority = "{name}"', "reason": "r"}]))
    assert given.drops(alert("x", "Informational"), 0)
    assert not given.drops(alert("x", "Notice"), 0)


@pytest.mark.parametrize("least", list(Priority))
def test_min_priority_drops_what_is_less_urgent_and_nothing_else(least: Priority) -> None:
    given = filters(settings(min_priority=least.label))
    for priority in Priority:
        found = alert("x", priority.name.capitalize())
        assert given.drops(found, 0) == ("min_priority" if priority > least else None)
        assert not given.drops(alert("Falco internal: syscall event drop", priority.name.capitalize()), 0)


def test_a_filter_may_keep_what_min_priority_would_drop() -> None:
    keep = {"action": "keep", "match": 'rule = "Launch Ingress"', "reason": "r"}
    given = filters(settings(min_priority="warning", filters=[keep]))
    assert not given.drops(alert("Launch Ingress", "Debug"), 0)
    assert given.drops(alert("Launch", "Debug"), 0)


def test_without_min_priority_there_is_no_filter_to_ask() -> None:
    assert not filters(settings())
    assert settings(min_priority="debug").every_filter == ()


ACTS = [
    pytest.param(rule, act, id=f"{rule.name}: {act.cmdline[:30]}")
    for rule in SYSCALL_RULES
    for act in rule.acts
    # What a process is told to do, or does it to, is evidence, even where it looks random; so is a server's port.
    if not re.search(r"\{(temp|number)\}", act.cmdline + act.target) and not act.target.endswith("{port}")
]


@pytest.mark.parametrize(("rule", "act"), ACTS)
def test_the_same_act_once_more_is_the_same_alert(rule: Rule, act: Act) -> None:
    """Whatever the rule prints, by the default fields; all that changes is time and the client's port."""
    workload = next(each for each in WORKLOADS if act.workload in {"", each.name})
    template = alert_template(random.Random(1), rule, act, workload, (0, 44), message_key=False)
    same = {b"host": b"node-1", b"pod": b"x7k2p", b"cid": b"0a1b2", b"temp": b"", b"number": b""}
    one, other = (
        parse(
            template
            % (
                same | {b"clock": b"10:00:0%d.0" % n, b"iso": b"", b"ns": b"17%d" % n, b"port": b"4%d000" % n}
            ),
            0,
            StampReader(),
        )
        for n in (1, 2)
    )
    assert isinstance(one, Alert)
    assert isinstance(other, Alert)
    assert one.body != other.body
    selection = Fingerprinter(dedupe_plan(settings(), 1).fingerprint, b"k" * 16).select(one, None)
    assert selection.fingerprint(one) == selection.fingerprint(other)
