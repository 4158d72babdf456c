"""Each value of the chart, rendered by the real helm: what it does, and what is refused by name."""

import json
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from streamer.config.difference import RELOADABLE
from streamer.config.outline import section_of
from streamer.config.section import Section
from streamer.config.settings import Settings
from tests.manifests.sets import MINIMAL, Object, container, objects_of, of_kind, worker
from tests.testbed import chart, chart_values
from tests.testbed.fixtures import parts_or_skip

pytestmark = pytest.mark.real

CONFIG: Final = chart.K8S.parent / "config"
ANY: Final = {"name": "any", "image": "registry.example.com/any:1"}


@pytest.fixture(scope="module", autouse=True)
def _programs() -> Iterator[None]:
    with parts_or_skip():
        chart.helm("version")
        yield


def render(*given: str | Path, **values: Any) -> list[Object]:
    """The objects with the minimal values, these arguments, and these values (`a__b` for `a.b`)."""
    json_values = [
        word
        for name, one in values.items()
        for word in ("--set-json", f"{name.replace('__', '.')}={json.dumps(one)}")
    ]
    text = chart.template(*MINIMAL, *given, *json_values)
    return [one for one in yaml.safe_load_all(text) if one]


def pod(objects: list[Object]) -> Any:
    return worker(objects)["spec"]["template"]["spec"]


# ---- what the values do


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ({}, "falco-streamer:0.1.0"),
        ({"registry": "registry.example.com"}, "registry.example.com/falco-streamer:0.1.0"),
        ({"registry": "registry.example.com/", "tag": "2"}, "registry.example.com/falco-streamer:2"),
        (
            {
                "registry": "registry.example.com",
                "repository": "team/streamer",
                "digest": f"sha256:{64 * '0'}",
            },
            f"registry.example.com/team/streamer@sha256:{64 * '0'}",
        ),
        ({"repository": "registry.example.com/falco-streamer"}, "registry.example.com/falco-streamer:0.1.0"),
    ],
)
def test_image(image: dict[str, str], name: str) -> None:
    objects = render(**{f"image__{key}": value for key, value in image.items()})
    assert container(objects)["image"] == name
    (test,) = of_kind(objects, "Pod")
    assert test["spec"]["containers"][0]["image"] == name


