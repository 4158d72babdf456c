"""Alert rules and dashboard: checked by promtool, and compared with the metrics that the worker has."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import generate_latest

from streamer.telemetry.gauges import shown
from streamer.telemetry.metrics import REGISTRY
from streamer.telemetry.status import Status
from tests.manifests.sets import MINIMAL, Object, objects_of, of_kind
from tests.testbed import chart, parts
from tests.testbed.fixtures import parts_or_skip

pytestmark = pytest.mark.real

ROOT = chart.K8S.parent
TESTS = Path(__file__).parent / "alerts/alerts.test.yaml"
METRIC = re.compile(r"\b(?:falco_streamer|process)_[a-z_]+\b")


@pytest.fixture(scope="module")
def objects() -> Iterator[list[Object]]:
    with parts_or_skip():
        yield objects_of("chart all")


@pytest.fixture
def rules(objects: list[Object], tmp_path: Path) -> Path:
    """The PrometheusRule of the release `w` in the namespace `s` as a file of Prometheus, next to its tests."""
    named = ("--set", "fullnameOverride=w,prometheusRule.enabled=true")
    rendered = [one for one in yaml.safe_load_all(chart.template(*MINIMAL, *named, namespace="s")) if one]
    (one,) = of_kind(rendered, "PrometheusRule")
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": one["spec"]["groups"]}))
    (tmp_path / TESTS.name).write_text(TESTS.read_text())
    return path


@pytest.fixture
def alerts(objects: list[Object]) -> list[Object]:
    (one,) = of_kind(objects, "PrometheusRule")
    return [rule for group in one["spec"]["groups"] for rule in group["rules"]]


@pytest.fixture
def dashboard(objects: list[Object]) -> Any:
    (one,) = [each for each in of_kind(objects, "ConfigMap") if "falco-streamer.json" in each["data"]]
    assert one["metadata"]["labels"]["grafana_dashboard"] == "1"
    return json.loads(one["data"]["falco-streamer.json"])


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    with parts_or_skip():
        program = parts.promtool()
    command = [str(program), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def names_of_the_worker() -> set[str]:
    """Each name under which a series of the worker's stands on its metrics page."""
    with shown(lambda: Status("test")):
        page = generate_latest(REGISTRY).decode()
    families = {line.split()[2] for line in page.splitlines() if line.startswith("# TYPE ")}
    return families | {
        line.partition(" ")[0].partition("{")[0] for line in page.splitlines() if line[0] != "#"
    }


# ---- alert rules


def test_promtool_finds_no_fault_with_the_rules(rules: Path) -> None:
    done = promtool("check", "rules", "--lint=all", "--lint-fatal", rules)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_fires_when_it_should_and_else_not(rules: Path) -> None:
    done = promtool("test", "rules", rules.with_name(TESTS.name))
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_has_a_test(alerts: list[Object]) -> None:
    tested = set(re.findall(r'alertname(?:="|: )(\w+)', TESTS.read_text()))
    assert {rule["alert"] for rule in alerts} - tested == set()


def test_a_rule_that_never_fires_is_found(rules: Path) -> None:
    text = rules.read_text()
    rules.write_text(text.replace("falco_streamer_storms", "falco_streamer_storm"))
    assert rules.read_text() != text
    done = promtool("test", "rules", rules.with_name(TESTS.name))
    assert done.returncode != 0
    assert "FalcoStreamerStorm" in done.stdout + done.stderr


def test_each_alert_has_a_place_in_the_runbook(alerts: list[Object]) -> None:
    headings = re.findall(r"^#+ (.*)$", (ROOT / "docs/operations.md").read_text(), re.MULTILINE)
    anchors = {heading.lower().replace(" ", "-") for heading in headings}
    for rule in alerts:
        page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
        assert page.endswith("/docs/operations.md")
        assert anchor == f"alert-{rule['alert'].lower()}"
        assert anchor in anchors
    assert {anchor for anchor in anchors if anchor.startswith("alert-f")} == {
        f"alert-{rule['alert'].lower()}" for rule in alerts
    }


def test_the_rules_ask_for_metrics_that_there_are(alerts: list[Object]) -> None:
    used = {name for rule in alerts for name in METRIC.findall(rule["expr"])}
    assert len(used) > 10
    assert used - names_of_the_worker() == set()


# ---- dashboard


def test_the_dashboard_asks_for_metrics_that_there_are(dashboard: Any) -> None:
    used = {
        name
        for panel in dashboard["panels"]
        for target in panel.get("targets", ())
        for name in METRIC.findall(target["expr"])
    }
    assert len(used) > 20
    assert used - names_of_the_worker() == set()


def test_the_dashboard_shows_every_metric_that_an_alert_rule_asks_for(
    dashboard: Any, alerts: list[Object]
) -> None:
    shown = {
        name
        for panel in dashboard["panels"]
        for target in panel.get("targets", ())
        for name in METRIC.findall(target["expr"])
    }
    asked = {name for rule in alerts for name in METRIC.findall(rule["expr"])}
    assert {name for name in asked if name.startswith("falco_streamer_")} - shown == set()


def test_promtool_can_read_every_expression_of_the_dashboard(dashboard: Any) -> None:
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            # Grafana fills these in.
            expression = target["expr"].replace("$__rate_interval", "1m").replace("$namespace", ".*")
            assert "$" not in expression
            done = promtool("promql", "format", "--experimental", expression)
            assert done.returncode == 0, (panel["title"], done.stderr)


def test_panels_do_not_lie_over_each_other_and_have_names_of_their_own(dashboard: Any) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken
        assert at["x"] + at["w"] <= 24
        taken |= cells
    titles = [panel["title"] for panel in dashboard["panels"]]
    assert len(titles) == len(set(titles))
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(titles)
