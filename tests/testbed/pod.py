"""A pod of the test bed: what the kubelet would report of it to the API, and what its containers log.

The test is kubelet and runtime in one. Each step changes three things, in the order of a real node: the file that
tells our log endpoint what runs, the log files, and the status in the API (unless `report=False`: a status lags).
"""

import datetime as dt
import json
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.testbed.client import KubeApi
from tests.testbed.crilog import CriLog


class Container:
    """One container: the instance that runs or comes next, and the one before."""

    def __init__(self, name: str, pod_folder: Path) -> None:
        self.name = name
        self.log = CriLog(pod_folder / name)
        self.restart_count = 0
        self.container_id = ""
        self.deleted = False
        self._ids: dict[int, str] = {}
        self._removed: dict[int, str] = {}
        self._state_file = pod_folder / f"{name}.json"
        self._state: dict[str, Any] = {"waiting": {"reason": "ContainerCreating"}}
        self._last: dict[str, Any] = {}
        self._last_terminated: int | None = None
        self.save()

    @property
    def running(self) -> bool:
        """Whether an instance runs."""
        return "running" in self._state

    def start(self) -> None:
        """Start the first instance, or the next one after end()."""
        assert not self.running, f"{self.name} runs already"
        if self.container_id:
            self._become_last()
            self.restart_count += 1
        self.container_id = f"containerd://{uuid.uuid4().hex}{uuid.uuid4().hex}"
        self._ids[self.restart_count] = self.container_id
        self._state = {"running": {"startedAt": _now()}}
        self.log.open(self.restart_count)
        self.save()

    def end(self, exit_code: int) -> None:
        """End the running instance."""
        assert self.running, f"{self.name} does not run"
        self._state = {
            "terminated": {
                "exitCode": exit_code,
                "reason": "Error" if exit_code else "Completed",
                "startedAt": self._state["running"]["startedAt"],
                "finishedAt": _now(),
                "containerID": self.container_id,
            }
        }
        self.log.close()
        self.save()

    def back_off(self) -> None:
        """Wait for the next start, as after several quick ends: the log of the former instance is served on."""
        self._become_last()
        self._state = {"waiting": {"reason": "CrashLoopBackOff"}}
        self.save()

    def remove(self, instance: int) -> None:
        """Remove an instance that has ended, and its log, as garbage collection and deletion do."""
        assert instance < self.restart_count or not self.running, f"instance {instance} runs"
        self.log.path.with_name(f"{instance}.log").unlink()
        self._removed[instance] = self._ids[instance]
        self.save()

    def _become_last(self) -> None:
        if "terminated" in self._state:
            self._last = self._state
            self._last_terminated = self.restart_count

    def save(self) -> None:
        """Tell the log endpoint, which reads the file for each question: so it is replaced, never half."""
        state = {
            "restartCount": self.restart_count,
            "running": self.running,
            "waiting": self._state.get("waiting", {}).get("reason", ""),
            "lastTerminated": self._last_terminated,
            "removed": self._removed,
            "deleted": self.deleted,
        }
        draft = self._state_file.with_suffix(".draft")
        draft.write_text(json.dumps(state))
        draft.rename(self._state_file)

    def status(self) -> dict[str, Any]:
        """Return the entry of status.containerStatuses."""
        return {
            "name": self.name,
            "image": "docker.io/falcosecurity/falco",
            "imageID": "",
            "ready": self.running,
            "started": self.running,
            "restartCount": self.restart_count,
            "containerID": self.container_id,
            "state": self._state,
            "lastState": self._last,
        }


class Pod:
    """One pod, made by FalcoCluster.add_pod."""

    def __init__(self, api: KubeApi, created: Mapping[str, Any], roots: Mapping[str, Path]) -> None:
        self._api = api
        self._roots = roots
        meta, spec = created["metadata"], created["spec"]
        self.name: str = meta["name"]
        self.namespace: str = meta["namespace"]
        self.uid: str = meta["uid"]
        self.path = f"/api/v1/namespaces/{self.namespace}/pods/{self.name}"
        self._sidecars = {container["name"] for container in spec.get("initContainers", ())}
        regular = [container["name"] for container in spec["containers"]]
        self._names: Sequence[str] = [*sorted(self._sidecars), *regular]
        self.node: str | None = None
        self.containers: dict[str, Container] = {}
        """Empty until the pod has a node: no kubelet knows it before."""
        if node := spec.get("nodeName"):
            self._arrive(node)

    def _arrive(self, node: str) -> None:
        self.node = node
        folder = self._roots[node] / f"{self.namespace}_{self.name}_{self.uid}"
        self.containers = {name: Container(name, folder) for name in self._names}

    def container(self, name: str | None = None) -> Container:
        """Return a container, by default the first."""
        return self.containers[name or self._names[0]]

    def log(self, name: str | None = None) -> CriLog:
        """Return a container's log, by default the first's."""
        return self.container(name).log

    async def schedule(self, node: str) -> None:
        """Bind a pod that was made without a node, as the scheduler does."""
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": self.name},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        }
        await self._api.create(f"{self.path}/binding", binding)
        self._arrive(node)

    async def start(self, *, report: bool = True) -> None:
        """Start all containers for the first time."""
        for container in self.containers.values():
            container.start()
        await self._report(report)

    async def end(self, name: str | None = None, *, exit_code: int = 0, report: bool = True) -> None:
        """End a container for good: followers get the rest, then the end."""
        self.container(name).end(exit_code)
        await self._report(report)

    async def restart(self, name: str | None = None, *, exit_code: int = 1, report: bool = True) -> None:
        """End a container if it runs and start its next instance: a new log, the old one under `previous`."""
        container = self.container(name)
        if container.running:
            container.end(exit_code)
        container.start()
        await self._report(report)

    async def back_off(self, name: str | None = None, *, exit_code: int = 1, report: bool = True) -> None:
        """End a container and let it wait in CrashLoopBackOff; restart() goes on from there."""
        container = self.container(name)
        if container.running:
            container.end(exit_code)
        container.back_off()
        await self._report(report)

    async def label(self, labels: Mapping[str, str | None]) -> None:
        """Set labels; None removes one."""
        await self._api.patch(self.path, {"metadata": {"labels": dict(labels)}})

    async def delete(self, *, grace_seconds: int = 0) -> None:
        """Delete the pod.

        With a grace period it only gets its deletionTimestamp and runs on: end its containers, then delete it
        with 0, as a kubelet does. With 0 the object goes first, then the containers; open streams end.
        """
        await self._api.delete(self.path, gracePeriodSeconds=str(grace_seconds))
        if grace_seconds:
            return
        for container in self.containers.values():
            container.deleted = True
            if container.running:
                container.end(137)
            container.save()

    async def report(self) -> None:
        """Write the pod's state as it is now to its status in the API."""
        containers = [container.status() for container in self.containers.values()]
        ready = "True" if containers and all(status["ready"] for status in containers) else "False"
        status = {
            "phase": self._phase(),
            "hostIP": "127.0.0.1",
            "conditions": [{"type": kind, "status": ready} for kind in ("Ready", "ContainersReady")],
            "containerStatuses": [one for one in containers if one["name"] not in self._sidecars],
            "initContainerStatuses": [one for one in containers if one["name"] in self._sidecars],
        }
        await self._api.patch(f"{self.path}/status", {"status": status})

    async def _report(self, wanted: bool) -> None:
        if wanted:
            await self.report()

    def _phase(self) -> str:
        return (
            "Running" if any(container.container_id for container in self.containers.values()) else "Pending"
        )


def _now() -> str:
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
