"""Every set of objects, applied to a real API server: validated field by field, and held to Pod Security `restricted`.

The server knows the operators' objects by their own CustomResourceDefinitions. A server of its own, see
tests/integration/test_manifests.py.
"""

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.manifests.sets import MINIMAL, SETS, Object, objects_of, worker
from tests.testbed import PartMissing, chart, operators
from tests.testbed.apiserver import KubeApiServer
from tests.testbed.fixtures import parts_or_skip
from tests.testbed.kubectl import Kubectl, kubectl_of

pytestmark = pytest.mark.real

ROOT = chart.K8S.parent
RESTRICTED = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn", "audit")}


@pytest.fixture(scope="module")
def kubectl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    """The administrator's, of a server with all namespaces and definitions in place."""
    with parts_or_skip(), KubeApiServer() as server:
        admin = kubectl_of(server, tmp_path_factory.mktemp("home"))
        for folder in (operators.prometheus_operator(), operators.strimzi()):
            done = admin("create", "-f", folder)
            assert done.returncode == 0, done.stderr
        waited = admin("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
        assert waited.returncode == 0, waited.stderr
        for name in ("falco", "falco-audit", "kafka", "gitlab-managed-apps", chart.NAME):
            # Falco's own pods could not run there, ours can.
            metadata = {"name": name, "labels": RESTRICTED}
            namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}
            assert admin("create", "-f", "-", given=namespace).returncode == 0
        yield admin


def apply(kubectl: Kubectl, objects: list[Object], manager: str) -> tuple[int, str]:
    """Apply as their user would; the exit code and all that was said beside the names."""
    listed = {"apiVersion": "v1", "kind": "List", "items": objects}
    arguments = ["--server-side", "--validate=strict", "--field-manager", manager, "--force-conflicts"]
    done = kubectl("apply", *arguments, "-f", "-", given=listed)
    return done.returncode, done.stderr


@pytest.mark.parametrize("name", SETS)
def test_it_is_applied_without_an_error_or_a_warning(kubectl: Kubectl, name: str) -> None:
    assert apply(kubectl, objects_of(name), "test") == (0, "")


@pytest.mark.parametrize("name", SETS)
def test_its_pods_are_admitted(kubectl: Kubectl, name: str) -> None:
    for one in objects_of(name):
        if one["kind"] == "Deployment":
            template = one["spec"]["template"]
            where = {"name": "pod", "namespace": one["metadata"]["namespace"]}
            pod = {"apiVersion": "v1", "kind": "Pod", **template, "metadata": template["metadata"] | where}
            made = kubectl("create", "--dry-run=server", "--validate=strict", "-f", "-", given=pod)
            assert (made.returncode, made.stderr) == (0, "")


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        ("KafkaTopic", {"partitions": "many"}),
        ("KafkaUser", {"authorization": {"type": "simple", "acls": [{"operations": ["Publish"]}]}}),
        ("ServiceMonitor", {"endpoints": [{"interval": "often"}], "selector": {}}),
        ("PodMonitor", {"selector": 1}),
        ("PrometheusRule", {"groups": [{"name": "g", "rules": [{"alert": "NoExpression"}]}]}),
    ],
)
def test_an_operators_object_with_a_mistake_is_refused(kubectl: Kubectl, kind: str, spec: Object) -> None:
    # So that being accepted means something.
    (good, *_) = [one for one in objects_of("chart all") if one["kind"] == kind]
    metadata = {"name": "wrong", "namespace": "kafka"}
    code, said = apply(kubectl, [{**good, "metadata": metadata, "spec": spec}], "test")
    assert code == 1
    assert "invalid" in said.lower() or "validating" in said


def test_a_misspelt_key_is_refused(kubectl: Kubectl) -> None:
    deployment = worker(objects_of("base"))
    deployment["spec"]["template"]["spec"]["terminationGracePeriod"] = 30
    code, said = apply(kubectl, [deployment], "test")
    assert code == 1
    assert "terminationGracePeriod" in said


def test_what_helm_installs_is_what_was_rendered(kubectl: Kubectl, tmp_path: Path) -> None:
    """The real `helm install`, with its own look at the server; then `helm uninstall` leaves nothing."""
    (kubeconfig,) = [flag.partition("=")[2] for flag in kubectl.access]
    to = ["--kubeconfig", kubeconfig, "--namespace", "falco"]
    made = chart.helm("install", "other", chart.CHART, *to, *MINIMAL, home=tmp_path)
    assert made.returncode == 0, made.stderr
    assert re.findall(r"kubectl .*", made.stdout) == [
        f"kubectl -n falco exec -it deployment/other-falco-streamer -- falco-streamer {command}"
        for command in ("doctor", "tap --since 1h")
    ]
    assert "in the namespace falco, and has no rights elsewhere" in made.stdout
    try:
        shown = chart.helm("get", "manifest", "other", *to, home=tmp_path).stdout
        names = {(one["kind"], one["metadata"]["name"]) for one in yaml.safe_load_all(shown) if one}
        assert ("Deployment", "other-falco-streamer") in names
        assert ("Role", "other-falco-streamer") in names
        assert not {kind for kind, _ in names} & {"ClusterRole", "ClusterRoleBinding"}
        for kind, name in names:
            found = kubectl("get", kind, name, "-n", "falco", "-o", "json")
            labels = json.loads(found.stdout)["metadata"]["labels"]
            assert labels["app.kubernetes.io/managed-by"] == "Helm"
    finally:
        gone = chart.helm("uninstall", "other", *to, home=tmp_path)
    assert gone.returncode == 0, gone.stderr
    assert kubectl("get", "deployment", "other-falco-streamer", "-n", "falco").returncode == 1


