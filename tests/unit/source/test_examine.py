"""What `doctor` says of pods that match the selectors and come from elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamer.config.kubernetes import Kubernetes
from streamer.model import Finding, Verdict
from streamer.simulator import Cluster, SimulatedApiServer
from streamer.source.examine import examine_kubernetes


async def pods_found(owners: tuple[str, ...], tmp_path: Path, *, other: bool) -> dict[str, Finding]:
    cluster = Cluster(seed=1)
    cluster.add_pod("falco", "falco-a").owner = "falco"
    if other:
        pod = cluster.add_pod("team", "falco-b")
        pod.owner = "copycat"
        cluster.set_label(pod, "team", "x")
    async with SimulatedApiServer(cluster) as server:
        settings = Kubernetes(kubeconfig=server.kubeconfig(tmp_path / "kubeconfig"), owners=owners)
        return {finding.check: finding async for finding in examine_kubernetes(settings)}


async def test_a_pod_of_another_owner_is_named_with_the_cause_and_the_fix(tmp_path: Path) -> None:
    found = await pods_found(("DaemonSet/falco",), tmp_path, other=True)
    assert found["pods.origin"].verdict is Verdict.WARNING
    assert found["pods.origin"].told == (
        "not followed, since controlled by DaemonSet/copycat, not by DaemonSet/falco: team/falco-b"
    )
    assert "kubernetes.owners" in found["pods.origin"].fix
    assert found["pods"].told == "1 pod of Falco on 1 node"


async def test_an_owner_that_no_pod_has_is_a_fault(tmp_path: Path) -> None:
    found = await pods_found(("DaemonSet/falko",), tmp_path, other=False)
    assert found["pods.origin"].verdict is Verdict.FAULT
    assert "pods" not in found


@pytest.mark.parametrize("owners", [(), ("DaemonSet/falco",)])
async def test_nothing_is_said_where_all_are_followed(owners: tuple[str, ...], tmp_path: Path) -> None:
    assert "pods.origin" not in await pods_found(owners, tmp_path, other=False)
