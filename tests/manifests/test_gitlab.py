"""The GitLab project: read and rendered by the real helmfile. Falco's chart is remote, so it is only listed."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.manifests.links import loose_ends
from tests.manifests.sets import of_kind, settings_of
from tests.testbed import chart, parts
from tests.testbed.fixtures import parts_or_skip

pytestmark = pytest.mark.real

PROJECT = chart.K8S / "gitlab"
NAMESPACE = "gitlab-managed-apps"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with parts_or_skip():
        parts.helmfile()
        yield tmp_path_factory.mktemp("home")


def helmfile(home: Path, *arguments: str | Path) -> str:
    command = [str(parts.helmfile()), "--helm-binary", str(parts.helm()), *map(str, arguments)]
    done = subprocess.run(
        command,
        env={"PATH": "/usr/bin:/bin", "HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_both_applications_are_installed_falco_first(home: Path) -> None:
    listed = helmfile(home, "--file", PROJECT / "helmfile.yaml", "list", "--output", "json")
    releases = json.loads(listed)
    assert [(one["name"], one["namespace"], one["enabled"]) for one in releases] == [
        ("falco", NAMESPACE, True),
        ("falco-streamer", NAMESPACE, True),
    ]


def test_the_worker_has_rights_beside_falco_and_nowhere_else(home: Path, tmp_path: Path) -> None:
    file = PROJECT / "applications/falco-streamer/helmfile.yaml"
    rendered = helmfile(home, "--file", file, "template", "--skip-deps")
    objects = [one for one in yaml.safe_load_all(rendered) if one]
    assert loose_ends(objects) == []
    assert {one["metadata"]["namespace"] for one in objects} == {NAMESPACE}
    assert of_kind(objects, "Role")
    assert settings_of(objects, tmp_path).kubernetes.namespaces == (NAMESPACE,)


def test_falco_prints_json_where_its_chart_looks_for_that() -> None:
    values = yaml.safe_load((PROJECT / "applications/falco/values.yaml").read_text())
    assert values["falco"]["json_output"] is True
    assert "jsonOutput" not in values
    assert "-U" in values["extra"]["args"]
    (rules,) = map(yaml.safe_load, values["customRules"].values())
    named = [one for one in rules if "rule" in one]
    assert all({"desc", "condition", "output", "priority", "tags"} <= one.keys() for one in named)
    assert len(named) == 2


def test_the_pipelines_jobs_follow_its_stages() -> None:
    pipeline: dict[str, Any] = yaml.safe_load((PROJECT / ".gitlab-ci.yml").read_text())
    stages = [job["stage"] for job in pipeline.values() if isinstance(job, dict) and "stage" in job]
    assert stages == pipeline["stages"] == ["lint", "diff", "apply", "verify"]
