"""What is counted: once a commit, from the ledger and the records that the commit wrote."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from streamer.model import CERTAIN_REASONS, Gap, GapReason, Ledger, LogBatch, Publication
from streamer.telemetry import facts, metrics
from streamer.transform.filter import Filter, FilterAction, Filters
from streamer.transform.limit import Rate
from streamer.transform.matcher import Matcher
from streamer.transform.process import Processor
from streamer.transform.state import ShardState
from streamer.transform.treatment import DedupePlan, LimitPlan
from tests.unit.transform.samples import FALCO, NOW_NS, PLAN, SECOND_NS, START_NS, Feed, alert

LIMITED = replace(PLAN, limits=LimitPlan(rate=Rate(60, 1)), dedupe=DedupePlan(enabled=False))


class Counted:
    """What a test adds to this process's metrics."""

    def __init__(self) -> None:
        self._before = self._samples()

    def __call__(self, name: str, **labels: str) -> float:
        key = (f"falco_streamer_{name}", tuple(sorted(labels.items())))
        return self._samples()[key] - self._before.get(key, 0.0)

    @staticmethod
    def _samples() -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in metrics.REGISTRY.collect()
            for sample in family.samples
        }


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    monkeypatch.setattr(facts, "_rules", set())  # other tests of this process have filled it
    metrics.RULES.clear()
    metrics.RULES.labels("other")
    return Counted()


def commit(plan: Any, *batches: LogBatch) -> Publication:
    """Process and count as a shard does."""
    publication = Processor(plan, ShardState(plan.cluster)).process(batches, NOW_NS)
    facts.committed(publication, Ledger(), 0.01, batches)
    return publication


def at(second: int, body: bytes) -> tuple[int, bytes]:
    return START_NS + second * SECOND_NS, body


def test_each_line_counts_with_the_one_outcome_that_it_has(counted: Counted) -> None:
    feed = Feed(FALCO)
    lines = [
        at(0, alert()),
        at(1, alert(rule="Packet socket created in container", priority="Critical")),
        at(2, b"Fri Nov 20 10:00:00 2026: Falco version: 0.44.1"),
        at(3, b'{"no": "alert"}'),
    ]
    commit(PLAN, feed.batch(*lines))
    assert counted("lines_total") == 4
    assert {name: counted("line_outcomes_total", outcome=name) for name in metrics.OUTCOMES} == {
        "log_line": 1,
        "filtered": 0,
        "deduplicated": 0,
        "limited": 0,
        "published": 2,
        "dead_lettered": 1,
        "dead_letter_limited": 0,
    }
    assert counted("published_alerts_total", priority="notice") == 1
    assert counted("published_alerts_total", priority="critical") == 1
    assert counted("rule_published_alerts_total", rule="Packet socket created in container") == 1
    assert counted("dead_letters_total", reason="not_an_alert") == 1


@pytest.mark.parametrize("fields", [{}, {"environment": "production", "team": "platform"}])
def test_an_alert_that_a_limit_diverts_is_not_one_on_its_topic(
    counted: Counted, fields: dict[str, str]
) -> None:
    commit(replace(LIMITED, fields=fields), Feed(FALCO).batch(*(at(0, alert(n=n)) for n in range(3))))
    assert counted("published_alerts_total", priority="notice") == 1
    assert counted("limited_alerts_total", limit="workload") == 2
    assert counted("line_outcomes_total", outcome="limited") == 2


def test_summaries_are_counted_beside_the_alerts_that_they_tell_of(counted: Counted) -> None:
    plan = replace(PLAN, dedupe=DedupePlan())
    times = [START_NS + n * SECOND_NS for n in (*range(5), 100)]
    lines = [(time_ns, alert(time_ns, output_fields={"proc.name": "sh"})) for time_ns in times]
    commit(plan, Feed(FALCO).batch(*lines))
    assert counted("summaries_total") == 1
    assert counted("summarised_alerts_total") == 4
    assert (
        counted("published_alerts_total", priority="notice") == 2
    )  # the first, and the first of the next window


def test_a_gap_counts_by_its_reason_and_whether_it_is_certain(counted: Counted) -> None:
    batch = Feed(FALCO).batch(at(0, alert()))
    batch.gap = Gap(GapReason.INSTANCES_SKIPPED, certain=True, from_ns=START_NS, to_ns=None)
    commit(PLAN, batch)
    assert counted("gaps_total", reason="instances_skipped", certain="true") == 1
    assert counted("gaps_total", reason="instances_skipped", certain="false") == 0


def report(rule: str, **counters: Any) -> bytes:
    return alert(rule=f"Falco internal: {rule}", priority="Debug", output_fields=counters)


def test_what_falco_says_it_dropped_is_added_up(counted: Counted) -> None:
    lines = [at(n, report("syscall event drop", n_drops=count)) for n, count in enumerate(["7", "5"])]
    commit(PLAN, Feed(FALCO).batch(*lines))
    assert counted("falco_reports_total", report="syscall event drop") == 2
    assert counted("falco_drops_total", where="syscall_events") == 12
    assert counted("health_records_total", health="falco_report") == 2