def test_a_null_user_id_leaves_the_choice_to_openshift() -> None:
    objects = objects_of("chart openshift")
    (test,) = of_kind(objects, "Pod")
    for spec in (pod(objects), test["spec"]):
        assert spec["securityContext"] == {
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        assert "runAsUser" not in spec["containers"][0]["securityContext"]


def test_security_contexts() -> None:
    # As a file: helm reads its numbers as floating point.
    objects = render(
        podSecurityContext__runAsUser=1_000_680_000, containerSecurityContext__readOnlyRootFilesystem=False
    )
    assert pod(objects)["securityContext"]["runAsUser"] == 1_000_680_000
    assert container(objects)["securityContext"]["readOnlyRootFilesystem"] is False
    assert container(objects)["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_a_large_user_id_from_a_file_stays_a_whole_number(tmp_path: Path) -> None:
    (tmp_path / "values.yaml").write_text("podSecurityContext: {runAsUser: 1000680000}\n")
    text = chart.template(*MINIMAL, "--values", tmp_path / "values.yaml")
    assert re.search(r"^ +runAsUser: 1000680000$", text, re.MULTILINE)


def test_variables_come_after_the_charts_own() -> None:
    one, source = {"name": "A", "value": "b"}, {"secretRef": {"name": "more"}}
    found = container(render(extraEnv=[one], extraEnvFrom=[source]))
    assert [each["name"] for each in found["env"]] == ["FALCO_STREAMER__KAFKA__GROUP_INSTANCE_ID", "A"]
    assert found["env"][1] == one
    assert found["envFrom"] == [source]


def test_volumes_and_their_mounts() -> None:
    volume, mount = {"name": "more", "emptyDir": {}}, {"name": "more", "mountPath": "/var/more"}
    plain, found = pod(render()), pod(render(extraVolumes=[volume], extraVolumeMounts=[mount]))
    assert found["volumes"] == [*plain["volumes"], volume]
    mounts = plain["containers"][0]["volumeMounts"]
    assert found["containers"][0]["volumeMounts"] == [*mounts, mount]


def test_containers() -> None:
    found = pod(render(extraContainers=[ANY], initContainers=[{**ANY, "restartPolicy": "Always"}]))
    assert [one["name"] for one in found["containers"]] == [chart.NAME, "any"]
    assert found["initContainers"] == [{**ANY, "restartPolicy": "Always"}]
    assert "initContainers" not in pod(render())


def test_probes_are_changed_key_by_key() -> None:
    found = container(
        render(
            startupProbe__failureThreshold=120,
            livenessProbe__timeoutSeconds=20,
            readinessProbe__periodSeconds=1,
        )
    )
    assert found["startupProbe"]["failureThreshold"] == 120
    assert found["livenessProbe"] == {
        "httpGet": {"path": "/livez", "port": "http"},
        "periodSeconds": 10,
        "timeoutSeconds": 20,
        "failureThreshold": 3,
    }
    assert found["readinessProbe"]["periodSeconds"] == 1


def test_annotations_priority_class_and_pull_secrets() -> None:
    objects = render(podAnnotations={"a/b": "c"}, priorityClassName="high", imagePullSecrets=[{"name": "r"}])
    assert worker(objects)["spec"]["template"]["metadata"]["annotations"]["a/b"] == "c"
    assert (pod(objects)["priorityClassName"], pod(objects)["imagePullSecrets"]) == ("high", [{"name": "r"}])
    (test,) = of_kind(objects, "Pod")
    assert test["spec"]["imagePullSecrets"] == [{"name": "r"}]


# ---- network


def ports_and_peers(objects: list[Object], rule: int) -> tuple[list[int], Any]:
    (policy,) = of_kind(objects, "NetworkPolicy")
    found = policy["spec"]["egress"][rule]
    return [one["port"] for one in found["ports"]], found.get("to")


@pytest.mark.parametrize(
    ("servers", "given", "ports"),
    [
        (["kafka:9092"], [], [9092]),
        (["a:9094", "b:9095", "c:9094"], [], [9094, 9095]),
        ("a:9094, b:9095", [], [9094, 9095]),
        (["[fd00::1]:9098"], [], [9098]),
        (["kafka:9092"], [19092, 19093], [19092, 19093]),
        (["${BROKERS}"], [9092], [9092]),
    ],
)
def test_kafkas_ports_follow_the_bootstrap_servers(servers: Any, given: list[int], ports: list[int]) -> None:
    objects = render(config__kafka__bootstrap_servers=servers, networkPolicy__kafka__ports=given)
    assert ports_and_peers(objects, 2)[0] == ports


@pytest.mark.parametrize(
    "arguments",
    [
        ["--set-json", 'config.kafka.bootstrap_servers=["${BROKERS}"]'],
        ["--set", "existingConfigMap=mine,config.kafka.bootstrap_servers=null"],
    ],
)
def test_unknown_ports_of_kafka_are_asked_for(arguments: list[str]) -> None:
    with pytest.raises(ValueError, match=r"networkPolicy\.kafka\.ports: give the brokers' ports"):
        render(*arguments)
    render(*arguments, "--set", "networkPolicy.enabled=false")
    render(*arguments, "--set", "networkPolicy.kafka.ports={9092}")


def test_names_are_looked_up_at_the_usual_servers() -> None:
    ports, peers = ports_and_peers(render(), 0)
    assert ports == [53, 53, 5353, 5353]
    cluster_dns, openshift, node_local = peers
    (labels,) = cluster_dns["podSelector"]["matchExpressions"]
    assert set(labels["values"]) == {"kube-dns", "node-local-dns"}
    namespace = openshift["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
    assert (namespace, openshift["podSelector"]["matchLabels"]) == (
        "openshift-dns",
        {"dns.operator.openshift.io/daemonset-dns": "default"},
    )
    assert node_local == {"ipBlock": {"cidr": "169.254.20.10/32"}}
    anywhere = render(networkPolicy__dns={"to": [], "ports": [53]})
    assert ports_and_peers(anywhere, 0) == ([53, 53], None)


# ---- what is refused, and what is not


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--set", "config.cluster="], "config.cluster: the cluster's name is needed"),
        (["--set", "config.kafka.bootstrap_servers=null"], "config.kafka.bootstrap_servers"),
        (["--set", "config.cluster=UPPER"], "/config/cluster"),
        (["--set", "config.kubernetes.namespaces=null"], "missing property 'namespaces'"),
        (["--set", "replicas=2"], "'replicas' not allowed"),
        (["--set", "image.digest=sha256:abc"], "/image/digest"),
        (["--set", "image.regsitry=a"], "'regsitry' not allowed"),
        (["--set", "networkPolicy.apiServer.cidrs={10.0.0.1}"], "/networkPolicy/apiServer/cidrs"),
        (["--set", "networkPolicy.dns.ports={dns}"], "/networkPolicy/dns/ports"),
        (["--set", "config.shutdown.grace_seconds=30"], "terminationGracePeriodSeconds must be longer"),
        (["--set", "strimzi.user.authentication=plain"], "/strimzi/user/authentication"),
        # Of the settings' own schema.
        (["--set", "config.kafak.shards=4"], "additional properties 'kafak' not allowed"),
        (["--set", "config.kafka.shard=4"], "additional properties 'shard' not allowed"),
        (["--set", "config.kafka.shards=0"], "/config/kafka/shards"),
        (["--set", "config.kafka.shards=many"], "/config/kafka/shards"),
        (["--set", "config.kafka.bootstrap_servers={kafka}"], "/config/kafka/bootstrap_servers/0"),
        (["--set", "config.kafka.security.sasl.mechansim=plain"], "'mechansim' not allowed"),
        (["--set", "config.min_priority=sever"], "/config/min_priority"),
        (["--set", "config.topics.alerts.critcal=a"], "'critcal' not allowed"),
        (["--set", "config.dedupe.window_seconds={0}"], "/config/dedupe/window_seconds/0"),
        (
            ["--set-json", 'config.filters=[{"name":"a","mtach":["rule = \\"b\\""]}]'],
            "'mtach' not allowed",
        ),
        (["--set-json", "config.log.level=1"], "/config/log/level"),
    ],
)
def test_wrong_values_are_refused_by_name(given: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        render(*given)


@pytest.mark.parametrize(
    "path", [*sorted((CONFIG / "examples").iterdir()), CONFIG / "streamer.yaml"], ids=lambda path: path.name
)
def test_what_the_worker_accepts_helm_accepts(path: Path, tmp_path: Path) -> None:
    text = f"config:\n{textwrap.indent(path.read_text(), '  ')}"
    (tmp_path / "values.yaml").write_text(text + "networkPolicy: {kafka: {ports: [9092]}}\n")
    chart.template("--values", tmp_path / "values.yaml")


def test_every_key_of_the_settings_is_in_the_schema() -> None:
    schema = json.loads((chart.CHART / "values.schema.json").read_text())
    defined = schema["$defs"]
    assert defined["config"]["properties"].keys() == Settings.model_fields.keys()
    assert defined["config"]["additionalProperties"] is False
    for name, one in defined.items():
        if name.startswith("config.") and "properties" in one:
            assert one["additionalProperties"] is False, name


def test_a_value_without_a_description_is_found() -> None:
    with pytest.raises(ValueError, match=r"image\.tag has no description"):
        list(chart_values.rows('image:\n  # -- Name.\n  name: a\n  tag: ""\n'))
    (one, other) = chart_values.rows("# -- All\n# of it.\na:\n  b: 1\n  # -- Only | this.\n  c: {}\n")
    assert str(one) == '| a | object | `{"b": 1, "c": {}}` | All of it. |'
    assert (other.key, other.description) == ("a.c", "Only | this.")


# ---- which change of the settings restarts the pods


def leaves(model: type[Section], path: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        section = section_of(field.annotation)
        yield from [f"{path}{name}"] if section is None else leaves(section, f"{path}{name}.")


def test_only_settings_that_need_a_restart_change_the_pods(tmp_path: Path) -> None:
    """The chart's list is that of the worker: without the schema, any key may have any value."""
    copied = tmp_path / "chart"
    copied.mkdir()
    for file in ("Chart.yaml", "values.yaml", "templates/_names.tpl"):
        (copied / file).parent.mkdir(exist_ok=True)
        (copied / file).write_text((chart.CHART / file).read_text())
    (copied / "templates/hashed.yaml").write_text('{{ include "falco-streamer.restartConfig" . }}\n')

    def hashed(key: str) -> str:
        done = chart.helm("template", copied, "--set", f"config.{key}=changed" if key else "a=b")
        assert done.returncode == 0, done.stderr
        return done.stdout

    before = hashed("")
    reloadable = {key for key in leaves(Settings) if hashed(key) == before}
    assert reloadable == {
        key
        for key in leaves(Settings)
        if not RELOADABLE.isdisjoint({key.split(".")[0], ".".join(key.split(".")[:2])})
    }


def test_the_pods_restart_with_settings_that_need_it_and_only_then() -> None:
    def template(**values: Any) -> Any:
        return worker(render(**values))["spec"]["template"]

    plain = template()
    assert template(config__limits__enabled=False, config__log__level="debug") == plain
    assert template(config__kafka__shards=4) != plain
    assert template(config__routes=[{"match": 'rule = "a"', "topic": "b"}]) == plain
    (config,) = of_kind(render(config__log__level="debug"), "ConfigMap")
    assert "level: debug" in config["data"]["streamer.yaml"]
