"""The worker with its ServiceAccount's own token, under RBAC: the chart's rights are enough, and each is needed."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from streamer.simulator import AlertGenerator
from tests.integration.installation import Installation, installed
from tests.integration.oracle import oracle
from tests.integration.test_main_job import check_records
from tests.integration.worker import WorkerProcess
from tests.testbed import chart
from tests.testbed.apiserver import KubeApiServer
from tests.testbed.client import KubeApi
from tests.testbed.fixtures import parts_or_skip
from tests.testbed.kafka import Kafka
from tests.testbed.kubectl import Kubectl, kubeconfig_of, kubectl_of, with_token
from tests.testbed.kubelet import Kubelet

pytestmark = pytest.mark.real

ALERTS, PODS = 1_000, 6
SECONDS = 60
ACCOUNT = f"system:serviceaccount:{chart.NAME}:{chart.NAME}"


@pytest.fixture(scope="module")
def server() -> Iterator[KubeApiServer]:
    with parts_or_skip(), KubeApiServer() as started:
        yield started


@pytest.fixture(scope="module")
def kubectl(server: KubeApiServer, tmp_path_factory: pytest.TempPathFactory) -> Kubectl:
    admin = kubectl_of(server, tmp_path_factory.mktemp("home"))
    assert admin("create", "namespace", chart.NAME).returncode == 0
    return admin


@pytest.fixture
async def installation(server: KubeApiServer, kafka: Kafka) -> AsyncIterator[Installation]:
    with parts_or_skip(), Kubelet(server.authority) as kubelet:
        async with (
            KubeApi(server.kubeconfig) as api,
            installed(
                server, api, kubelet, kafka, pods=PODS, namespaces=2, generator=AlertGenerator(11)
            ) as made,
        ):
            yield made


def grant(kubectl: Kubectl, namespaces: list[str], spoil: Callable[[Any], None] = lambda _: None) -> None:
    """Apply the chart's account, roles and bindings, and no others; `spoil` may change each role's rules."""
    values = ["--values", str(chart.CHART / "ci/minimal-values.yaml")]
    values += ["--set-json", f"config.kubernetes.namespaces={json.dumps(namespaces)}"]
    parts = [
        word for name in ("serviceaccount", "rbac") for word in ("--show-only", f"templates/{name}.yaml")
    ]
    objects = [one for one in yaml.safe_load_all(chart.template(*values, *parts)) if one]
    kubectl("delete", "clusterrole,clusterrolebinding", "-l", f"app.kubernetes.io/name={chart.NAME}")
    for one in objects:
        if one["kind"] in {"Role", "ClusterRole"}:
            spoil(one["rules"])
    listed = {"apiVersion": "v1", "kind": "List", "items": objects}
    done = kubectl("apply", "--server-side", "-f", "-", given=listed)
    assert (done.returncode, done.stderr) == (0, "")


def as_the_account(installation: Installation, kubectl: Kubectl, server: KubeApiServer, folder: Path) -> None:
    installation.kubeconfig = kubeconfig_of(with_token(kubectl, server, chart.NAME, chart.NAME), folder)


def settings_for(installation: Installation, namespaces: list[str]) -> dict[str, Any]:
    settings = installation.settings()
    settings["kubernetes"]["namespaces"] = namespaces
    return settings


@pytest.mark.parametrize("everywhere", [True, False], ids=["all namespaces", "two namespaces"])
async def test_a_thousand_alerts_with_the_accounts_own_token(
    installation: Installation, kubectl: Kubectl, server: KubeApiServer, tmp_path: Path, everywhere: bool
) -> None:
    namespaces = [] if everywhere else [cluster.namespace for cluster in installation.clusters]
    grant(kubectl, namespaces)
    as_the_account(installation, kubectl, server, tmp_path)
    worker = WorkerProcess(tmp_path, settings_for(installation, namespaces))
    async with oracle(installation.kafka.bootstrap, installation.topics) as seen:
        with worker.shown_on_failure():
            installation.write(ALERTS // 2)
            await worker.start()
            await seen.until(lambda judge: judge.alerts >= ALERTS // 2, SECONDS)
            installation.write(ALERTS // 2)
            await seen.until(lambda judge: judge.alerts >= ALERTS, SECONDS)
            assert await worker.stop() == 0
            await seen.read_to_end()
            check_records(installation, seen.records)
    refused = {"watch_failed", "log_forbidden"}
    assert [event for event in worker.events() if event["event"] in refused] == []


@pytest.mark.parametrize("everywhere", [True, False], ids=["all namespaces", "two namespaces"])
@pytest.mark.parametrize(
    ("verb", "resource", "event", "said"),
    [
        (
            "list",
            "pods",
            "watch_failed",
            "no right to list pods in {where}: grant the verb list on pods",
        ),
        (
            "watch",
            "pods",
            "watch_failed",
            "no right to watch pods in {where}: grant the verb watch on pods",
        ),
        ("get", "pods", "log_forbidden", "grant verb get on pods in namespace"),
        ("get", "pods/log", "log_forbidden", "grant verb get on pods/log in namespace"),
    ],
)
async def test_a_right_that_is_missing_is_named_and_no_other(
    installation: Installation,
    kubectl: Kubectl,
    server: KubeApiServer,
    tmp_path: Path,
    verb: str,
    resource: str,
    event: str,
    said: str,
    everywhere: bool,
) -> None:
    def take_away(rules: list[Any]) -> None:
        before = copy.deepcopy(rules)
        for rule in rules:
            if rule["resources"] == [resource]:
                rule["verbs"] = [each for each in rule["verbs"] if each != verb]
        rules[:] = [rule for rule in rules if rule["verbs"]]
        assert rules != before

    namespaces = [] if everywhere else [cluster.namespace for cluster in installation.clusters]
    grant(kubectl, namespaces, take_away)
    as_the_account(installation, kubectl, server, tmp_path)
    worker = WorkerProcess(tmp_path, settings_for(installation, namespaces))
    with worker.shown_on_failure():
        installation.write(PODS)
        await worker.start()
        async with asyncio.timeout(SECONDS):
            while not (told := [one for one in worker.events() if one["event"] == event]):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        # Refused for good, it waits and says so; it does not end.
        assert await worker.stop() == 0
    for one in told:
        text = f"{one['cause']} {one.get('fix', '')}"
        places = ["all namespaces"] if everywhere else [f"namespace {name}" for name in namespaces]
        assert any(said.format(where=place) in text for place in places)
        assert f'User "{ACCOUNT}" cannot {verb} resource "{resource}"' in text
    others = {"watch_failed", "log_forbidden"} - {event}
    assert [one for one in worker.events() if one["event"] in others] == []