def test_falcos_own_running_count_counts_from_where_it_was_first_seen(counted: Counted) -> None:
    key = "falco.outputs_queue_num_drops"
    target = replace(FALCO, pod="falco-of-this-test")
    snapshots = [report("metrics snapshot", **{key: total}) for total in (100, 103, 103, 2)]
    commit(PLAN, Feed(target).batch(*(at(n, body) for n, body in enumerate(snapshots))))
    assert counted("falco_drops_total", where="outputs_queue") == 5  # 3, then Falco was started again


def test_a_report_without_numbers_is_counted_as_a_report(counted: Counted) -> None:
    commit(PLAN, Feed(FALCO).batch(at(0, report("syscall event drop", n_drops="many", other={}))))
    commit(PLAN, Feed(FALCO).batch(at(0, report("never heard of", n_drops=1))))
    assert counted("falco_reports_total", report="other") == 1
    assert counted("falco_drops_total", where="syscall_events") == 0


def test_two_hundred_rules_have_a_label_and_the_rest_shares_one(counted: Counted) -> None:
    lines = [at(0, alert(rule=f"rule {n}")) for n in range(metrics.MOST_RULES + 50)]
    commit(PLAN, Feed(FALCO).batch(*lines))
    rules = {
        sample.labels["rule"]
        for family in metrics.REGISTRY.collect()
        for sample in family.samples
        if sample.name == "falco_streamer_rule_published_alerts_total"
    }
    assert len(rules) == metrics.MOST_RULES + 1
    assert counted("rule_published_alerts_total", rule="other") >= 50


def test_delays_are_those_of_the_line_on_its_way(counted: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = Feed(FALCO).batch(at(2, alert(START_NS)))  # written two seconds after it happened
    batch.read_ns = START_NS + 5 * SECOND_NS
    monkeypatch.setattr("time.time_ns", lambda: START_NS + 9 * SECOND_NS)
    commit(PLAN, batch)
    stages = {stage: counted("delivery_stage_delay_seconds_sum", stage=stage) for stage in metrics.STAGES}
    assert stages == pytest.approx({"read": 3, "commit": 4})
    assert counted("delivery_delay_seconds_sum") == pytest.approx(sum(stages.values()))
    assert counted("falco_output_delay_seconds_sum") == pytest.approx(2)


def test_of_many_batches_a_few_are_measured(counted: Counted) -> None:
    feed = Feed(FALCO)
    batches = [feed.batch(at(n, alert(START_NS + n * SECOND_NS, n=n))) for n in range(100)]
    for batch in batches:
        batch.read_ns = NOW_NS
    commit(PLAN, *batches)
    assert 4 <= counted("delivery_delay_seconds_count") <= 8


def test_what_is_known_beforehand_is_there_at_zero_and_no_label_is_a_pod_host_or_user() -> None:
    names = {family.name: family for family in metrics.REGISTRY.collect()}
    gaps = {tuple(sample.labels.values()) for sample in names["falco_streamer_gaps"].samples}
    assert {(str(reason), "false") for reason in GapReason} <= gaps
    assert {(str(reason), "true") for reason in CERTAIN_REASONS} <= gaps
    labels = {label for family in names.values() for sample in family.samples for label in sample.labels}
    assert not labels & {"pod", "namespace", "node", "host", "hostname", "user", "container", "target"}


def test_a_status_that_is_not_known_is_another_one(counted: Counted) -> None:
    facts.api_failed("log", 418)
    facts.api_failed("log", 0)
    assert counted("api_errors_total", request="log", status="other") == 1
    assert counted("api_errors_total", request="log", status="0") == 1


def test_filtered_alerts_count_by_the_filter_that_dropped_them(counted: Counted) -> None:
    plan = replace(
        PLAN,
        filters=Filters(
            [
                Filter("shells", FilterAction.DROP, (Matcher.parse('rule =~ "Terminal.*"'),)),
                Filter("kept", FilterAction.KEEP, (Matcher.parse("priority >= critical"),)),
                Filter("rest", FilterAction.DROP, (Matcher.parse("priority >= debug"),)),
            ]
        ),
    )
    lines = [
        at(0, alert()),
        at(1, alert()),
        at(2, alert(rule="x")),
        at(3, alert(rule="x", priority="Critical")),
    ]
    metrics.FILTERED.keep(("shells", "rest"))
    publication = commit(plan, Feed(FALCO).batch(*lines))
    assert counted("filtered_alerts_total", filter="shells") == 2
    assert counted("filtered_alerts_total", filter="rest") == 1
    assert counted("line_outcomes_total", outcome="filtered") == 3
    assert publication.ledger.filtered == publication.filtered.total() == 3
    assert publication.ledger.balanced
    assert ("falco_streamer_filtered_alerts_total", (("filter", "kept"),)) not in counted._samples()
