"""Pods on a real node: a namespace of the node's API, and pods that print numbered alerts in it."""

import asyncio
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

from tests.testbed.client import ApiError, KubeApi
from tests.testbed.cluster import FALCO_LABELS
from tests.testbed.log_keeper import WrittenLine
from tests.testbed.node import Node
from tests.testbed.node_config import PRINTER_IMAGE

Status = Mapping[str, Any]
_FINALIZER = "example.com/kept-by-a-test"


class NodePod:
    """One pod instance. Its container is `falco` and runs the printer."""

    def __init__(self, api: KubeApi, node: Node, created: Mapping[str, Any]) -> None:
        self._api = api
        self._node = node
        self.name: str = created["metadata"]["name"]
        self.namespace: str = created["metadata"]["namespace"]
        self.uid: str = created["metadata"]["uid"]
        self.path = f"/api/v1/namespaces/{self.namespace}/pods/{self.name}"

    def written(self) -> list[WrittenLine]:
        """Return all that its container has written by now, also what the node has removed since."""
        return self._node.keeper.lines(self.uid)

    async def container(self) -> Status:
        """Return the container's status as the API has it, empty before the kubelet has reported one."""
        pod = await self._api.get(self.path)
        assert pod["metadata"]["uid"] == self.uid, f"{self.name} is another pod by now"
        found = pod["status"]
        statuses: Sequence[Status] = (
            *found.get("containerStatuses", ()),
            *found.get("initContainerStatuses", ()),
        )
        return next((status for status in statuses if status["name"] == "falco"), {})

    async def until(self, condition: Callable[[Status], bool], seconds: float = 60) -> Status:
        """Wait until the container's status meets a condition."""
        deadline = time.monotonic() + seconds
        while not condition(status := await self.container()):
            assert time.monotonic() < deadline, f"{self.name} stays as it is: {status}"
            await asyncio.sleep(0.05)
        return status

    async def until_running(self, instance: int = 0) -> Status:
        """Wait until an instance of the container runs, or one after it."""
        return await self.until(
            lambda status: status.get("restartCount", -1) >= instance and "running" in status.get("state", {})
        )

    @property
    def records(self) -> int:
        """How many records it has written by now."""
        return self._node.keeper.records(self.uid)

    async def until_written(self, records: int, seconds: float = 60) -> None:
        """Wait until it has written so many records, from its beginning."""
        deadline = time.monotonic() + seconds
        while (written := self.records) < records:
            assert time.monotonic() < deadline, f"{self.name} has written {written} of {records} records"
            await asyncio.sleep(0.1)

    async def until_rotated(self, seconds: float = 60) -> None:
        """Wait until its log has been rotated, so that the current file is younger than the container."""
        deadline = time.monotonic() + seconds
        while self._node.keeper.files(self.uid) < 2:
            assert time.monotonic() < deadline, f"the log of {self.name} is not rotated"
            await asyncio.sleep(0.1)

    async def delete(self, *, grace_seconds: int | None = None) -> None:
        """Ask for its deletion; None is its own grace period, 0 removes the object before its containers end."""
        grace = {} if grace_seconds is None else {"gracePeriodSeconds": str(grace_seconds)}
        await self._api.delete(self.path, **grace)

    async def release(self) -> None:
        """Let a pod with a finalizer go."""
        await self._api.patch(self.path, {"metadata": {"finalizers": None}})

    async def kill(self) -> None:
        """Kill its container (SIGKILL), as the kernel does when memory is short."""
        status = await self.container()
        await asyncio.to_thread(self._node.kill_container, status["containerID"])

    async def evict(self) -> None:
        """Ask for its eviction, as `kubectl drain` does."""
        body = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": self.name, "namespace": self.namespace},
        }
        await self._api.create(f"{self.path}/eviction", body)

    async def until_gone(self, seconds: float = 60) -> None:
        """Wait until the API has it no more, and its log is removed from the node."""
        deadline = time.monotonic() + seconds
        while await self._exists() or self._node.has_logs(self.uid):
            assert time.monotonic() < deadline, f"{self.name} is still there"
            await asyncio.sleep(0.05)

    async def _exists(self) -> bool:
        try:
            pod = await self._api.get(self.path)
        except ApiError as error:
            if error.status != 404:
                raise
            return False
        return bool(pod["metadata"]["uid"] == self.uid)


class NodeCluster:
    """A namespace of its own on a node, as an async context manager; leaving it removes its pods."""

    def __init__(self, api: KubeApi, node: Node) -> None:
        self.api = api
        self.node = node
        self.namespace = f"falco-{uuid.uuid4().hex[:8]}"
        self.pods: list[NodePod] = []

    async def __aenter__(self) -> Self:
        """Make the namespace."""
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}}
        await self.api.create("/api/v1/namespaces", namespace)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Remove the pods at once, and wait until their containers are gone: the next test is to have the node."""
        await self.api.delete(f"/api/v1/namespaces/{self.namespace}/pods", gracePeriodSeconds="0")
        for pod in self.pods:
            await pod.until_gone()

    async def add_pod(
        self,
        name: str = "falco",
        *arguments: str,
        labels: Mapping[str, str] = FALCO_LABELS,
        running: bool = True,
        sidecar: bool = False,
        missing_volume: bool = False,
        finalizer: bool = False,
    ) -> NodePod:
        """Add a pod that runs the printer with these arguments, and wait until it runs unless told otherwise.

        As a sidecar, it is an init container that is restarted always, and the pod's own container is another.
        With a volume that there is not, it waits in ContainerCreating. With a finalizer, its object stays after its
        deletion, until release().
        """
        spec: dict[str, Any] = {
            "nodeName": self.node.name,
            "hostNetwork": True,  # there is no CNI
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": 10,
            "containers": [
                {
                    "name": "falco",
                    "image": PRINTER_IMAGE,
                    "imagePullPolicy": "Never",
                    "args": list(arguments),
                }
            ],
        }
        if missing_volume:
            spec["volumes"] = [{"name": "missing", "configMap": {"name": "missing"}}]
            spec["containers"][0]["volumeMounts"] = [{"name": "missing", "mountPath": "/missing"}]
        if sidecar:
            [falco] = spec["containers"]
            spec["initContainers"] = [falco | {"restartPolicy": "Always"}]
            spec["containers"] = [falco | {"name": "app", "args": ["-count=10"]}]
        metadata: dict[str, Any] = {"name": name, "labels": dict(labels)}
        if finalizer:
            metadata["finalizers"] = [_FINALIZER]
        body = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
        created = await self.api.create(f"/api/v1/namespaces/{self.namespace}/pods", body)
        pod = NodePod(self.api, self.node, created)
        self.pods.append(pod)
        if running:
            await pod.until_running()
        return pod
