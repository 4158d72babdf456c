"""The image as it is run in a cluster, but for a kubelet: the chart applied to the real API server, and a container by
the real runc of what the API server then has of its Deployment, with the account's own token at its place."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
import yaml

from streamer.simulator import AlertGenerator
from tests.integration.installation import Installation, installed
from tests.integration.oracle import oracle
from tests.integration.test_main_job import check_records
from tests.integration.worker import EVERY_ALERT_PASSES, LoggedWorker
from tests.testbed import chart
from tests.testbed.apiserver import KubeApiServer
from tests.testbed.client import KubeApi
from tests.testbed.container import Container
from tests.testbed.image import Image
from tests.testbed.kafka import Kafka
from tests.testbed.kubectl import Kubectl, Object, kubectl_of
from tests.testbed.kubelet import Kubelet
from tests.testbed.mounted import MountedVolume
from tests.testbed.process import free_port

pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]

ALERTS, PODS = 1_000, 6
SECONDS = 60
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}


@pytest.fixture(scope="module")
def root(image: Image) -> Iterator[Path]:
    with image.files() as files:
        yield files


@pytest.fixture
async def installation(
    api_server: KubeApiServer, api: KubeApi, kubelet: Kubelet, kafka: Kafka
) -> AsyncIterator[Installation]:
    generator = AlertGenerator(13)
    async with installed(
        api_server, api, kubelet, kafka, pods=PODS, namespaces=2, generator=generator
    ) as made:
        yield made


@dataclass
class Release:
    """The chart, installed for an installation in a namespace of its own."""

    kubectl: Kubectl
    namespace: str
    rendered: list[Object]
    folder: Path
    server: KubeApiServer

    def stored(self, kind: str) -> Object:
        """What the API server has of the only object of a kind."""
        (name,) = [one["metadata"]["name"] for one in self.rendered if one["kind"] == kind]
        found: Object = self.kubectl.json("get", kind, name, "-n", self.namespace, "-o", "json")
        return found

    def pod(self) -> Object:
        """The pod that its controllers would make."""
        template = self.stored("Deployment")["spec"]["template"]
        return {**template, "metadata": {**template["metadata"], "name": "falco-streamer-7d4f9c-x2x9z"}}

    def volumes(self) -> dict[str, Path]:
        """The volumes of that pod, as the kubelet mounts them."""
        config = {name: text.encode() for name, text in self.stored("ConfigMap")["data"].items()}
        account = self.pod()["spec"]["serviceAccountName"]
        made = self.kubectl("create", "token", account, "-n", self.namespace)
        assert made.returncode == 0, made.stderr
        token = {
            "token": made.stdout.strip().encode(),
            "ca.crt": self.server.authority.certificate.read_bytes(),
            "namespace": self.namespace.encode(),
        }
        found = {}
        for name, files in (("config", config), ("token", token)):
            found[name] = self.folder / name
            MountedVolume(found[name]).write(files)
        for secret in found["token"].glob("..2*/*"):  # as it is for a pod with an fsGroup
            os.chown(secret, 0, self.pod()["spec"]["securityContext"]["fsGroup"])
            secret.chmod(0o640)
        return found

    def container(
        self, image: Image, root: Path, pod: Object, name: str, volumes: dict[str, Path]
    ) -> Container:
        host, _, port = self.server.url.removeprefix("https://").rpartition(":")
        variables = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}
        service = self.stored("Service")["metadata"]["name"]
        folder = self.folder / name
        return Container(folder, image, root, pod, volumes=volumes, variables=variables, hosts=[service])


@pytest.fixture
def release(installation: Installation, api_server: KubeApiServer, tmp_path: Path) -> Iterator[Release]:
    kubectl = kubectl_of(api_server, tmp_path)
    namespace = f"{installation.name}-streamer"
    settings = installation.settings(**EVERY_ALERT_PASSES)
    # In the cluster: no kubeconfig. On this machine's network: a port that is free here.
    del settings["kubernetes"]["kubeconfig"]
    settings["http"] = {"port": free_port()}
    values = tmp_path / "values.yaml"
    values.write_text(yaml.safe_dump({"config": settings}))
    rendered = [
        one for one in yaml.safe_load_all(chart.template("--values", values, namespace=namespace)) if one
    ]
    metadata = {"name": namespace, "labels": RESTRICTED}
    first = {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}
    objects = [first, *(one for one in rendered if one["kind"] != "Pod")]  # `helm test`s comes later
    listed = {"apiVersion": "v1", "kind": "List", "items": objects}
    done = kubectl("apply", "--server-side", "--validate=strict", "-f", "-", given=listed)
    assert (done.returncode, done.stderr) == (0, "")
    yield Release(kubectl, namespace, rendered, tmp_path, api_server)
    kubectl("delete", "-f", "-", "--wait=false", given=listed)


class ContainedWorker(LoggedWorker):
    """The worker in its container."""

    def __init__(self, folder: Path, container: Container) -> None:
        super().__init__(folder, container.command)
        self.container = container

    def kill(self) -> None:
        self.container.delete()
        super().kill()


@pytest.fixture
def worker(release: Release, image: Image, root: Path) -> Iterator[ContainedWorker]:
    container = release.container(image, root, release.pod(), "worker", release.volumes())
    made = ContainedWorker(release.folder, container)
    yield made
    made.kill()


async def probed(pod: Object, probe: str) -> int:
    """The status that a kubelet's probe gets; 0 where nobody listens."""
    (container,) = pod["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    asked = container[probe]["httpGet"]
    url = f"http://127.0.0.1:{ports[asked['port']]}{asked['path']}"
    try:
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            return answer.status
    except aiohttp.ClientConnectorError:
        return 0


async def ready(worker: ContainedWorker, pod: Object) -> None:
    async with asyncio.timeout(SECONDS):
        while await probed(pod, "readinessProbe") != 200:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def test_a_thousand_alerts_with_nothing_missing_and_a_drained_end(
    installation: Installation, release: Release, worker: ContainedWorker
) -> None:
    pod = release.pod()
    async with oracle(installation.kafka.bootstrap, installation.topics) as seen:
        with worker.shown_on_failure():
            installation.write(ALERTS // 2)
            await worker.start()
            await ready(worker, pod)
            assert [await probed(pod, f"{name}Probe") for name in ("startup", "liveness")] == [200, 200]
            installation.write(ALERTS // 2)
            await seen.until(lambda judge: judge.alerts >= ALERTS, SECONDS)
            grace = pod["spec"]["terminationGracePeriodSeconds"]
            assert await worker.stop(signal.SIGTERM, grace) == 0
            await seen.read_to_end()
            check_records(installation, seen.records)
    (last,) = worker.said("worker_stopped")
    assert last["balanced"]
    assert last["published"] == ALERTS


TRIES_TO_WRITE = """
import os, tempfile
def can_write(folder):
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False
for folder, _, _ in os.walk("/"):
    if not folder.startswith(("/proc/", "/sys/")) and can_write(folder):
        print(folder)
"""


async def test_its_process_has_the_guards_that_the_chart_asks_for(
    release: Release, worker: ContainedWorker
) -> None:
    with worker.shown_on_failure():
        await worker.start()
        await ready(worker, release.pod())
        inside = worker.container
        status = inside.status()
        assert status["Uid"].split() == status["Gid"].split() == ["65532"] * 4
        assert status["Groups"].split() == ["65532"]
        assert {int(status[name], 16) for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
        assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
        tried = inside.exec("python", "-c", TRIES_TO_WRITE)
        assert (tried.returncode, tried.stderr) == (0, "")
        # /tmp is the Deployment's, the others are any container's, in memory.
        assert set(tried.stdout.split()) == {"/tmp", "/dev/shm", "/dev/mqueue"}
        assert await worker.stop() == 0


async def test_what_the_documentation_runs_in_it_works(
    installation: Installation,
    release: Release,
    worker: ContainedWorker,
    image: Image,
    root: Path,
) -> None:
    """`kubectl exec … doctor` and `… tap`, and the pod of `helm test`."""
    (test,) = [one for one in release.rendered if one["kind"] == "Pod"]
    admitted = release.kubectl("create", "--dry-run=server", "--validate=strict", "-f", "-", given=test)
    assert (admitted.returncode, admitted.stderr) == (0, "")
    with worker.shown_on_failure():
        installation.write(50)
        await worker.start()
        await ready(worker, release.pod())
        doctor = worker.container.exec("falco-streamer", "doctor")
        assert doctor.returncode == 0, doctor.stdout + doctor.stderr
        async with oracle(installation.kafka.bootstrap, installation.topics) as seen:
            await seen.until(lambda judge: judge.alerts >= 50, SECONDS)
        tap = worker.container.exec(
            "falco-streamer", "tap", "--since", "1h", "--no-follow", "--output", "raw"
        )
        assert tap.returncode == 0, tap.stderr
        assert set(tap.stdout.splitlines()) == {alert.decode() for _, alert in installation.written}
        asked = release.container(image, root, test, "helm-test", {}).run()
        assert asked.returncode == 0, asked.stderr
        assert "'balanced': True" in asked.stdout
        assert await worker.stop() == 0
