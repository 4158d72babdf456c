"""The GitLab project: read and rendered by the real helmfile. Falco's chart is remote, so it is only listed."""

import json
import re
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


def jobs_of(pipeline: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The jobs, each with what it extends."""
    jobs = {}
    for name, job in pipeline.items():
        if isinstance(job, dict) and "stage" in job:
            jobs[name] = pipeline.get(job.get("extends", ""), {}) | job
    return jobs


@pytest.fixture
def pipeline() -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((PROJECT / ".gitlab-ci.yml").read_text())
    return read


def test_the_pipelines_jobs_follow_its_stages(pipeline: dict[str, Any]) -> None:
    stages = [job["stage"] for job in jobs_of(pipeline).values()]
    assert stages == pipeline["stages"] == ["lint", "diff", "apply", "verify"]


def test_what_reaches_the_cluster_takes_the_agents_context_and_what_changes_it_the_main_branch(
    pipeline: dict[str, Any],
) -> None:
    for name, job in jobs_of(pipeline).items():
        reaches = any(re.search(r"kubectl|gl-|helm ", line) for line in job["script"])
        assert reaches == (name != "lint")
        if reaches:
            assert 'kubectl config use-context "$KUBE_CONTEXT"' in job["before_script"][0]
            assert job["environment"]["name"] == "staging"
        # Only one of them says that it deploys; the others do not stand in the environment's history.
        assert (job.get("environment", {}).get("action") == "verify") == (name in {"diff", "verify"})
        assert ("rules" in job) == (name in {"apply", "verify"})


def test_the_pipelines_commands_name_what_is_there(home: Path, pipeline: dict[str, Any]) -> None:
    script = "\n".join(line for job in jobs_of(pipeline).values() for line in job["script"])
    for path in re.findall(r"\$CI_PROJECT_DIR/([\w./-]+)", script):
        assert (PROJECT / path).is_file()
    file = PROJECT / "applications/falco-streamer/helmfile.yaml"
    rendered = helmfile(home, "--file", file, "template", "--skip-deps")
    objects = [one for one in yaml.safe_load_all(rendered) if one]
    names = {(one["kind"].lower(), one["metadata"]["name"]) for one in objects}
    (exec_in,) = re.findall(r"exec (\w+)/([\w-]+) -- ", script)
    assert exec_in in names
    (command,) = re.findall(r" -- falco-streamer (.+)", script)
    (deployment,) = of_kind(objects, "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["args"][1:] == command.split()[1:]
    assert re.findall(r"helm .* test ([\w-]+)", script) == ["falco-streamer"]
    assert ("pod", "falco-streamer-test") in names
    namespaces = re.findall(r"(?:--namespace|gl-ensure-namespace) ([\w-]+)", script)
    assert set(namespaces) == {NAMESPACE}


def test_the_first_stage_finds_nothing_in_the_workers_application(home: Path) -> None:
    file = PROJECT / "applications/falco-streamer/helmfile.yaml"
    said = helmfile(home, "--file", file, "lint", "--skip-deps")
    assert "1 chart(s) linted, 0 chart(s) failed" in said
