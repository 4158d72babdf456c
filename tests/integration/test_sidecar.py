"""Falco as a native sidecar (KEP-753) on a real API server: found, and followed through a restart."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.flow.following import HASTY, Recorder, following, numbered
from tests.testbed.apiserver import KubeApiServer
from tests.testbed.cluster import FalcoCluster

pytestmark = pytest.mark.real


@dataclass
class Served:
    path: Path

    def kubeconfig(self, _: Path) -> Path:
        return self.path


async def test_a_native_sidecar_is_followed_through_a_restart(
    api_server: KubeApiServer, cluster: FalcoCluster, tmp_path: Path
) -> None:
    pod = await cluster.add_pod("shop-a", containers=("app",), sidecars=("falco",))
    for line in numbered(0, 20):
        pod.log("falco").line(line.decode())
    pod.log("app").line("the application's")
    recorder = Recorder()
    server = Served(api_server.kubeconfig)
    async with following(server, recorder, tmp_path, namespaces=(cluster.namespace,), patience=HASTY):
        await recorder.until_read("shop-a", numbered(0, 20))
        await pod.restart("falco")
        for line in numbered(20, 40):
            pod.log("falco").line(line.decode())
        await recorder.until_read("shop-a", numbered(0, 40))
    assert recorder.gaps == []
