"""Alert rules, their tests and the dashboard name only labels and values that the worker can emit.

Needs no program: the rules are read from the chart's file. The worker's series come from a process of its own, since
tests in this one add series that no worker has.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from streamer.model import GapReason
from streamer.source.verdict import TABLE

ROOT: Final = Path(__file__).parents[2]
FILES: Final = ROOT / "k8s/helm/falco-streamer/files"
TESTS: Final = Path(__file__).parent / "alerts/alerts.test.yaml"

OF_PROMETHEUS: Final = {"namespace", "job", "pod", "instance"}
"""Labels that Prometheus adds to each series."""
OPEN: Final = {"rule", "filter", "version", "python"}
"""Labels whose values are known at run time only."""

_SELECTOR: Final = re.compile(r"\b(?P<name>(?:falco_streamer|process)_\w+)(?:\{(?P<matchers>[^}]*)\})?")
_MATCHER: Final = re.compile(r'(?P<label>\w+)\s*(?P<operator>=~|!~|!=|=)\s*"(?P<value>[^"]*)"')
_BY: Final = re.compile(r"\bby \(([^)]*)\)")

Series = Mapping[str, list[dict[str, str]]]
"""By name, the sets of labels that the worker can emit."""


class Matcher(NamedTuple):
    label: str
    operator: str
    value: str

    def fits(self, labels: Mapping[str, str]) -> bool:
        found = labels.get(self.label, "")
        if self.operator in ("=", "!="):
            return (found == self.value) is (self.operator == "=")
        return (re.fullmatch(self.value, found) is not None) is (self.operator == "=~")


@pytest.fixture(scope="module")
def series() -> Series:
    program = (
        "from prometheus_client import generate_latest as page\n"
        "from streamer.telemetry.gauges import shown\n"
        "from streamer.telemetry.metrics import REGISTRY\n"
        "from streamer.telemetry.status import Status\n"
        "with shown(lambda: Status('test')): print(page(REGISTRY).decode())\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    found: defaultdict[str, list[dict[str, str]]] = defaultdict(list)
    for family in text_string_to_metric_families(done.stdout):
        # Where all labels are open there may not be a series yet.
        found[f"{family.name}_total" if family.type == "counter" else family.name] = []
        for sample in family.samples:
            found[sample.name].append(sample.labels)
    return found


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((FILES / "alerts.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def dashboard() -> Iterator[str]:
    for panel in orjson.loads((FILES / "dashboard.json").read_bytes())["panels"]:
        yield from (target["expr"] for target in panel.get("targets", ()))


def faults(expression: str, series: Series) -> list[str]:
    """What in an expression can never select anything, or group by anything."""
    found, labels = [], OF_PROMETHEUS | OPEN
    for selector in _SELECTOR.finditer(expression):
        name = selector["name"]
        if name not in series:
            found.append(f"no metric {name}")
            continue
        known = series[name]
        labels.update(*known)
        matchers = [Matcher(*each) for each in _MATCHER.findall(selector["matchers"] or "")]
        closed = [each for each in matchers if each.label not in OF_PROMETHEUS | OPEN]
        alone = [
            f"{name} never has {label}{operator}{one!r}"
            for label, operator, value in closed
            for one in value.split("|")
            if not any(label in each and Matcher(label, operator, one).fits(each) for each in known)
        ]
        if not alone and closed and not any(all(each.fits(labels) for each in closed) for labels in known):
            alone = [f"{name} never has {selector['matchers']} together"]
        found += alone
    for by in _BY.findall(expression):
        found += [f"no label {label}" for label in re.split(r"\s*,\s*", by) if label not in labels]
    return found


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: str(rule["alert"]))
def test_a_rule_asks_only_for_series_that_the_worker_can_emit(rule: dict[str, Any], series: Series) -> None:
    assert faults(rule["expr"], series) == []


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: str(rule["alert"]))
def test_a_rules_words_use_only_labels_that_its_result_has(rule: dict[str, Any]) -> None:
    used = set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"])))
    kept = {label for by in _BY.findall(rule["expr"]) for label in re.split(r"\s*,\s*", by)}
    assert used <= kept


def test_the_dashboard_asks_only_for_series_that_the_worker_can_emit(series: Series) -> None:
    assert [fault for expression in dashboard() for fault in faults(expression, series)] == []


def test_the_rules_tests_feed_only_series_that_the_worker_can_emit(series: Series) -> None:
    wrong = []
    for test in yaml.safe_load(TESTS.read_text())["tests"]:
        for one in test["input_series"]:
            selector = _SELECTOR.match(one["series"])
            assert selector is not None, one
            given = {label: value for label, _, value in _MATCHER.findall(selector["matchers"])}
            given = {label: value for label, value in given.items() if label not in OF_PROMETHEUS}
            known = [
                labels
                for labels in series.get(selector["name"], ())
                if labels.keys() == given.keys()
                and all(labels[label] == value for label, value in given.items() if label not in OPEN)
            ]
            open_alone = series.get(selector["name"]) == [] and given.keys() <= OPEN
            if not known and not open_alone:
                wrong.append((test["name"], one["series"]))
    assert wrong == []


@pytest.mark.parametrize(
    ("expression", "fault"),
    [
        ('falco_streamer_gaps_total{reason="rotated"} > 0', "never has reason='rotated'"),
        ('falco_streamer_targets{state=~"opening|wating"} > 0', "never has state=~'wating'"),
        ('falco_streamer_targets{reason="pod_gone"} > 0', "never has reason='pod_gone'"),
        ('falco_streamer_gaps_total{reason="pod_gone",certain="true"} > 0', "together"),
        ("falco_streamer_gap_total > 0", "no metric falco_streamer_gap_total"),
        ("sum by (namespace, reasn) (falco_streamer_gaps_total) > 0", "no label reasn"),
    ],
)
def test_what_cannot_be_emitted_is_found(expression: str, fault: str, series: Series) -> None:
    (found,) = faults(expression, series)
    assert fault in found


def test_the_series_of_gaps_are_those_that_the_code_can_report(series: Series) -> None:
    certain = {(row.gap, "true") for row in TABLE if row.gap is not None and row.certain}
    # A gap that is found outside the table is possible.
    assert {(labels["reason"], labels["certain"]) for labels in series["falco_streamer_gaps_total"]} == {
        *certain,
        *((reason, "false") for reason in GapReason),
    }
