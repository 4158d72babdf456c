"""k8s/ as a user applies it: with the real kubectl, to a real API server, which checks every field and every pod.

On an API server of its own: without the controller that empties namespaces, one that a test made would stay in
the shared server for all others; and in a cluster that somebody gives us, there may be a real worker by that name.
"""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

import streamer
from streamer.cli.run import run
from streamer.config import Settings, load
from streamer.source.api import ApiError, LogQuery, connect
from streamer.source.discovery import Discovery
from streamer.telemetry.http import HttpServer
from streamer.telemetry.status import Check, CheckState, Status
from tests.testbed.apiserver import KubeApiServer
from tests.testbed.fixtures import parts_or_skip
from tests.testbed.kubectl import Kubectl, Object, Right, kubeconfig_of, kubectl_of, with_token

pytestmark = pytest.mark.real

ROOT = Path(__file__).parents[2]
BASE = ROOT / "k8s/base"
ALL_NAMESPACES = ROOT / "k8s/overlays/all-namespaces"
NAME, FALCO = "falco-streamer", "falco"
"""The namespaces of the worker and of Falco."""
SECONDS = 20

RIGHTS: set[Right] = {("get", "pods"), ("list", "pods"), ("watch", "pods"), ("get", "pods/log")}


@pytest.fixture(scope="module")
def server() -> Iterator[KubeApiServer]:
    with parts_or_skip(), KubeApiServer() as started:
        yield started


@pytest.fixture(scope="module")
def kubectl(server: KubeApiServer, tmp_path_factory: pytest.TempPathFactory) -> Kubectl:
    """The administrator's, of a server on which Falco's namespace exists."""
    admin = kubectl_of(server, tmp_path_factory.mktemp("home"))
    assert admin("create", "namespace", FALCO).returncode == 0
    return admin


@pytest.fixture(scope="module")
def objects(kubectl: Kubectl) -> dict[str, Object]:
    """The base, applied for the first time, by kind."""
    return kubectl.apply(BASE)


@pytest.fixture(scope="module")
def worker(kubectl: Kubectl, objects: dict[str, Object], server: KubeApiServer) -> Kubectl:
    """With what the Deployment's pod is given, its account's token."""
    account = objects["ServiceAccount"]["metadata"]
    return with_token(kubectl, server, account["name"], account["namespace"])


@pytest.fixture(scope="module")
def stranger(kubectl: Kubectl, server: KubeApiServer) -> Kubectl:
    """An account to which nobody gave anything: what it may do, every account may."""
    assert kubectl("create", "serviceaccount", "stranger", "-n", "default").returncode == 0
    return with_token(kubectl, server, "stranger", "default")


@pytest.fixture(scope="module")
def settings(objects: dict[str, Object], tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return settings_of(objects, tmp_path_factory.mktemp("config"))


def settings_of(objects: dict[str, Object], folder: Path) -> Settings:
    """The settings that the worker has in that pod."""
    (key,) = objects["ConfigMap"]["data"]
    file = folder / key
    file.write_text(objects["ConfigMap"]["data"][key])
    container = container_of(objects)
    env = container.get("env", [])
    return load(file, environ={variable["name"]: variable.get("value", "its-pods-name") for variable in env})


def container_of(objects: dict[str, Object]) -> Object:
    (container,) = objects["Deployment"]["spec"]["template"]["spec"]["containers"]
    found: Object = container
    return found


def pod_of(objects: dict[str, Object]) -> Object:
    """The pod that the Deployment's controller would make."""
    template = objects["Deployment"]["spec"]["template"]
    metadata = {"name": "worker", "namespace": NAME, "labels": template["metadata"]["labels"]}
    spec = json.loads(json.dumps(template["spec"]))  # a copy: tests change it
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


# ---- applying


def test_applying_again_changes_nothing(kubectl: Kubectl, objects: dict[str, Object]) -> None:
    assert kubectl.apply(BASE) == objects


def test_every_object_is_there(objects: dict[str, Object]) -> None:
    config = objects["ConfigMap"]["metadata"]["name"]
    assert config.startswith(f"{NAME}-")
    assert {
        (kind, one["metadata"].get("namespace"), one["metadata"]["name"]) for kind, one in objects.items()
    } == {
        ("Namespace", None, NAME),
        ("ServiceAccount", NAME, NAME),
        ("Role", FALCO, NAME),
        ("RoleBinding", FALCO, NAME),
        ("ConfigMap", NAME, config),
        ("Deployment", NAME, NAME),
        ("NetworkPolicy", NAME, NAME),
        ("PodDisruptionBudget", NAME, NAME),
        ("Service", NAME, NAME),
    }


def test_all_have_the_labels_that_tools_look_for(objects: dict[str, Object]) -> None:
    for kind, one in objects.items():
        labels = one["metadata"]["labels"]
        assert labels["app.kubernetes.io/name"] == NAME, kind
        assert labels["app.kubernetes.io/part-of"] == NAME, kind
        assert labels["app.kubernetes.io/version"] == streamer.__version__, kind


def test_the_pod_is_admitted_where_pods_are_restricted(kubectl: Kubectl, objects: dict[str, Object]) -> None:
    made = kubectl("create", "--dry-run=server", "-f", "-", given=pod_of(objects))
    assert (made.returncode, made.stderr) == (0, "")


@pytest.mark.parametrize("key", ["allowPrivilegeEscalation", "capabilities"])
def test_the_namespace_refuses_a_pod_that_has_one_guard_less(
    kubectl: Kubectl, objects: dict[str, Object], key: str
) -> None:
    pod = pod_of(objects)
    del pod["spec"]["containers"][0]["securityContext"][key]
    refused = kubectl("create", "--dry-run=server", "-f", "-", given=pod)
    assert refused.returncode == 1
    assert 'violates PodSecurity "restricted:latest"' in refused.stderr


def test_a_deployment_that_is_not_restricted_makes_a_warning(
    kubectl: Kubectl, objects: dict[str, Object]
) -> None:
    # So that the silence of `apply` means something.
    template = {**objects["Deployment"]["spec"]["template"], "spec": pod_of(objects)["spec"]}
    del template["spec"]["securityContext"]["seccompProfile"]
    spec = {**objects["Deployment"]["spec"], "template": template}
    metadata = {"name": "other", "namespace": NAME}
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}
    made = kubectl("create", "--dry-run=server", "-f", "-", given=deployment)
    assert made.returncode == 0
    assert "Warning: would violate PodSecurity" in made.stderr


