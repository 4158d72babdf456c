"""Limits as a whole, with the default settings: whose flood diverts whose alerts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import orjson
import pytest

from streamer.config import load as load_settings
from streamer.model import Record
from streamer.plan import plan_of
from streamer.transform.load import load
from streamer.transform.process import Processor
from streamer.transform.state import ShardState
from tests.unit.transform.samples import NOW_NS, SECOND_NS, START_NS, Feed, alert
from tests.unit.transform.stored import live

KEY: Final = b"k" * 16
RULE: Final = "Run shell untrusted"
Alert = tuple[int, bytes]


def by(namespace: str | None, pod: str | None, n: int, second: float = 0, **changed: Any) -> Alert:
    """An alert of a workload that is like no other one."""
    time_ns = START_NS + round(second * SECOND_NS)
    fields = {
        "k8s.ns.name": namespace,
        "k8s.pod.name": pod,
        "proc.name": f"process-{n}",
        "proc.cmdline": f"sh -c {n}",
        "evt.time": time_ns,
    }
    return time_ns, alert(time_ns, **{"rule": RULE, "output_fields": fields} | changed)


class Run:
    """A core under the default settings, changed by flags, and what it has published."""

    def __init__(self, *flags: str) -> None:
        self.plan = plan_of(load_settings(None, flags, {}, require=()), cores=1)
        self.processor = Processor(self.plan, ShardState(self.plan.cluster), KEY)
        self.live = dict[str, bytes]()
        self.records = list[Record]()
        self._feed = Feed()

    def take(self, alerts: Iterable[Alert], now_ns: int = NOW_NS) -> None:
        publication = self.processor.process([self._feed.batch(*alerts)], now_ns)
        self.live = live(publication.changes, self.live)
        self.records += publication.records

    def crash(self) -> None:
        """Go on from what is stored."""
        self.processor = Processor(self.plan, load(self.plan.cluster, self.live.items()))

    def published(self) -> set[bytes]:
        return {record.value for record in self.records if record.topic.startswith("falco.alerts.")}

    def diverted(self) -> list[tuple[bytes, str]]:
        overflow = [record for record in self.records if record.topic == "falco.overflow"]
        return [(record.value, dict(record.headers)["limited_by"].decode()) for record in overflow]

    def health(self) -> list[Any]:
        return [orjson.loads(record.value) for record in self.records if record.topic == "falco.health"]


def bodies(alerts: Sequence[Alert]) -> set[bytes]:
    return {body for _, body in alerts}


class TestAFloodOfOneTenant:
    FLOODS: Final = {
        "one pod": [by("tenant", "web-1", n, n * 0.01) for n in range(3000)],
        "pods of one job": [by("tenant", f"job-{n}", n, n * 0.01) for n in range(3000)],
        "known groups": [by("tenant", f"job-{n % 50}", n % 50, n * 70) for n in range(50)]
        + [
            by(
                "tenant",
                f"job-{n % 50}",
                0,
                n * 0.01,
                output_fields={
                    "k8s.ns.name": "tenant",
                    "k8s.pod.name": f"job-{n % 50}",
                    "proc.cmdline": str(n),
                },
            )
            for n in range(3000)
        ],
    }

    @pytest.mark.parametrize("victims_namespace", ["each", "one"])
    @pytest.mark.parametrize("flood", FLOODS)
    def test_diverts_no_first_alert_of_others(self, flood: str, victims_namespace: str) -> None:
        run = Run()
        victims = [
            by(f"victim-{n}" if victims_namespace == "each" else "victims", f"pod-{n}", 0, 30)
            for n in range(20)
        ]
        run.take(self.FLOODS[flood])
        assert run.diverted(), "a flood that no limit diverts shows nothing"
        run.take(victims)
        assert bodies(victims) <= run.published()

    def test_leaves_room_at_any_time_while_it_goes_on(self) -> None:
        run, victims = Run(), list[Alert]()
        for minute in range(30):
            run.take([by("tenant", f"job-{minute}-{n}", n, 60 * minute + n * 0.05) for n in range(1200)])
            victims.append(by(f"victim-{minute}", "pod", 0, 60 * minute + 60))
            run.take(victims[-1:])
        assert bodies(victims) <= run.published()

    def test_of_several_tenants_leaves_room_for_a_further_one(self) -> None:
        run = Run()
        run.take([by(f"tenant-{n % 15}", f"job-{n}", n, n * 0.005) for n in range(9000)])
        victims = [by("victim", f"pod-{n}", 0, 46) for n in range(5)]
        run.take(victims)
        assert bodies(victims) <= run.published()

    def test_is_bounded_for_the_whole_target(self) -> None:
        run = Run()
        run.take([by(f"tenant-{n % 100}", f"job-{n}", n, n * 0.02) for n in range(6000)])
        assert len(run.published()) <= 800 + 2 * 120
        assert len(run.published()) + len(run.diverted()) == 6000

    def test_is_decided_alike_after_a_crash(self) -> None:
        straight, crashing = Run(), Run()
        flood = [by(f"tenant-{n % 3}", f"job-{n}", n, n * 0.02) for n in range(3000)]
        for at in range(0, 3000, 500):
            straight.take(flood[at : at + 500])
            crashing.take(flood[at : at + 500])
            crashing.crash()
        assert straight.diverted() == crashing.diverted()
        assert straight.live == crashing.live

    def test_is_reported_with_the_name_of_the_workload(self) -> None:
        run = Run()
        run.take([by("tenant", "web-1", n, n * 0.01) for n in range(3000)])
        [storm] = [value for value in run.health() if value["health"] == "storm"]
        workload = {"rule": RULE, "k8s.ns.name": "tenant", "k8s.pod.name": "web-1"}
        assert (storm["limit"], storm["workload"]) == ("workload", workload)

    def test_of_many_pods_is_reported_with_what_they_have_in_common(self) -> None:
        run = Run()
        run.take([by("tenant", f"job-{n}", n, n * 0.01) for n in range(3000)])
        [storm] = [value for value in run.health() if value["health"] == "storm"]
        assert (storm["limit"], storm["workload"]) == ("target", {"rule": RULE, "k8s.ns.name": "tenant"})


def test_limits_of_a_target_forget_what_is_idle() -> None:
    run = Run()
    for minute in range(100):
        run.take([by("tenant", f"job-{minute}-{n}", 0, 60 * minute + n) for n in range(30)])
    assert not run.diverted()
    assert sum(key.startswith("limit/") for key in run.live) < 300


class TestKafkasLimits:
    FLAGS: Final = ("overall", "per_topic")

    @pytest.mark.parametrize("limit", FLAGS)
    def test_bind_protected_priorities(self, limit: str) -> None:
        run = Run(f"limits.{limit}={{rate_per_minute: 60, burst: 5}}")
        alerts = [by("tenant", "web-1", n, priority="Critical") for n in range(20)]
        run.take(alerts)
        assert len(run.published()) == 5
        assert {body for body, _ in run.diverted()} == bodies(alerts) - run.published()
        assert {limited_by for _, limited_by in run.diverted()} == {limit.removeprefix("per_")}

    @pytest.mark.parametrize("limit", FLAGS)
    def test_go_on_after_a_step_back_of_our_clock(self, limit: str) -> None:
        run = Run(f"limits.{limit}={{rate_per_minute: 60, burst: 5}}")
        run.take([by("tenant", "web-1", n) for n in range(5)])
        back_ns = NOW_NS - 3600 * SECOND_NS
        run.take([by("tenant", "web-1", 5)], back_ns)
        late = [by("tenant", "web-1", 6 + n) for n in range(3)]
        run.take(late, back_ns + 3 * SECOND_NS)
        assert bodies(late) <= run.published()

    def test_never_divert_falcos_own_reports(self) -> None:
        run = Run("limits.overall={rate_per_minute: 1, burst: 1}")
        run.take([by(None, None, n, rule="Falco internal: syscall event drop") for n in range(5)])
        assert len(run.published()) == 5

    def test_protected_priorities_pass_the_limits_of_a_target(self) -> None:
        run = Run()
        alerts = [by("tenant", f"job-{n}", n, priority="Critical") for n in range(2000)]
        run.take(alerts)
        assert run.published() == bodies(alerts)


def test_a_storms_end_is_reported_in_time_though_our_clock_was_set_back() -> None:
    run = Run()
    run.take([by("tenant", "web-1", n, n * 0.01) for n in range(3000)])
    back_ns = NOW_NS - 3600 * SECOND_NS
    run.processor.publish_due(back_ns)
    publication = run.processor.publish_due(back_ns + 61 * SECOND_NS)
    assert publication is not None
    states = [orjson.loads(record.value) for record in publication.records if record.topic == "falco.health"]
    assert [value["state"] for value in states] == ["ended"]


class TestTheReservedShare:
    @pytest.mark.parametrize(
        "flag", ["dedupe.enabled=false", 'dedupe.overrides=[{"rules":["Run*"],"enabled":false}]']
    )
    def test_is_not_for_alerts_that_are_not_deduplicated(self, flag: str) -> None:
        """Nobody knows whether their groups are new."""
        run = Run(flag)
        run.take([by(f"ns-{n % 200}", f"pod-{n}", n, n * 0.001) for n in range(3000)])
        [tracked] = run.processor.state.tracked.values()
        assert tracked.shares is not None
        assert run.diverted()
        assert not tracked.shares.reserved.taken
