"""How a cluster stands, from its health records."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from streamer.sink import Message
from streamer.view.health import HealthBook
from streamer.view.shape import coverage as shown_coverage
from streamer.view.shape import marks
from streamer.view.verdict import RECENT_MS, UNREPORTED_MS, State, Verdict, judge
from tests.unit.view.records import NOW_MS, POD, coverage, health

SECOND = replace(POD, pod="falco-b", uid="uid-b", node="node-2")
SUCCESSOR = replace(POD, pod="falco-c", uid="uid-c")
FROM = "2026-11-20T10:50:00.000000000Z"
TO = "2026-11-20T10:55:00.000000000Z"

STRETCH: dict[str, Any] = {"from": FROM, "to": TO}


def book(*records: Message) -> HealthBook:
    made = HealthBook()
    for record in records:
        made.note(dict(record.headers)["cluster"].decode(), record.value or b"", record.timestamp_ms)
    return made


def verdict(*records: Message, now_ms: int = NOW_MS) -> Verdict:
    return judge(book(*records).clusters["prod"], now_ms)


def storm(state: str, time_ms: int = NOW_MS, **more: Any) -> Message:
    limit = {
        "limit": "workload",
        "name": "Shell",
        "workload": {"k8s.ns.name": "shop"},
        "count": 3,
        "from": FROM,
        "to": TO,
    }
    return health("storm", time_ms, state=state, **{**limit, **more})


def gap(time_ms: int = NOW_MS, *, certain: bool = True) -> Message:
    return health("gap", time_ms, reason="pod_gone", certain=certain, **STRETCH, detail="", evidence=[])


def test_a_cluster_whose_pods_are_followed_or_silent_is_ok() -> None:
    found = verdict(coverage("following"), coverage("silent", target=SECOND))
    assert (found.state, found.since_ms, found.causes) == (State.OK, None, ())
    assert found.summary == "2 Falco pods on 2 nodes"


@pytest.mark.parametrize(
    ("record", "state", "says"),
    [
        (coverage("blind", target=SECOND), State.BLIND, "1 of 2 Falco pods is blind"),
        (coverage("text", target=SECOND), State.DEGRADED, "text mode"),
        (gap(), State.DEGRADED, "1 gap: lines are lost"),
        (gap(certain=False), State.DEGRADED, "1 gap: lines may be lost"),
        (storm("started"), State.DEGRADED, "Storm: the limit `workload`"),
        (
            health(
                "falco_report",
                rule="Falco internal: syscall event drop",
                alert_id="x",
                counters={"n_drops": "1200"},
            ),
            State.DEGRADED,
            "1,200 system calls were lost",
        ),
        (
            health("dead_letters_limited", reason="invalid_json", count=40, **STRETCH),
            State.DEGRADED,
            "40 lines",
        ),
    ],
)
def test_what_is_wrong_has_a_state_a_reason_and_a_fix(record: Message, state: State, says: str) -> None:
    found = verdict(
        coverage("following"), coverage("following", target=SECOND, time_ms=NOW_MS - 1000), record
    )
    assert found.state is state
    assert says in found.causes[0].what
    assert found.causes[0].fix
    assert found.since_ms is not None
    assert found.since_ms <= NOW_MS


def test_the_worst_comes_first_and_says_since_when() -> None:
    found = verdict(
        coverage("following"),
        gap(NOW_MS - 60_000),
        coverage("blind", target=SECOND, since_ms=NOW_MS - 30_000),
    )
    assert [cause.state for cause in found.causes] == [State.BLIND, State.DEGRADED]
    assert found.since_ms == NOW_MS - 30_000


def test_it_is_ok_again() -> None:
    later = NOW_MS + RECENT_MS + 1
    again = coverage("following", time_ms=later)
    assert verdict(coverage("blind"), again, now_ms=later).state is State.OK
    assert verdict(coverage("following"), gap(), again, now_ms=later).state is State.OK
    assert verdict(storm("started"), again, now_ms=later).state is State.DEGRADED, (
        "a storm goes on until it ends"
    )
    assert verdict(storm("started"), storm("ended"), again, now_ms=later).state is State.OK
    other = storm("ended", workload={"k8s.ns.name": "bank"})
    assert verdict(storm("started"), other, again, now_ms=later).state is State.DEGRADED, "another one ended"


def test_a_cluster_that_nobody_reports_is_blind() -> None:
    found = verdict(coverage("following"), now_ms=NOW_MS + UNREPORTED_MS + 1)
    assert (found.state, found.since_ms) == (State.BLIND, NOW_MS)
    made = HealthBook()
    made.heard("prod", b"falco/falco-a", NOW_MS, None)
    found = judge(made.clusters["prod"], NOW_MS)
    assert found.state is State.BLIND
    assert "No Falco pod has been reported" in found.causes[0].what


def test_a_pod_that_another_one_replaced_does_not_count() -> None:
    replaced = [
        coverage("following", NOW_MS - 9_000),
        coverage("blind", NOW_MS - 2_000),
        coverage("following", target=SUCCESSOR),
    ]
    assert verdict(*replaced).state is State.OK
    beside = coverage("following", NOW_MS - 3_000, SUCCESSOR)
    assert verdict(*replaced[:1], beside, *replaced[1:]).state is State.BLIND, "it was there before"
    sidecar = replace(SUCCESSOR, container="audit")
    assert verdict(*replaced[:2], coverage("following", target=sidecar)).state is State.BLIND
    earlier = coverage("following", NOW_MS - 20_000, SUCCESSOR)
    assert verdict(earlier, *replaced[:2], coverage("following", target=SUCCESSOR)).state is State.BLIND


def test_a_pod_that_is_not_reported_any_more_is_named_for_an_hour() -> None:
    later = NOW_MS + UNREPORTED_MS + 1
    found = verdict(coverage("following", target=SECOND), coverage("following", time_ms=later), now_ms=later)
    assert found.state is State.DEGRADED
    assert "falco/falco-b on node-2" in found.causes[0].what
    much_later = NOW_MS + RECENT_MS + 1
    found = verdict(
        coverage("following", target=SECOND), coverage("following", time_ms=much_later), now_ms=much_later
    )
    assert found.state is State.OK


def test_alerts_that_usually_come_late_are_reported_with_the_fix() -> None:
    made = book(coverage("following"))
    for _ in range(3):
        made.heard("prod", b"falco/falco-a", NOW_MS, 90_000)
    found = judge(made.clusters["prod"], NOW_MS)
    assert found.state is State.DEGRADED
    assert "up to 90 s late" in found.causes[0].what
    assert "buffered_outputs" in found.causes[0].fix
    [pod] = shown_coverage(made.clusters.values(), NOW_MS)["pods"]
    assert (pod["state"], pod["delay_ms"], pod["last_ms"], pod["lines"]) == ("following", 90_000, NOW_MS, 7)


def test_gaps_and_storms_are_marks_on_the_timeline() -> None:
    made = book(coverage("following"), gap(), storm("started"))
    found = marks(made.clusters.values(), NOW_MS - 900_000, NOW_MS + 1000)
    assert [(mark["health"], mark["to_ms"]) for mark in found] == [
        ("gap", NOW_MS - 300_000),
        ("storm", NOW_MS + 1000),
    ]
    assert marks(made.clusters.values(), NOW_MS - 3_600_000, NOW_MS - 1_800_000) == []