def test_the_root_file_system_is_read_only_and_the_processor_not_limited(objects: dict[str, Object]) -> None:
    # Pod Security asks for neither.
    container = container_of(objects)
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert set(container["resources"]["limits"]) == {"memory"}


# ---- the account's rights


def test_its_rights_in_falcos_namespace_are_those_and_no_others(worker: Kubectl, stranger: Kubectl) -> None:
    assert worker.rights(FALCO) - stranger.rights(FALCO) == RIGHTS


@pytest.mark.parametrize("namespace", [NAME, "default", "kube-system"])
def test_it_has_no_rights_elsewhere(worker: Kubectl, stranger: Kubectl, namespace: str) -> None:
    assert worker.rights(namespace) == stranger.rights(namespace)


@pytest.mark.parametrize("right", sorted(RIGHTS))
def test_it_has_no_rights_in_all_namespaces(worker: Kubectl, right: Right) -> None:
    assert worker.allows(right, "-n", FALCO)
    assert not worker.allows(right, "--all-namespaces")


@pytest.mark.parametrize(
    "right",
    [
        ("create", "pods"),
        ("delete", "pods"),
        ("patch", "pods"),
        ("create", "pods/exec"),
        ("get", "pods/exec"),
        ("create", "pods/portforward"),
        ("create", "pods/eviction"),
        ("list", "pods/log"),
        ("get", "secrets"),
        ("list", "secrets"),
        ("get", "configmaps"),
        ("create", "serviceaccounts/token"),
        ("impersonate", "serviceaccounts"),
    ],
)
def test_it_may_not(worker: Kubectl, right: Right) -> None:
    assert not worker.allows(right, "-n", FALCO)
    assert not worker.allows(right, "-n", NAME)
    assert not worker.allows(right, "--all-namespaces")


async def test_the_rights_are_enough_for_what_the_worker_asks(
    worker: Kubectl, settings: Settings, tmp_path: Path
) -> None:
    kubernetes = settings.kubernetes
    async with connect(kubeconfig_of(worker, tmp_path), None) as api:
        discovery = Discovery(api, kubernetes.selectors, kubernetes.namespaces, kubernetes.container)
        running = asyncio.create_task(discovery.run())
        async with asyncio.timeout(SECONDS):
            await discovery.listed()
        assert discovery.settled
        running.cancel()
        ended, _ = await asyncio.wait([running], timeout=SECONDS)
        assert ended, "a watch did not end when it was cancelled"
        # Allowed, so the answer is that there is no such pod.
        with pytest.raises(ApiError) as missing:
            await api.pod(FALCO, "nobody")
        assert missing.value.status == 404
        with pytest.raises(ApiError) as missing:
            await api.log(FALCO, "nobody", kubernetes.container, LogQuery(follow=True))
        assert missing.value.status == 404


async def test_without_them_it_is_refused(stranger: Kubectl, tmp_path: Path) -> None:
    async with connect(kubeconfig_of(stranger, tmp_path), None) as api:
        with pytest.raises(ApiError) as refused:
            await api.pod(FALCO, "nobody")
        assert refused.value.status == 403


# ---- what the objects say of each other


