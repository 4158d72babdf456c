"""The chart and the kustomizations, as the real helm and kubectl render them: what the objects say of each other."""

import copy
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import streamer
from streamer.config import Settings
from streamer.model import Priority
from streamer.sink.permissions import worker_permissions
from tests.manifests.links import loose_ends
from tests.manifests.sets import (
    ELSEWHERE,
    MINIMAL,
    SETS,
    Object,
    container,
    kustomize,
    objects_of,
    of_kind,
    settings_of,
    worker,
)
from tests.testbed import chart
from tests.testbed.fixtures import parts_or_skip

pytestmark = pytest.mark.real


@pytest.fixture(scope="module", autouse=True)
def _programs() -> Iterator[None]:
    with parts_or_skip():
        chart.helm("version")
        yield


@pytest.fixture(params=SETS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def objects(name: str) -> list[Object]:
    return objects_of(name)


@pytest.fixture
def settings(objects: list[Object], tmp_path: Path) -> Settings:
    return settings_of(objects, tmp_path)


# ---- the chart is the source


@pytest.mark.parametrize("files", [chart.generated, chart.kustomized])
def test_generated_files_are_up_to_date(files: Callable[[], dict[Path, str]]) -> None:
    stale = [path for path, text in files().items() if path.read_text() != text]
    assert stale == [], "run `make manifests`"


def test_the_chart_is_of_this_version() -> None:
    shown = chart.helm("show", "chart", chart.CHART).stdout
    assert f"\nappVersion: {streamer.__version__}\n" in shown


@pytest.mark.parametrize("values", sorted((chart.CHART / "ci").iterdir()), ids=lambda file: file.name)
def test_helm_lint_has_no_finding(values: Path) -> None:
    done = chart.helm("lint", "--strict", chart.CHART, "--values", values)
    assert done.returncode == 0, done.stdout
    assert "[WARNING]" not in done.stdout + done.stderr


# ---- links, names, ports


def test_every_link_leads_somewhere(name: str, objects: list[Object]) -> None:
    assert loose_ends(objects, elsewhere=ELSEWHERE.get(name, ())) == []


@pytest.mark.parametrize(
    ("kind", "path", "wrong"),
    [
        ("Service", "spec.selector", {"app": "other"}),
        ("Service", "spec.ports.0.targetPort", "metrics"),
        ("Deployment", "spec.template.spec.serviceAccountName", "other"),
        ("Deployment", "spec.template.spec.enableServiceLinks", True),
        ("Deployment", "spec.template.spec.volumes.0.configMap.name", "other"),
        ("Deployment", "spec.template.spec.volumes.2.name", "other"),
        ("Deployment", "spec.template.spec.containers.0.livenessProbe.httpGet.port", "health"),
        ("PodDisruptionBudget", "spec.selector.matchLabels", {"app": "other"}),
        ("NetworkPolicy", "spec.podSelector.matchLabels", {}),
        ("NetworkPolicy", "spec.ingress.0.ports.0.port", "metrics"),
        ("NetworkPolicy", "spec.ingress.0.from.1.podSelector.matchLabels", {"app": "other"}),
        ("ServiceMonitor", "spec.selector.matchLabels", {"app": "other"}),
        ("ServiceMonitor", "spec.endpoints.0.port", "metrics"),
        ("PodMonitor", "spec.podMetricsEndpoints.0.port", "metrics"),
        ("RoleBinding", "roleRef.name", "other"),
        ("RoleBinding", "subjects.0.namespace", "other"),
    ],
)
def test_a_broken_link_is_found(kind: str, path: str, wrong: object) -> None:
    broken = copy.deepcopy(objects_of("chart all"))
    *way, last = path.split(".")
    at: Any = of_kind(broken, kind)[0]
    for step in way:
        at = at[int(step)] if isinstance(at, list) else at[step]
    assert at[last] != wrong
    at[last] = wrong
    found = loose_ends(broken, elsewhere=ELSEWHERE["chart all"])
    assert found
    assert all(fault.startswith(kind) for fault in found)


def test_the_rights_are_where_the_worker_asks(objects: list[Object], settings: Settings) -> None:
    everywhere = bool(of_kind(objects, "ClusterRoleBinding"))
    roles = [one["metadata"]["namespace"] for one in of_kind(objects, "RoleBinding")]
    assert everywhere == (settings.kubernetes.namespaces == ())
    assert sorted(roles) == sorted(settings.kubernetes.namespaces)


@pytest.mark.parametrize("name", [one for one in SETS if one != "overlay all-namespaces"])
def test_rights_in_all_namespaces_are_asked_for_and_no_default(objects: list[Object]) -> None:
    assert of_kind(objects, "ClusterRole") == of_kind(objects, "ClusterRoleBinding") == []
    assert of_kind(objects, "Role")


def test_falco_is_expected_in_the_namespace_of_its_own_documentation(tmp_path: Path) -> None:
    for name in ("base", "chart minimal"):
        assert settings_of(objects_of(name), tmp_path).kubernetes.namespaces == ("falco",)


def test_an_explicit_empty_list_makes_a_cluster_role(tmp_path: Path) -> None:
    text = chart.template(*MINIMAL, "--set-json", "config.kubernetes.namespaces=[]")
    objects = [one for one in yaml.safe_load_all(text) if one]
    assert settings_of(objects, tmp_path).kubernetes.namespaces == ()
    (role,) = of_kind(objects, "ClusterRole")
    (narrow,) = of_kind(objects_of("chart minimal"), "Role")
    assert role["rules"] == narrow["rules"]
    assert of_kind(objects, "Role") == []
    assert loose_ends(objects) == []


def test_falco_in_another_namespace_as_documented_for_kustomize(tmp_path: Path) -> None:
    page = (chart.K8S.parent / "docs/deployment.md").read_text()
    section = page[page.index("\n## Rights\n") :]
    (overlay, given) = re.findall(r"```yaml\n(.*?)```", section, re.DOTALL)[:2]
    folder = tmp_path / "overlays" / "mine"
    folder.mkdir(parents=True)
    shutil.copytree(chart.K8S / "base", tmp_path / "base")
    (folder / "kustomization.yaml").write_text(overlay)
    (folder / "streamer.yaml").write_text(given)
    objects = [one for one in yaml.safe_load_all(kustomize(folder)) if one]
    assert settings_of(objects, tmp_path).kubernetes.namespaces == ("security",)
    assert [one["metadata"]["namespace"] for one in of_kind(objects, "RoleBinding")] == ["security"]
    assert worker(objects)["metadata"]["namespace"] == chart.NAME
    assert loose_ends(objects) == []


# ---- the name in the group of workers


def test_each_worker_has_its_pods_name_in_the_group(objects: list[Object], settings: Settings) -> None:
    """It survives a restart of the container, and no two pods share it: see docs/deployment.md."""
    (name,) = [
        one for one in container(objects)["env"] if one["name"] == "FALCO_STREAMER__KAFKA__GROUP_INSTANCE_ID"
    ]
    assert name == {"name": name["name"], "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
    # The variable is the setting: no `value` of it, and no other key.
    assert settings.kafka.group_instance_id == "from-the-pod"


def test_a_rollout_starts_the_next_worker_before_it_stops_the_last(objects: list[Object]) -> None:
    deployment = worker(objects)
    assert deployment["kind"] == "Deployment"
    assert deployment["spec"]["strategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
    }


# ---- network


def test_the_policy_lets_it_reach_its_brokers(objects: list[Object], settings: Settings) -> None:
    for policy in of_kind(objects, "NetworkPolicy"):
        open_ports = {
            port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"] if "port" in port
        }
        assert {int(server.rpartition(":")[2]) for server in settings.kafka.bootstrap_servers} <= open_ports
        assert {53, 5353, 6443} <= open_ports
        assert set(policy["spec"]["policyTypes"]) == {"Ingress", "Egress"}


PLAIN = ["base", "overlay dev", "overlay gitlab-managed-apps", "overlay all-namespaces", "chart minimal"]


@pytest.mark.parametrize("name", [*PLAIN, "overlay production"])
def test_the_policy_denies_all_but_names_the_api_server_kafka_and_metrics(objects: list[Object]) -> None:
    (policy,) = of_kind(objects, "NetworkPolicy")
    names, api, kafka = policy["spec"]["egress"]
    assert {(port["port"], port["protocol"]) for port in names["ports"]} == {
        (port, protocol) for port in (53, 5353) for protocol in ("UDP", "TCP")
    }
    assert names["to"]
    assert {port["port"] for port in api["ports"]} == {443, 6443}
    assert {port["port"] for port in kafka["ports"]} <= {9092, 9093, 9094}
    (metrics,) = policy["spec"]["ingress"]
    assert [port["port"] for port in metrics["ports"]] == ["http"]
    assert metrics["from"]
    assert all(peer for peer in metrics["from"])


@pytest.mark.parametrize("name", [*PLAIN, "overlay production", "chart all"])
def test_a_node_that_is_drained_or_lost_takes_no_more_than_one_worker(objects: list[Object]) -> None:
    (budget,) = of_kind(objects, "PodDisruptionBudget")
    assert budget["spec"]["maxUnavailable"] == 1
    (spread,) = worker(objects)["spec"]["template"]["spec"]["topologySpreadConstraints"]
    assert (spread["topologyKey"], spread["maxSkew"]) == ("kubernetes.io/hostname", 1)


def test_not_being_ready_is_asked_elsewhere_than_not_being_live(objects: list[Object]) -> None:
    asked = {
        name: container(objects)[f"{name}Probe"]["httpGet"]["path"]
        for name in ("startup", "liveness", "readiness")
    }
    assert asked == {"startup": "/livez", "liveness": "/livez", "readiness": "/readyz"}


def test_files_that_the_settings_name_are_mounted(objects: list[Object], settings: Settings) -> None:
    security = settings.kafka.security
    files = [security.ca_file, security.cert_file, security.key_file, security.sasl.password_file]
    mounts = [Path(mount["mountPath"]) for mount in container(objects)["volumeMounts"]]
    for file in filter(None, files):
        assert file.parent in mounts


def test_it_is_stopped_after_the_drain_and_is_not_throttled(
    objects: list[Object], settings: Settings
) -> None:
    spec = worker(objects)["spec"]["template"]["spec"]
    assert spec["terminationGracePeriodSeconds"] > settings.shutdown.grace_seconds
    assert set(container(objects)["resources"]["limits"]) == {"memory"}
    assert container(objects)["securityContext"]["readOnlyRootFilesystem"] is True


# ---- Strimzi's objects are what the worker needs


@pytest.mark.parametrize("name", ["overlay production", "chart all"])
def test_the_topics_are_those_that_the_worker_would_make(objects: list[Object], settings: Settings) -> None:
    topics = of_kind(objects, "KafkaTopic")
    made = {one["spec"]["topicName"]: one["spec"] for one in topics}
    assert made.keys() == {spec.name for spec in settings.topic_specs}
    for spec in settings.topic_specs:
        config = {key: str(value) for key, value in made[spec.name]["config"].items()}
        config.pop("min.insync.replicas", None)  # of the production overlay
        assert config == spec.config
        if spec.kind == "state":
            assert made[spec.name]["partitions"] == settings.kafka.shards


def test_one_pattern_names_the_topics_of_all_priorities(tmp_path: Path) -> None:
    pattern = "<prefix>.<cluster>.<priority>"
    values = (
        "--values",
        chart.CHART / "ci/all-values.yaml",
        "--set-json",
        f'config.topics={{"alerts":"{pattern}"}}',
    )
    objects = [one for one in yaml.safe_load_all(chart.template(*values)) if one]
    found = {one["spec"]["topicName"] for one in of_kind(objects, "KafkaTopic")}
    assert found == set(settings_of(objects, tmp_path).topic_names.all_topics())
    assert {name.rpartition(".")[2] for name in found} >= {priority.label for priority in Priority}


@pytest.mark.parametrize("name", ["overlay production", "chart all"])
def test_the_user_has_exactly_the_permissions_that_the_worker_needs(
    objects: list[Object], settings: Settings
) -> None:
    users = of_kind(objects, "KafkaUser")
    granted = {
        (
            re.sub("([A-Z])", r"_\1", acl["resource"]["type"]).lower(),
            acl["resource"]["name"],
            re.sub("(?<=[a-z])([A-Z])", r"_\1", operation).upper(),
            acl["resource"]["patternType"] == "prefix",
        )
        for acl in users[0]["spec"]["authorization"]["acls"]
        for operation in acl["operations"]
    }
    assert granted == {tuple(each) for each in worker_permissions(settings)}


@pytest.mark.parametrize("name", ["overlay production", "chart all"])
def test_it_reaches_strimzis_kafka_as_strimzis_user(
    name: str, objects: list[Object], settings: Settings
) -> None:
    """Strimzi makes a Service and a Secret of names of its own, from those of the Kafka object and the KafkaUser."""
    (user,) = of_kind(objects, "KafkaUser")
    kafka, namespace = user["metadata"]["labels"]["strimzi.io/cluster"], user["metadata"]["namespace"]
    assert settings.kafka.bootstrap_servers == (f"{kafka}-kafka-bootstrap.{namespace}.svc:9093",)
    assert settings.kafka.security.sasl.username == user["metadata"]["name"]
    assert settings.kafka.security.sasl.mechanism.upper() == user["spec"]["authentication"]["type"].upper()
    assert ELSEWHERE[name] == [("Secret", f"{kafka}-cluster-ca-cert"), ("Secret", user["metadata"]["name"])]
    for topic in of_kind(objects, "KafkaTopic"):
        assert topic["metadata"]["labels"]["strimzi.io/cluster"] == kafka
        assert topic["metadata"]["namespace"] == namespace
