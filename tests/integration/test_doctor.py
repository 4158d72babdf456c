"""Every fault that `doctor` knows, planted one by one on real parts: found, and named with its fix."""

from __future__ import annotations

import asyncio
import shlex
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from click.testing import CliRunner, Result

from streamer.cli import main
from streamer.config import Settings
from streamer.model import Finding, Verdict
from streamer.plan import plan_of
from streamer.sink import Connection, examine_kafka, prepare_topics
from streamer.sink.permissions import acl_commands, worker_permissions
from streamer.source.examine import examine_kubernetes
from tests.testbed import parts
from tests.testbed.apiserver import KubeApiServer
from tests.testbed.client import KubeApi
from tests.testbed.cluster import FalcoCluster
from tests.testbed.kafka import Kafka
from tests.testbed.planted import SECOND_NS, alert, print_alerts
from tests.testbed.planted.falco import hold_back, print_text
from tests.testbed.planted.kubernetes import VERBS, grant, service_account_token
from tests.testbed.planted.login import binding
from tests.testbed.pod import Pod
from tests.testbed.secure_kafka import PASSWORD, USER, SecureKafka, acl
from tests.testbed.topics import create_topic
from tests.unit.sink.samples import publication, record, shard

pytestmark = pytest.mark.real


def kubernetes(kubeconfig: Path, cluster: FalcoCluster, **more: Any) -> Settings:
    return Settings.model_validate(
        {"kubernetes": {"kubeconfig": str(kubeconfig), "namespaces": [cluster.namespace], **more}}
    )


async def found(settings: Settings) -> list[Finding]:
    return [finding async for finding in examine_kubernetes(settings.kubernetes, plan_of(settings))]


async def found_in_kafka(settings: Settings) -> list[Finding]:
    return [finding async for finding in examine_kafka(settings)]


