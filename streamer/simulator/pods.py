"""Pods as objects: what the simulated kubelet knows of them, and their JSON as the API shows it."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamer.simulator.logs import ContainerLog

Json = dict[str, Any]


def rfc3339(time_ns: int) -> str:
    """A time in an object's metadata: whole seconds, UTC."""
    at = dt.datetime.fromtimestamp(time_ns // 1_000_000_000, dt.UTC)
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass
class Instance:
    """One run of a container, from its start to its end."""

    container_id: str
    started_ns: int
    log: ContainerLog
    finished_ns: int | None = None
    exit_code: int = 0
    reason: str = ""

    def terminated(self) -> Json:
        """The `terminated` member of a container state."""
        assert self.finished_ns is not None
        return {
            "exitCode": self.exit_code,
            "reason": self.reason,
            "startedAt": rfc3339(self.started_ns),
            "finishedAt": rfc3339(self.finished_ns),
            "containerID": self.container_id,
        }


@dataclass
class Container:
    """A container of a pod: its current instance, the last one that ended, and how often it restarted."""

    name: str
    image: str
    current: Instance | None = None
    last: Instance | None = None
    restart_count: int = 0
    waiting_reason: str | None = "ContainerCreating"
    sidecar: bool = False
    """An init container that is restarted always, as KEP-753 has sidecars."""

    def status(self) -> Json:
        """The container's member of `status.containerStatuses`, or of `status.initContainerStatuses`."""
        current, last = self.current, self.last
        if self.waiting_reason is not None:
            state: Json = {"waiting": {"reason": self.waiting_reason}}
        elif current is not None and current.finished_ns is None:
            state = {"running": {"startedAt": rfc3339(current.started_ns)}}
        else:
            assert current is not None
            state = {"terminated": current.terminated()}
        shown = current or last
        running = "running" in state
        status = {
            "name": self.name,
            "image": self.image,
            "imageID": f"{self.image.split(':')[0]}@sha256:{'6a' * 32}" if shown else "",
            "state": state,
            "lastState": {"terminated": last.terminated()} if last else {},
            "ready": running,
            "started": running,
            "restartCount": self.restart_count,
        }
        if shown:
            status["containerID"] = shown.container_id
        return status


@dataclass
class Pod:
    """A pod object with its containers."""

    namespace: str
    name: str
    uid: str
    labels: dict[str, str]
    node: str | None
    created_ns: int
    containers: dict[str, Container]
    init_containers: tuple[str, ...] = ()
    owner: str = "falco"
    resource_version: int = 0
    deletion_ns: int | None = None
    deletion_grace_seconds: int | None = None
    annotations: dict[str, str] = field(default_factory=dict)
    utc_offset_minutes: int = 0

    @property
    def phase(self) -> str:
        """Pending, Running, Succeeded or Failed, from the containers' states."""
        containers = self.containers.values()
        if self.node is None or all(c.current is None and c.last is None for c in containers):
            return "Pending"
        ended = [c.current for c in containers if c.waiting_reason is None and c.current is not None]
        if len(ended) == len(self.containers) and all(i.finished_ns is not None for i in ended):
            return "Failed" if any(i.exit_code for i in ended) else "Succeeded"
        return "Running"

    def _containers(self, *, sidecars: bool) -> list[Container]:
        return [container for container in self.containers.values() if container.sidecar is sidecars]

    def to_json(self) -> Json:
        """The object as a GET shows it; a new dictionary each time."""
        metadata: Json = {
            "name": self.name,
            "generateName": f"{self.owner}-",
            "namespace": self.namespace,
            "uid": self.uid,
            "resourceVersion": str(self.resource_version),
            "creationTimestamp": rfc3339(self.created_ns),
            "labels": dict(self.labels),
            "annotations": dict(self.annotations),
            "ownerReferences": [
                {"apiVersion": "apps/v1", "kind": "DaemonSet", "name": self.owner, "controller": True}
            ],
        }
        if self.deletion_ns is not None:
            metadata["deletionTimestamp"] = rfc3339(self.deletion_ns)
            metadata["deletionGracePeriodSeconds"] = self.deletion_grace_seconds
        spec: Json = {
            "containers": [{"name": c.name, "image": c.image} for c in self._containers(sidecars=False)],
            "restartPolicy": "Always",
            "serviceAccountName": self.owner,
        }
        sidecars = self._containers(sidecars=True)
        if self.init_containers or sidecars:
            spec["initContainers"] = [
                *({"name": name, "image": "falcoctl"} for name in self.init_containers),
                *({"name": c.name, "image": c.image, "restartPolicy": "Always"} for c in sidecars),
            ]
        status: Json = {"phase": self.phase, "qosClass": "Burstable"}
        if self.node is not None:
            spec["nodeName"] = self.node
            status["startTime"] = rfc3339(self.created_ns)
            status["containerStatuses"] = [c.status() for c in self._containers(sidecars=False)]
            if sidecars:
                status["initContainerStatuses"] = [c.status() for c in sidecars]
        return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": status}