def test_helm_install_refuses_a_misspelt_setting(kubectl: Kubectl, tmp_path: Path) -> None:
    (kubeconfig,) = [flag.partition("=")[2] for flag in kubectl.access]
    to = ["--kubeconfig", kubeconfig, "--namespace", "falco"]
    wrong = ["--set", "config.dedupe.max_window=1"]
    made = chart.helm("install", "misspelt", chart.CHART, *to, *MINIMAL, *wrong, home=tmp_path)
    assert made.returncode == 1
    assert "at '/config/dedupe': additional properties 'max_window' not allowed" in made.stderr
    assert kubectl("get", "deployment", "misspelt-falco-streamer", "-n", "falco").returncode == 1


def documented(page: str, begins: str) -> list[str]:
    """The words of the first command on a page of docs/ that begins so."""
    text = (ROOT / "docs" / page).read_text().replace("\\\n", " ")
    (command,) = re.findall(rf"^ *\$ ({begins}.*)$", text, re.MULTILINE)
    return shlex.split(command)


def test_what_the_documentation_installs_is_taken(kubectl: Kubectl, tmp_path: Path) -> None:
    (kubeconfig,) = [flag.partition("=")[2] for flag in kubectl.access]
    _, *arguments = documented("deployment.md", "helm install")
    arguments = [str(ROOT / word) if word.startswith("k8s/") else word for word in arguments]
    # Beside what other tests have applied under its names.
    where = ["--namespace", "documented", "--kubeconfig", kubeconfig]
    made = chart.helm(*arguments, *where, home=tmp_path)
    assert (made.returncode, made.stderr) == (0, "")
    found = kubectl.json("get", "deployment", chart.NAME, "-n", "documented", "-o", "json")
    assert found["spec"]["template"]["spec"]["containers"][0]["image"].startswith("registry.example.com/")
    gone = chart.helm("uninstall", chart.NAME, *where, home=tmp_path)
    assert gone.returncode == 0, gone.stderr


def test_every_path_that_the_documentation_names_is_there() -> None:
    for page in (ROOT / "README.md", ROOT / "docs/deployment.md", ROOT / "docs/upgrading.md"):
        for path in re.findall(r"k8s/[\w./-]*\w", page.read_text()):
            assert (ROOT / path).exists(), f"{page.name}: {path}"


@pytest.mark.parametrize("name", SETS)
def test_a_command_can_be_run_as_a_job_made_of_the_deployment(kubectl: Kubectl, name: str) -> None:
    with parts_or_skip():
        jq = shutil.which("jq")
        if jq is None:
            raise PartMissing("the command of a Job is put into it by jq: install it")
    wanted = worker(objects_of(name))
    found = kubectl.json("create", "--dry-run=server", "-o", "json", "-f", "-", given=unnamed(wanted))
    command = [jq, "-f", str(chart.K8S / "command-job.jq"), "--args", "--", "state", "reshard", "--to", "16"]
    made = subprocess.run(command, input=json.dumps(found), capture_output=True, text=True, check=True)
    job = kubectl.json(
        "create",
        "--dry-run=server",
        "--validate=strict",
        "-o",
        "json",
        "-f",
        "-",
        given=json.loads(made.stdout),
    )
    template = job["spec"]["template"]
    [container] = template["spec"]["containers"]
    assert container["args"] == ["state", "reshard", "--to", "16"]
    [before] = [one for one in wanted["spec"]["template"]["spec"]["containers"] if one["name"] == chart.NAME]
    assert (container["image"], container["volumeMounts"]) == (before["image"], before["volumeMounts"])
    assert not any(name.endswith("Probe") for name in container)
    labels = template["metadata"]["labels"]
    assert wanted["spec"]["template"]["metadata"]["labels"].items() <= labels.items(), "for the NetworkPolicy"
    metadata = {"name": "job-pod", "namespace": job["metadata"]["namespace"]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
    admitted = kubectl("create", "--dry-run=server", "--validate=strict", "-f", "-", given=pod)
    assert (admitted.returncode, admitted.stderr) == (0, "")


def unnamed(deployment: Object) -> Object:
    """The same under a name that nobody has: whether it is there already does not matter."""
    return {**deployment, "metadata": {**deployment["metadata"], "name": f"{chart.NAME}-for-a-job"}}


def test_the_state_topic_outlives_its_release() -> None:
    """Without its KafkaTopic, Strimzi would delete the topic, and with it every position."""
    kept = [
        one["spec"]["topicName"]
        for one in objects_of("chart all")
        if one["kind"] == "KafkaTopic"
        and one["metadata"].get("annotations", {}).get("helm.sh/resource-policy") == "keep"
    ]
    assert len(kept) == 1
    assert kept[0].endswith(".state")