def wrong(findings: Sequence[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.verdict is not Verdict.FINE]


@pytest.fixture
async def pod(cluster: FalcoCluster) -> Pod:
    """A Falco that prints JSON, and at once."""
    made = await cluster.add_pod("falco-a")
    print_alerts(made)
    return made


# ---- Kubernetes


async def test_what_is_fine_is_said(api_server: KubeApiServer, cluster: FalcoCluster, pod: Pod) -> None:
    assert await found(kubernetes(api_server.kubeconfig, cluster)) == [
        Finding("api", Verdict.FINE, f"the API server {api_server.url} answers and knows us"),
        Finding("clock.api", Verdict.FINE, "our clock is that of the API server"),
        Finding(
            "rbac",
            Verdict.FINE,
            f"we may get, list and watch pods and read logs in the namespace {cluster.namespace}",
        ),
        Finding("pods", Verdict.FINE, "1 pod of Falco on 1 node"),
        Finding(
            "falco.json", Verdict.FINE, f"Falco prints JSON, and at once, in {cluster.namespace}/falco-a"
        ),
        Finding(
            "sources",
            Verdict.FINE,
            f"in the last 300 lines of {cluster.namespace}/falco-a: 10 alerts, all of configured sources (syscall 10)",
        ),
    ]


def with_user(api_server: KubeApiServer, path: Path, server: str, user: dict[str, str]) -> Path:
    config = yaml.safe_load(api_server.kubeconfig.read_text())
    config["clusters"][0]["cluster"]["server"] = server
    config["users"][0]["user"] = user
    path.write_text(yaml.safe_dump(config))
    return path


async def test_an_api_server_that_is_not_there(
    api_server: KubeApiServer, cluster: FalcoCluster, tmp_path: Path
) -> None:
    nowhere = with_user(api_server, tmp_path / "kubeconfig", "https://127.0.0.1:1", {"token": "x"})
    [finding] = await found(kubernetes(nowhere, cluster))
    assert (finding.check, finding.verdict) == ("api", Verdict.UNAVAILABLE)
    assert finding.what == (
        "the API server https://127.0.0.1:1: cannot reach the API server: connection refused"
    )
    assert finding.fix == (
        "does it run? Else check the cluster's `server` in the kubeconfig, network policies and the firewall"
    )


async def test_a_kubeconfig_that_is_not_there(cluster: FalcoCluster, tmp_path: Path) -> None:
    [finding] = await found(kubernetes(tmp_path / "missing", cluster))
    assert (finding.check, finding.verdict) == ("api", Verdict.UNAVAILABLE)
    assert finding.what.endswith("missing; set kubernetes.kubeconfig to yours")


async def test_a_token_that_has_expired(
    api_server: KubeApiServer, cluster: FalcoCluster, tmp_path: Path
) -> None:
    token = service_account_token(api_server, -60)
    expired = with_user(api_server, tmp_path / "kubeconfig", api_server.url, {"token": token})
    assert await found(kubernetes(expired, cluster)) == [
        Finding(
            "api.token",
            Verdict.FAULT,
            f"the API server {api_server.url} does not accept our credentials (401): the token has expired, or is "
            "no token of it",
            "renew the kubeconfig's credentials; in a pod, the service account's token must be mounted "
            "(automountServiceAccountToken)",
        )
    ]


@pytest.mark.parametrize(("resource", "verb"), VERBS)
async def test_each_missing_verb(
    api_server: KubeApiServer, api: KubeApi, cluster: FalcoCluster, pod: Pod, resource: str, verb: str
) -> None:
    user = f"without-{verb}-{resource.replace('/', '-')}"
    await grant(api, cluster.namespace, user, [one for one in VERBS if one != (resource, verb)])
    settings = kubernetes(api_server.kubeconfig_for(user), cluster)
    async with asyncio.timeout(20):  # the authorizer reads roles a moment later
        while len(findings := wrong(await found(settings))) != 1:
            pass
    [finding] = findings
    assert finding.check == f"rbac.{resource}.{verb}"
    assert finding.what == f"we may not {verb} {resource} in the namespace {cluster.namespace}"
    command = finding.fix.partition("account: ")[2].partition(",")[0]
    name = f"falco-streamer-{verb}-{resource.replace('/', '-')}"
    assert shlex.split(command) == [
        "kubectl", "create", "role", name, "-n", cluster.namespace, f"--verb={verb}", f"--resource={resource}",
    ]  # fmt: skip


async def test_no_pod_matches(api_server: KubeApiServer, cluster: FalcoCluster, pod: Pod) -> None:
    [finding] = wrong(await found(kubernetes(api_server.kubeconfig, cluster, selectors=["app=falcon"])))
    assert finding == Finding(
        "pods",
        Verdict.FAULT,
        f"no pod matches app=falcon in the namespace {cluster.namespace}",
        f"these run Falco's image: {cluster.namespace}/falco-a; set kubernetes.selectors to labels of theirs "
        "(app.kubernetes.io/name=falco)",
    )


async def test_falco_runs_in_another_namespace(
    api_server: KubeApiServer, cluster: FalcoCluster, pod: Pod
) -> None:
    settings = Settings.model_validate(
        {"kubernetes": {"kubeconfig": str(api_server.kubeconfig), "namespaces": ["kube-system"]}}
    )
    [finding] = wrong(await found(settings))
    assert finding.check == "pods"
    assert f"set kubernetes.namespaces to theirs ({cluster.namespace}" in finding.fix


async def test_no_pod_at_all_and_no_right_to_look_elsewhere(
    api_server: KubeApiServer, api: KubeApi, cluster: FalcoCluster
) -> None:
    await grant(api, cluster.namespace, "nearsighted", VERBS)
    settings = kubernetes(api_server.kubeconfig_for("nearsighted"), cluster)
    async with asyncio.timeout(20):  # the authorizer reads roles a moment later
        while (findings := wrong(await found(settings))) and findings[0].check != "pods":
            pass
    [finding] = findings
    assert finding.what == (
        f"no pod matches app.kubernetes.io/name=falco or app=falco in the namespace {cluster.namespace}"
    )
    assert finding.fix == "set kubernetes.selectors and kubernetes.namespaces to where Falco runs"


async def test_the_container_has_another_name(api_server: KubeApiServer, cluster: FalcoCluster) -> None:
    await cluster.add_pod("falco-a", containers=("falco-ebpf", "falcoctl"))
    assert wrong(await found(kubernetes(api_server.kubeconfig, cluster))) == [
        Finding(
            "container",
            Verdict.FAULT,
            f"{cluster.namespace}/falco-a: no container is called falco, but falco-ebpf, falcoctl",
            "set kubernetes.container to falco-ebpf, which runs Falco's image",
        )
    ]


async def test_falco_prints_text(api_server: KubeApiServer, cluster: FalcoCluster) -> None:
    pod = await cluster.add_pod("falco-a")
    print_text(pod)
    assert wrong(await found(kubernetes(api_server.kubeconfig, cluster))) == [
        Finding(
            "falco.json",
            Verdict.FAULT,
            f"Falco prints its alerts as text in {cluster.namespace}/falco-a",
            "set `falco.json_output: true` in the Falco chart's values (`json_output: true` in falco.yaml)",
        )
    ]


async def test_falco_holds_its_alerts_back(api_server: KubeApiServer, cluster: FalcoCluster) -> None:
    pod = await cluster.add_pod("falco-a")
    hold_back(pod)
    assert wrong(await found(kubernetes(api_server.kubeconfig, cluster))) == [
        Finding(
            "falco.buffered",
            Verdict.FAULT,
            "Falco holds alerts back and prints them in clumps, up to 30 s late, in "
            f"{cluster.namespace}/falco-a",
            'set `extra.args: ["-U"]` in the Falco chart\'s values (falco --unbuffered); before 0.44 Falco ignores '
            "`buffered_outputs: false`",
        )
    ]


async def test_alerts_that_are_late_one_by_one(api_server: KubeApiServer, cluster: FalcoCluster) -> None:
    pod = await cluster.add_pod("falco-a")
    now = time.time_ns()
    for n in range(5):
        pod.log().line(alert(now - (20 - n) * SECOND_NS), at=now - (12 - n) * SECOND_NS)
    [finding] = wrong(await found(kubernetes(api_server.kubeconfig, cluster)))
    assert (finding.check, finding.verdict) == ("falco.late", Verdict.WARNING)
    assert "up to 8 s after they happened" in finding.what


async def test_a_falco_that_has_said_nothing_yet(api_server: KubeApiServer, cluster: FalcoCluster) -> None:
    pod = await cluster.add_pod("falco-a")
    pod.log().line("Fri Nov 20 10:00:00 2026: Loading rules from:")
    [finding] = wrong(await found(kubernetes(api_server.kubeconfig, cluster)))
    assert (finding.check, finding.verdict) == ("falco.json", Verdict.WARNING)
    assert finding.what.startswith("no alert yet in the last lines of")


@pytest.mark.parametrize(("seconds", "words"), [(90, "90 s ahead of"), (-90, "90 s behind")])
async def test_clocks_that_differ(
    api_server: KubeApiServer,
    cluster: FalcoCluster,
    pod: Pod,
    seconds: float,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    true_time = time.time
    monkeypatch.setattr("streamer.source.examine.time.time", lambda: true_time() + seconds)
    [finding] = wrong(await found(kubernetes(api_server.kubeconfig, cluster)))
    assert finding == Finding(
        "clock.api",
        Verdict.FAULT,
        f"our clock is {words} the API server's",
        "synchronise the clocks (NTP): tokens, certificates and Kafka's limits on timestamps depend on them",
    )


# ---- Kafka


@pytest.fixture
async def installed(secure_kafka: SecureKafka) -> Settings:
    """Topics as they should be, and all that the worker needs allowed."""
    name = f"doctor-{uuid.uuid4().hex[:8]}"
    settings = Settings.model_validate(
        {
            "cluster": name,
            "kubernetes": {"max_line_bytes": 700_000},
            "kafka": {
                "bootstrap_servers": [secure_kafka.at("SASL")],
                "shards": 2,
                "security": {
                    "protocol": "sasl_ssl",
                    "ca_file": str(secure_kafka.trusted),
                    "sasl": {"username": USER, "password": PASSWORD},
                },
            },
            "topics": {"prefix": name},
        }
    )
    for spec in settings.topic_specs:
        await create_topic(
            secure_kafka.bootstrap, spec.name, partitions=max(1, spec.partitions), config=spec.config
        )
    secure_kafka.allow(bindings(settings))
    return settings


def bindings(settings: Settings) -> list[Any]:
    return [binding(one) for one in worker_permissions(settings)]


def changed(settings: Settings, *, topics: dict[str, str] | None = None, **kafka: Any) -> Settings:
    given = settings.model_dump(exclude={"kafka"}) | {
        "kafka": settings.kafka.model_dump(exclude={"security"})
        | {"security": {"protocol": "sasl_ssl", "ca_file": str(settings.kafka.security.ca_file)}}
    }
    sasl = {"username": USER, "password": PASSWORD, **kafka.pop("sasl", {})}
    given["kafka"] |= kafka
    given["kafka"]["security"]["sasl"] = sasl
    if topics is not None:
        given["topics"] = topics
    return Settings.model_validate(given)


async def test_a_sound_kafka(installed: Settings, secure_kafka: SecureKafka) -> None:
    assert await found_in_kafka(installed) == [
        Finding(
            "kafka", Verdict.FINE, f"Kafka answers at {secure_kafka.at('SASL')} and lets us in (sasl_ssl)"
        ),
        Finding("kafka.acl", Verdict.FINE, "Kafka allows us all that we need"),
        Finding("kafka.topics", Verdict.FINE, "all 13 topics are there and fit"),
    ]


async def test_a_kafka_that_is_not_there(installed: Settings) -> None:
    assert await found_in_kafka(changed(installed, bootstrap_servers=["127.0.0.1:1"])) == [
        Finding(
            "kafka",
            Verdict.UNAVAILABLE,
            "cannot reach 127.0.0.1:1: connection refused",
            "is Kafka running, and is this the port of its listener?",
        )
    ]


async def test_a_password_that_is_wrong(installed: Settings, secure_kafka: SecureKafka) -> None:
    [finding] = await found_in_kafka(changed(installed, sasl={"password": "wrong!"}))
    assert (finding.check, finding.verdict) == ("kafka", Verdict.UNAVAILABLE)
    assert finding.what.startswith(f"cannot reach {secure_kafka.at('SASL')}: authentication failed: ")
    assert finding.fix == "check the user and password in kafka.security.sasl"


async def test_each_missing_permission(installed: Settings, secure_kafka: SecureKafka) -> None:
    for needed, given_acl in zip(worker_permissions(installed), bindings(installed), strict=True):
        secure_kafka.forbid([given_acl])
        [finding] = wrong(await found_in_kafka(installed))
        secure_kafka.allow([given_acl])
        assert (finding.check, finding.verdict) == ("kafka.acl", Verdict.FAULT)
        assert finding.what == f"not allowed: {needed}"
        words = shlex.split(finding.fix)
        assert words[:4] == ["kafka-acls.sh", "--bootstrap-server", secure_kafka.at("SASL"), "--add"]
        assert words[words.index("--allow-principal") + 1] == f"User:{USER}"
        assert words[words.index("--operation") + 1].upper() == needed.operation.replace("_", "")
        assert words[-1] == needed.name
        assert ("--resource-pattern-type" in words) == needed.prefixed


async def run_as_administrator(commands: Sequence[str], secure_kafka: SecureKafka) -> None:
    """Run lines of kafka-acls.sh as they were printed, but for the way in: ours may not grant anything."""
    for command in commands:
        script, option, _, *words = shlex.split(command)
        assert (script, option) == ("kafka-acls.sh", "--bootstrap-server")
        java = [
            parts.java(),
            "-cp",
            parts.kafka(),
            "org.apache.kafka.tools.AclCommand",
        ]  # what the script starts
        process = await asyncio.create_subprocess_exec(
            *java,
            option,
            secure_kafka.bootstrap,
            *words,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await process.communicate()
        assert process.returncode == 0, said.decode()


async def test_the_printed_commands_mend_all_that_is_missing(
    installed: Settings, secure_kafka: SecureKafka
) -> None:
    needed = worker_permissions(installed)
    secure_kafka.forbid(bindings(installed))
    refused = [one for one in await found_in_kafka(installed) if one.check == "kafka.acl"]
    assert [(one.verdict, one.what) for one in refused] == [
        (Verdict.FAULT, f"not allowed: {each}") for each in needed
    ]
    # One of each kind as `doctor` prints it; then all, in the fewer lines that `topics acls` prints.
    kinds = {(one.resource, one.operation): found.fix for one, found in zip(needed, refused, strict=True)}
    await run_as_administrator([*kinds.values()], secure_kafka)
    mended = set(kinds.values())
    left = [one for one in refused if one.fix not in mended]
    assert [one for one in wrong(await found_in_kafka(installed)) if one.check == "kafka.acl"] == left
    servers = installed.kafka.bootstrap_servers
    await run_as_administrator([*acl_commands(needed, f"User:{USER}", servers)], secure_kafka)
    assert wrong(await found_in_kafka(installed)) == []


async def test_permissions_by_prefix_are_enough(installed: Settings, secure_kafka: SecureKafka) -> None:
    secure_kafka.forbid(bindings(installed))
    name = installed.cluster
    operations = {
        ("topic", f"{name}."): ("WRITE", "DESCRIBE_CONFIGS"),
        ("topic", f"falco-streamer.{name}"): ("READ", "WRITE", "DESCRIBE_CONFIGS"),
        ("group", "falco-streamer."): ("READ",),
        ("transactional_id", "falco-streamer."): ("WRITE",),
    }
    given = [
        acl(kind, prefix, operation, prefixed=True)
        for (kind, prefix), allowed in operations.items()
        for operation in allowed
    ]
    secure_kafka.allow(given)
    try:
        assert wrong(await found_in_kafka(installed)) == []
    finally:
        secure_kafka.forbid(given)


async def test_one_transactional_id_is_not_all_that_there_can_be(
    installed: Settings, secure_kafka: SecureKafka
) -> None:
    ids = worker_permissions(installed)[-1]
    assert ids.prefixed
    secure_kafka.forbid([acl("transactional_id", ids.name, "WRITE", prefixed=True)])
    secure_kafka.allow([acl("transactional_id", f"{ids.name}0", "WRITE")])
    [finding] = wrong(await found_in_kafka(installed))
    assert finding.what == f"not allowed: WRITE on the transactional ids that begin with {ids.name}"
    await run_as_administrator([finding.fix], secure_kafka)
    assert wrong(await found_in_kafka(installed)) == []


async def test_a_missing_topic(installed: Settings, secure_kafka: SecureKafka) -> None:
    settings = changed(installed, topics={"prefix": installed.cluster, "health": "<prefix>.notes"})
    secure_kafka.allow(bindings(settings))
    [finding] = wrong(await found_in_kafka(settings))
    name = f"{settings.cluster}.notes"
    assert (finding.check, finding.verdict) == ("kafka.topics.missing", Verdict.FAULT)
    assert finding.what == f"missing topics: {name}"
    assert finding.fix.startswith("set topics.create: true, or create them:\n  kafka-topics.sh ")
    assert f"--create --topic {name} " in finding.fix


async def test_shards_that_are_not_the_state_topics_partitions(installed: Settings) -> None:
    [finding] = wrong(await found_in_kafka(changed(installed, shards=5)))
    assert finding == Finding(
        "kafka.topics.shards",
        Verdict.FAULT,
        f"the state topic {installed.topic_names.state} has 2 partitions, but kafka.shards is 5",
        "set kafka.shards: 2; `falco-streamer state reshard` divides the pods again",
    )


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(90, "90 s ahead of"), (-90, "90 s behind"), (0, None)],
    ids=["ahead", "behind", "right"],
)
async def test_the_clock_of_the_worker_is_compared_with_the_brokers(
    installed: Settings, seconds: int, told: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = installed.topic_names.health
    producer = shard(
        Connection(installed.kafka), installed.topic_names.state, topic, cluster=installed.cluster
    )
    await producer.open()
    with monkeypatch.context() as patched:
        true_time = time.time_ns
        patched.setattr("streamer.sink.producer.time.time_ns", lambda: true_time() + seconds * SECOND_NS)
        await producer.publish(publication([record(topic, "one")], {"position": b"1"}))
    await producer.open()  # its start waits until the commit's markers are written
    await producer.close()
    clock = (await found_in_kafka(installed))[-1]
    assert clock.check == "clock.kafka"
    if told is None:
        assert clock == Finding("clock.kafka", Verdict.FINE, "the worker's clock is that of the brokers")
    else:
        assert clock == Finding(
            "clock.kafka",
            Verdict.FAULT,
            f"the worker's clock was {told} the brokers' at its last commit",
            "synchronise the clocks (NTP): Kafka refuses records that are too far in the future",
        )


# ---- the command


@pytest.fixture
async def config(kafka: Kafka, api_server: KubeApiServer, cluster: FalcoCluster, tmp_path: Path) -> Path:
    name = f"doctor-{uuid.uuid4().hex[:8]}"
    path = tmp_path / "streamer.yaml"
    given = {
        "cluster": name,
        "kubernetes": {
            "kubeconfig": str(api_server.kubeconfig),
            "namespaces": [cluster.namespace],
            "max_line_bytes": 700_000,
        },
        "kafka": {"bootstrap_servers": [kafka.bootstrap], "shards": 2},
        "topics": {"prefix": name},
    }
    path.write_text(yaml.safe_dump(given))
    return path


async def run(*arguments: str | Path) -> Result:
    """In a thread: the command has an event loop of its own."""
    return await asyncio.to_thread(CliRunner().invoke, main, [str(argument) for argument in arguments])


async def test_the_command_finds_names_and_in_the_end_is_content(config: Path, pod: Pod) -> None:
    done = await run("doctor", "--config", config)
    assert done.exit_code == 1
    assert "FAULT  missing topics: " in done.stdout
    assert "\n       → set topics.create: true, or create them:\n           kafka-topics.sh " in done.stdout
    assert done.stderr == "1 wrong, 0 to look at, 8 fine.\n"

    assert (await run("topics", "create", "--config", config)).exit_code == 0
    done = await run("doctor", "--config", config, "-o", "json")
    assert done.exit_code == 0
    findings = orjson.loads(done.stdout)["findings"]
    assert {one["verdict"] for one in findings} == {"fine"}
    assert [one["check"] for one in findings] == [
        "api", "clock.api", "rbac", "pods", "falco.json", "sources", "kafka", "kafka.acl", "kafka.topics",
    ]  # fmt: skip


@pytest.mark.parametrize("away", ["kafka.bootstrap_servers=127.0.0.1:1", "kubernetes.kubeconfig=/nowhere"])
async def test_the_command_says_that_somebody_is_away(config: Path, pod: Pod, away: str) -> None:
    done = await run("doctor", "--config", config, "--set", away)
    assert done.exit_code == 69
    assert "AWAY " in done.stdout


# ---- topics


async def test_topics_are_listed_made_and_verified(config: Path) -> None:
    listed = await run("topics", "list", "--config", config, "-o", "json")
    assert [row["partitions"] for row in orjson.loads(listed.stdout)] == [None] * 13
    verified = await run("topics", "verify", "--config", config)
    assert (verified.exit_code, "missing topics: " in verified.stdout) == (1, True)

    planned = await run("topics", "create", "--config", config, "--dry-run")
    made = await run("topics", "create", "--config", config)
    assert planned.stdout.count("kafka-topics.sh") == len(made.stdout.splitlines()) == 13
    again = await run("topics", "create", "--config", config)
    assert (again.exit_code, again.stdout, again.stderr) == (0, "", "all 13 topics are there\n")

    rows = orjson.loads((await run("topics", "list", "--config", config, "-o", "json")).stdout)
    assert [row["name"] for row in rows] == made.stdout.splitlines()
    assert (rows[-1]["class"], rows[-1]["partitions"]) == ("state", 2)
    assert rows[-1]["config"]["cleanup.policy"] == "compact"
    table = (await run("topics", "list", "--config", config)).stdout.splitlines()
    assert len(table) == 14
    assert len({len(line.split()) for line in table}) == 1
    verified = await run("topics", "verify", "--config", config)
    assert (verified.exit_code, verified.stdout) == (0, "ok     all 13 topics are there and fit\n")


async def test_a_kafka_that_is_away_is_one_line(config: Path) -> None:
    for command in ("list", "create", "verify"):
        done = await run(
            "topics", command, "--config", config, "--set", "kafka.bootstrap_servers=127.0.0.1:1"
        )
        assert (done.exit_code, done.stdout) == (69, "")
        assert done.stderr.startswith("error: cannot reach 127.0.0.1:1: connection refused; is Kafka running")


async def test_topics_are_prepared_with_exactly_the_printed_permissions(
    installed: Settings, secure_kafka: SecureKafka
) -> None:
    assert set(await prepare_topics(Connection(installed.kafka), installed)) == {
        spec.name for spec in installed.topic_specs
    }