def test_the_command_reads_the_settings_that_are_mounted(objects: dict[str, Object]) -> None:
    container = container_of(objects)
    command, *arguments = container["args"]
    assert command == run.name
    config = run.make_context("run", arguments).params["config"]
    (key,) = objects["ConfigMap"]["data"]
    (mount,) = [one for one in container["volumeMounts"] if one["name"] == "config"]
    assert config == Path(mount["mountPath"]) / key
    (volume,) = [one for one in pod_of(objects)["spec"]["volumes"] if one["name"] == "config"]
    assert volume["configMap"]["name"] == objects["ConfigMap"]["metadata"]["name"]


def test_the_settings_are_for_falcos_namespace(settings: Settings) -> None:
    assert settings.kubernetes.namespaces == (FALCO,)


def test_kubernetes_waits_longer_than_the_drain(objects: dict[str, Object], settings: Settings) -> None:
    spec = pod_of(objects)["spec"]
    assert spec["terminationGracePeriodSeconds"] > settings.shutdown.grace_seconds


def test_nobodys_service_gets_into_its_settings(objects: dict[str, Object]) -> None:
    assert pod_of(objects)["spec"]["enableServiceLinks"] is False


def test_probes_and_service_name_the_port_that_is_served(
    objects: dict[str, Object], settings: Settings
) -> None:
    container = container_of(objects)
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    probes = [container[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")]
    (service,) = objects["Service"]["spec"]["ports"]
    named = [*(probe["port"] for probe in probes), service["targetPort"]]
    assert {ports[name] for name in named} == {settings.http.port}


async def test_probes_ask_what_the_worker_answers(objects: dict[str, Object]) -> None:
    container = container_of(objects)
    paths = [container[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "liveness", "readiness")]
    checks = [Check("pods listed", why="listing")]
    async with (
        HttpServer("127.0.0.1", 0, lambda: Status("test", checks)).serving() as port,
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session,
    ):

        async def statuses() -> list[int]:
            found = []
            for path in paths:
                async with session.get(path) as answer:
                    found.append(answer.status)
            return found

        # Not being ready is no reason to be restarted.
        assert await statuses() == [200, 200, 503]
        checks[0] = Check("pods listed", CheckState.OK)
        assert await statuses() == [200, 200, 200]


def test_service_and_budget_select_the_pod(objects: dict[str, Object]) -> None:
    labels = pod_of(objects)["metadata"]["labels"].items()
    assert labels >= objects["Service"]["spec"]["selector"].items() > set()
    assert labels >= objects["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"].items() > set()


def test_it_does_not_follow_itself(kubectl: Kubectl, objects: dict[str, Object], settings: Settings) -> None:
    # Asked of the API server, as the worker does: by selector, of a pod that is there.
    assert kubectl("create", "-f", "-", given=pod_of(objects)).returncode == 0
    try:
        own = kubectl.json("get", "pods", "-n", NAME, "-o", "json")["items"]
        assert [pod["metadata"]["name"] for pod in own] == ["worker"]
        for selector in settings.kubernetes.selectors:
            assert kubectl.json("get", "pods", "-n", NAME, "-l", selector, "-o", "json")["items"] == []
    finally:
        kubectl("delete", "pod", "worker", "-n", NAME, "--force", "--grace-period=0")


def test_the_account_is_the_one_that_has_the_rights(objects: dict[str, Object]) -> None:
    spec = pod_of(objects)["spec"]
    account = {"kind": "ServiceAccount", "name": spec["serviceAccountName"], "namespace": NAME}
    assert objects["RoleBinding"]["subjects"] == [account]
    assert spec["automountServiceAccountToken"] is True
    assert objects["ServiceAccount"]["automountServiceAccountToken"] is False


def test_the_image_is_of_this_version(objects: dict[str, Object]) -> None:
    assert container_of(objects)["image"] == f"{NAME}:{streamer.__version__}"


# ---- the variant for all namespaces


def test_the_overlay_for_all_namespaces_needs_none_of_falcos(
    private_api_server: KubeApiServer, tmp_path: Path
) -> None:
    admin = kubectl_of(private_api_server, tmp_path)
    objects = admin.apply(ALL_NAMESPACES)
    assert admin.apply(ALL_NAMESPACES) == objects
    assert not objects.keys() & {"Role", "RoleBinding"}
    assert settings_of(objects, tmp_path).kubernetes.namespaces == ()

    assert admin("create", "serviceaccount", "stranger", "-n", "default").returncode == 0
    stranger = with_token(admin, private_api_server, "stranger", "default")
    worker = with_token(admin, private_api_server, NAME, NAME)
    for right in sorted(RIGHTS):
        assert worker.allows(right, "--all-namespaces")
        assert not stranger.allows(right, "--all-namespaces")
    for namespace in (NAME, "default", "kube-system"):
        assert worker.rights(namespace) - stranger.rights(namespace) == RIGHTS

    # The base says at once that Falco is not where it is expected.
    refused = admin("apply", "--server-side", "-k", BASE)
    assert refused.returncode == 1
    assert f'namespaces "{FALCO}" not found' in refused.stderr
