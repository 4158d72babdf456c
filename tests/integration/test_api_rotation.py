"""The API server's authority and the account's token change under load, as in a cluster that rotates both.

What the worker is given is a volume like that of a service account: the old token is revoked, and the old authority
vouches for nobody any more.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import yaml

from streamer.simulator import AlertGenerator
from tests.integration.installation import Installation, installed
from tests.integration.oracle import oracle
from tests.integration.test_main_job import check_records
from tests.integration.test_rights import grant
from tests.integration.worker import WorkerProcess
from tests.testbed import chart
from tests.testbed.apiserver import KubeApiServer
from tests.testbed.certs import Authority
from tests.testbed.client import KubeApi
from tests.testbed.fixtures import parts_or_skip
from tests.testbed.kafka import Kafka
from tests.testbed.kubectl import Kubectl, kubectl_of
from tests.testbed.kubelet import Kubelet
from tests.testbed.mounted import MountedVolume

pytestmark = pytest.mark.real


@pytest.fixture
def kubectl(private_api_server: KubeApiServer, tmp_path: Path) -> Kubectl:
    admin = kubectl_of(private_api_server, tmp_path)
    assert admin("create", "namespace", chart.NAME).returncode == 0
    grant(admin, [])
    return admin


@pytest.fixture
def successor(private_api_server: KubeApiServer, tmp_path: Path) -> Authority:
    """The authority to come; all but the worker trust both from the beginning."""
    made = Authority(tmp_path / "successor")
    with private_api_server.authority.certificate.open("ab") as bundle:
        bundle.write(made.certificate.read_bytes())
    return made


@pytest.fixture
async def installation(
    private_api_server: KubeApiServer, successor: Authority, kafka: Kafka
) -> AsyncIterator[Installation]:
    server, generator = private_api_server, AlertGenerator(11)
    with parts_or_skip(), Kubelet(server.authority) as kubelet:
        async with (
            KubeApi(server.kubeconfig) as api,
            installed(server, api, kubelet, kafka, pods=4, namespaces=2, generator=generator) as made,
        ):
            yield made


def new_token(kubectl: Kubectl, name: str) -> str:
    """A token of the worker's account that is valid for as long as a secret of this name exists."""
    assert kubectl("create", "secret", "generic", name, "-n", chart.NAME).returncode == 0
    bound = ["--bound-object-kind=Secret", f"--bound-object-name={name}"]
    done = kubectl("create", "token", chart.NAME, "-n", chart.NAME, *bound)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def is_refused(server: KubeApiServer, token: str) -> bool:
    command = ["curl", "-sk", "-o", "/dev/null", "-w", "%{http_code}", "-H", f"Authorization: Bearer {token}"]
    done = subprocess.run([*command, f"{server.url}/api/v1/pods"], capture_output=True, text=True, check=True)
    return done.stdout == "401"


def kubeconfig(server: KubeApiServer, volume: MountedVolume, path: Path) -> Path:
    """A kubeconfig that names the files of a service account's volume."""
    cluster = {"server": server.url, "certificate-authority": str(volume.folder / "ca.crt")}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "it",
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
        "clusters": [{"name": "it", "cluster": cluster}],
        "users": [{"name": "it", "user": {"tokenFile": str(volume.folder / "token")}}],
    }
    path.write_text(yaml.safe_dump(config))
    return path


async def test_token_and_authority_are_renewed_under_load(
    installation: Installation,
    private_api_server: KubeApiServer,
    kubectl: Kubectl,
    successor: Authority,
    tmp_path: Path,
) -> None:
    server, volume = private_api_server, MountedVolume(tmp_path / "serviceaccount")
    bundle, authority = server.authority.certificate.read_bytes(), successor.certificate.read_bytes()
    first, second = new_token(kubectl, "first"), new_token(kubectl, "second")
    volume.write({"token": first.encode(), "ca.crt": bundle.removesuffix(authority)})
    installation.kubeconfig = kubeconfig(server, volume, tmp_path / "account.kubeconfig")
    worker = WorkerProcess(tmp_path, installation.settings())
    async with oracle(installation.kafka.bootstrap, installation.topics) as seen:

        async def load(until: Callable[[], bool]) -> None:
            async with asyncio.timeout(60):
                while not until():
                    installation.write(7)
                    await seen.until(lambda seen: seen.alerts >= len(installation.written), seconds=0.1)

        async def all_is_read() -> None:
            await seen.until(lambda seen: seen.alerts >= len(installation.written))
            assert seen.alerts == len(installation.written)

        with worker.shown_on_failure():
            await worker.start()
            await load(lambda: seen.alerts >= 100)

            # The token: a pod that comes after it was revoked is followed all the same.
            volume.write({"token": second.encode(), "ca.crt": bundle.removesuffix(authority)})
            assert kubectl("delete", "secret", "first", "-n", chart.NAME).returncode == 0
            await load(lambda: is_refused(server, first))
            installation.pods.append(await installation.clusters[0].add_pod("falco-new"))
            await load(lambda: len(worker.said("target_followed")) == 5)
            installation.write(50)
            await all_is_read()
            assert (await worker.metrics())[
                'falco_streamer_api_errors_total{request="log",status="401"}'
            ] >= 1

            # The authority: the server comes back with a certificate of its successor.
            volume.write({"token": second.encode(), "ca.crt": authority})
            server.serve_with(successor.server("kube-apiserver"))
            await asyncio.to_thread(server.kill)
            installation.write(50)
            await asyncio.to_thread(server.start)
            installation.write(50)
            await all_is_read()
            installation.pods.append(await installation.clusters[1].add_pod("falco-newer"))
            await load(lambda: len(worker.said("target_followed")) == 6)
            installation.write(50)
            await all_is_read()
            assert await worker.stop(signal.SIGTERM) == 0
        await seen.read_to_end()
        check_records(installation, seen.records)
    assert len(worker.said("worker_started")) == 1
    assert len(worker.said("api_certificates_renewed")) == 2  # the volume was swapped twice
    assert worker.said("credentials_not_renewed") == []
