"""What docs/security.md states of those who can create pods in Falco's namespace, and of the policy that it gives."""

import re
import textwrap
import time
from collections.abc import Iterator

import pytest
import yaml

from tests.manifests.sets import Object
from tests.testbed import chart
from tests.testbed.apiserver import KubeApiServer
from tests.testbed.fixtures import parts_or_skip
from tests.testbed.kubectl import Kubectl, kubectl_of, with_token

pytestmark = pytest.mark.real

FALCO = "falco"
DAEMON_SET_CONTROLLER = "--as=system:serviceaccount:kube-system:daemon-set-controller"
SECONDS = 30


@pytest.fixture(scope="module")
def server() -> Iterator[KubeApiServer]:
    with parts_or_skip(), KubeApiServer() as started:
        yield started


@pytest.fixture(scope="module")
def admin(server: KubeApiServer, tmp_path_factory: pytest.TempPathFactory) -> Kubectl:
    """The administrator's, of a server with Falco's namespace, service account and DaemonSet."""
    made = kubectl_of(server, tmp_path_factory.mktemp("home"))
    assert made("create", "namespace", FALCO).returncode == 0
    for account in ("falco", "tenant"):
        assert made("create", "serviceaccount", account, "-n", FALCO).returncode == 0
    grants = [
        ("role", "creator", "--verb=create,patch,get", "--resource=pods"),
        ("rolebinding", "creator", "--role=creator", f"--serviceaccount={FALCO}:tenant"),
        # The controller's own right, which the controller manager's bootstrap roles give it in a cluster.
        ("clusterrole", "daemons", "--verb=create,patch,get", "--resource=pods"),
    ]
    for grant in grants:
        done = made("create", *grant, "-n", FALCO)
        assert done.returncode == 0, done.stderr
    labels = {"app.kubernetes.io/name": "falco"}
    spec = {"selector": {"matchLabels": labels}, "template": template(labels)}
    falco = {"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "falco"}, "spec": spec}
    assert made("create", "-n", FALCO, "-f", "-", given=falco).returncode == 0
    return made


@pytest.fixture(scope="module")
def tenant(admin: Kubectl, server: KubeApiServer) -> Kubectl:
    """An account that may create pods in Falco's namespace, change them, and nothing else."""
    return with_token(admin, server, "tenant", FALCO)


def template(labels: dict[str, str]) -> Object:
    containers = [{"name": "falco", "image": "example.com/not-falco"}]
    return {"metadata": {"labels": labels}, "spec": {"serviceAccountName": "falco", "containers": containers}}


def forged(admin: Kubectl, name: str) -> Object:
    """A pod that looks like one of Falco's DaemonSet."""
    owner = admin.json("get", "daemonset", "falco", "-n", FALCO, "-o", "json")["metadata"]
    pod = template({"app.kubernetes.io/name": "falco"})
    reference = {"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "falco", "uid": owner["uid"]}
    metadata = {**pod["metadata"], "name": name, "namespace": FALCO}
    metadata["ownerReferences"] = [{**reference, "controller": True}]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod["spec"]}


def create(user: Kubectl, pod: Object, *flags: str) -> tuple[int, str]:
    done = user("create", *flags, "-f", "-", given=pod)
    return done.returncode, done.stderr


def test_a_pods_creator_chooses_label_container_owner_and_service_account(
    admin: Kubectl, tenant: Kubectl
) -> None:
    assert create(tenant, forged(admin, "falco-forged")) == (0, "")
    made = admin.json("get", "pod", "falco-forged", "-n", FALCO, "-o", "json")
    (owner,) = made["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["controller"]) == ("DaemonSet", "falco", True)
    assert made["spec"]["serviceAccountName"] == "falco"


def test_the_policy_reserves_the_label_for_the_daemon_sets_pods(admin: Kubectl, tenant: Kubectl) -> None:
    assert create(tenant, forged(admin, "falco-before")) == (0, "")
    page = (chart.K8S.parent / "docs/security.md").read_text()
    (text,) = re.findall(
        r"^ *```yaml\n( *apiVersion: admissionregistration.*?)```", page, re.DOTALL | re.MULTILINE
    )
    policy = list(yaml.safe_load_all(textwrap.dedent(text)))
    listed = {"apiVersion": "v1", "kind": "List", "items": policy}
    applied = admin("apply", "--server-side", "--validate=strict", "-f", "-", given=listed)
    assert (applied.returncode, applied.stderr) == (0, "")

    deadline, probe = time.monotonic() + SECONDS, forged(admin, "falco-probe")
    while create(tenant, probe, "--dry-run=server")[0] == 0:  # the server takes a moment to enforce it
        assert time.monotonic() < deadline, "the policy is not enforced"
    code, said = create(tenant, forged(admin, "falco-refused"))
    assert code == 1
    assert "only a DaemonSet's pods may have the label app.kubernetes.io/name=falco" in said

    # The label cannot be added later, either; pods that have it, and pods without it, are left alone.
    plain = forged(admin, "plain")
    del plain["metadata"]["labels"]
    assert create(tenant, plain) == (0, "")
    label = '{"metadata":{"labels":{"app.kubernetes.io/name":"falco"}}}'
    assert tenant("patch", "pod", "plain", "-n", FALCO, "-p", label).returncode == 1
    note = '{"metadata":{"annotations":{"note":"changed"}}}'
    for name in ("plain", "falco-before"):
        assert tenant("patch", "pod", name, "-n", FALCO, "-p", note).returncode == 0

    # Falco's own pods are created by the controller.
    bound = "daemon-set-controller"
    account = "--serviceaccount=kube-system:daemon-set-controller"
    assert admin("create", "clusterrolebinding", bound, "--clusterrole=daemons", account).returncode == 0
    assert create(admin, forged(admin, "falco-real"), DAEMON_SET_CONTROLLER) == (0, "")
