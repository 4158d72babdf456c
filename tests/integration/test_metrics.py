"""The metrics page of a running worker: Prometheus' own checker, and the names that docs/operations.md documents."""

from __future__ import annotations

import re
import signal
import subprocess
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.program import Program
from tests.testbed import parts
from tests.testbed.fixtures import parts_or_skip
from tests.unit.test_operations import documented

pytestmark = pytest.mark.real

PREFIX = "falco_streamer_"
SETTINGS = """\
cluster: metrics
kafka: {{bootstrap_servers: ["127.0.0.1:1"]}}
kubernetes: {{kubeconfig: {kubeconfig}}}
http: {{host: 127.0.0.1, port: 0}}
filters:
  - name: argo
    match: ['rule = "Any"']
    action: drop
    reason: a test
    max_share: 0.5
    expires: 2020-01-01T00:00:00Z
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """What Prometheus scrapes from the process of a worker, which has a cluster and no Kafka."""
    folder = tmp_path_factory.mktemp("metrics")
    kubeconfig, settings = folder / "kubeconfig", folder / "streamer.yaml"
    with Program("simulate", "--kubeconfig", kubeconfig) as cluster:
        cluster.until(r"serving at http://127\.0\.0\.1:\d+; kubeconfig: ")
        settings.write_text(SETTINGS.format(kubeconfig=kubeconfig))
        with Program("run", "--config", settings) as worker:
            worker.until("kafka_unavailable")
            (port,) = re.findall(r'"port": ?(\d+)', worker.text)
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
                yield answer.read().decode()
            worker.send(signal.SIGTERM)
            assert worker.end() == 0, worker.text
        cluster.send(signal.SIGTERM)
        assert cluster.end() == 0, cluster.text


@pytest.fixture(scope="module")
def promtool() -> Path:
    with parts_or_skip():
        return parts.promtool()


def check(promtool: Path, page: str) -> tuple[int, str]:
    command = [str(promtool), "check", "metrics"]
    done = subprocess.run(command, input=page, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.timeout(1200)  # the first time it is built
def test_promtool_has_no_finding(promtool: Path, page: str) -> None:
    assert "falco_streamer_lag_seconds" in page
    assert check(promtool, page) == (0, "")


def test_promtool_finds_a_wrong_name(promtool: Path, page: str) -> None:
    status, said = check(promtool, page + "# TYPE falco_streamer_lines counter\nfalco_streamer_lines 1\n")
    assert status != 0
    assert "falco_streamer_lines" in said


def test_the_metrics_and_their_labels_are_those_in_the_documentation(page: str) -> None:
    served: defaultdict[str, set[str]] = defaultdict(set)
    for family in text_string_to_metric_families(page):
        if family.name.startswith(PREFIX):
            name = family.name.removeprefix(PREFIX) + ("_total" if family.type == "counter" else "")
            for sample in family.samples:
                served[name] |= sample.labels.keys() - {"le"}
    assert served == {name: set(labels) for name, labels in documented().items()}


def test_no_series_has_a_time_of_creation(page: str) -> None:
    names = {line.split()[0].partition("{")[0] for line in page.splitlines() if line[0] != "#"}
    assert len(names) > 50
    assert [name for name in names if name.endswith("_created")] == []
