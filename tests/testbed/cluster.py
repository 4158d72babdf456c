"""A Falco installation in the real API: a namespace, nodes, and pods whose logs the test writes.

Every FalcoCluster has names of its own, so that tests share one API server without seeing each other's pods;
what lists pods in all namespaces does see them, until close().
"""

import contextlib
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from tests.testbed.client import ApiError, KubeApi
from tests.testbed.kubelet import Kubelet
from tests.testbed.pod import Pod

# What the chart gives Falco's pods, and what we look for by default.
FALCO_LABELS: Mapping[str, str] = {"app.kubernetes.io/name": "falco"}


class FalcoCluster:
    """One namespace with one node to begin with, as an async context manager."""

    def __init__(self, api: KubeApi, kubelet: Kubelet) -> None:
        self.api = api
        self.kubelet = kubelet
        self.namespace = f"falco-{uuid.uuid4().hex[:8]}"
        self.node = f"{self.namespace}-node"
        self._roots: dict[str, Path] = {}  # of each node's logs
        self._pods: list[Pod] = []

    async def __aenter__(self) -> Self:
        """Make the namespace and the node."""
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}}
        await self.api.create("/api/v1/namespaces", namespace)
        await self.add_node(self.node)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Remove pods and nodes; without its controller, the empty namespace stays in Terminating."""
        pods = f"/api/v1/namespaces/{self.namespace}/pods"
        # A test may have left its API server dead: what cannot be removed there is nobody's any more.
        with contextlib.suppress(ApiError, OSError):
            await self.api.delete(pods, gracePeriodSeconds="0")
            for node in self._roots:
                await self.api.delete(f"/api/v1/nodes/{node}")
            await self.api.delete(f"/api/v1/namespaces/{self.namespace}")
        for pod in self._pods:
            for container in pod.containers.values():
                container.log.close()

    async def add_node(self, name: str, *, kubelet: Kubelet | None = None) -> None:
        """Add a node; its logs come from the cluster's kubelet, or from one of its own."""
        kubelet = kubelet or self.kubelet
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}
        await self.api.create("/api/v1/nodes", node)
        self._roots[name] = kubelet.root
        status = {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": kubelet.port}},
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}],
        }
        await self.api.patch(f"/api/v1/nodes/{name}/status", {"status": status})

    async def add_pod(
        self,
        name: str = "falco",
        *,
        node: str | None = None,
        containers: Sequence[str] = ("falco",),
        sidecars: Sequence[str] = (),
        labels: Mapping[str, str] = FALCO_LABELS,
        scheduled: bool = True,
        started: bool = True,
    ) -> Pod:
        """Add a pod on a node, by default the cluster's first, and start it, so that its log can be written.

        `sidecars` are init containers that are restarted always. `scheduled=False` leaves the pod without a node
        (Pod.schedule), `started=False` in ContainerCreating (Pod.start).
        """
        spec: dict[str, Any] = {
            "containers": [{"name": container, "image": _image(container)} for container in containers],
            "initContainers": [
                {"name": container, "image": _image(container), "restartPolicy": "Always"}
                for container in sidecars
            ],
            "terminationGracePeriodSeconds": 30,
        }
        if scheduled:
            spec["nodeName"] = node or self.node
        metadata = {"name": name, "labels": dict(labels)}
        body = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
        created = await self.api.create(f"/api/v1/namespaces/{self.namespace}/pods", body)
        pod = Pod(self.api, created, self._roots)
        self._pods.append(pod)
        if scheduled and started:
            await pod.start()
        elif scheduled:
            await pod.report()
        return pod


def _image(container: str) -> str:
    return (
        "falcosecurity/falco"
        if container.startswith("falco") and container != "falcoctl"
        else f"{container}:1"
    )
