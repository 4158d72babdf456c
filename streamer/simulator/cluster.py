"""The state of the simulated cluster: its pods, what happens to them, and the history that watches read."""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson

from streamer.simulator.logs import ContainerLog
from streamer.simulator.pods import Container, Instance, Json, Pod

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

FALCO_LABELS = {"app.kubernetes.io/name": "falco", "app.kubernetes.io/instance": "falco"}
"""What the Falco chart, 2.0 and later, puts on its pods."""


class GoneError(Exception):
    """A resource version older than the history reaches: HTTP 410."""

    def __init__(self, asked: int, oldest: int) -> None:
        super().__init__(f"too old resource version: {asked} ({oldest})")


@dataclass(frozen=True, slots=True)
class Change:
    """One change of one pod: the object before it and after it (None: there was, or is, none)."""

    version: int
    before: Json | None
    after: Json | None

    def event(self, matches: Callable[[Json], bool]) -> bytes | None:
        """The watch event for one selection of pods: an object that leaves it is DELETED, as last seen."""
        was = self.before is not None and matches(self.before)
        now = self.after is not None and matches(self.after)
        if now:
            assert self.after is not None
            return watch_event("MODIFIED" if was else "ADDED", self.after)
        if was:
            assert self.before is not None
            metadata = self.before["metadata"] | {"resourceVersion": str(self.version)}
            return watch_event("DELETED", self.before | {"metadata": metadata})
        return None


def watch_event(kind: str, item: Json) -> bytes:
    """One line of a watch's answer."""
    return orjson.dumps({"type": kind, "object": item}) + b"\n"


class Cluster:
    """Pods by (namespace, name), one rising resource version, and a bounded history of changes.

    `history`: how many changes a watch can look back; an older resource version is answered with 410.
    `rotate_bytes`: the size at which every container's log is rotated (0: only by `rotate`).
    `clock_ns`: what the cluster calls now. `seed` fixes uids and container ids.
    """

    def __init__(
        self,
        *,
        history: int = 10_000,
        rotate_bytes: int = 0,
        clock_ns: Callable[[], int] = time.time_ns,
        seed: int | None = None,
    ) -> None:
        self.pods: dict[tuple[str, str], Pod] = {}
        self.namespaces: set[str] = {"default", "kube-system"}
        self.resource_version = 1000
        self.rotate_bytes = rotate_bytes
        self.clock_ns = clock_ns
        self._random = random.Random(seed)  # ids of simulated objects
        self._history: deque[Change] = deque()
        self._history_limit = history
        self._objects: dict[tuple[str, str], Json] = {}
        self._oldest = self.resource_version
        self._changed = asyncio.Event()

    # What happens to pods

    def add_pod(
        self,
        namespace: str,
        name: str,
        *,
        labels: Mapping[str, str] | None = None,
        node: str | None = "node-1",
        containers: Iterable[str] = ("falco",),
        init_containers: Iterable[str] = (),
        sidecars: Iterable[str] = (),
        waiting: bool = False,
        waiting_reason: str = "ContainerCreating",
        image: str = "docker.io/falcosecurity/falco:0.44.1",
        images: Mapping[str, str] | None = None,
        utc_offset_minutes: int = 0,
    ) -> Pod:
        """Create a pod; its containers run at once, unless it has no node or is `waiting` for some reason.

        `sidecars` are init containers that are restarted always. `images` has those that are not `image`.
        """
        if (namespace, name) in self.pods:
            msg = f'pods "{name}" already exists'
            raise ValueError(msg)
        self.namespaces.add(namespace)
        pod = Pod(
            namespace=namespace,
            name=name,
            uid=str(uuid.UUID(int=self._random.getrandbits(128), version=4)),
            labels=dict(FALCO_LABELS if labels is None else labels),
            node=node,
            created_ns=self.clock_ns(),
            containers={
                name: Container(
                    name,
                    (images or {}).get(name, image),
                    waiting_reason=waiting_reason,
                    sidecar=name in sidecars,
                )
                for name in (*sidecars, *containers)
            },
            init_containers=tuple(init_containers),
            utc_offset_minutes=utc_offset_minutes,
        )
        self.pods[namespace, name] = pod
        if node is not None and not waiting:
            for container in pod.containers.values():
                self._start(pod, container)
        self._publish(pod)
        return pod

    def pod(self, namespace: str, name: str) -> Pod:
        """The pod of this name; KeyError if there is none."""
        return self.pods[namespace, name]

    def schedule(self, pod: Pod, node: str) -> None:
        """Give a pod without a node one; its containers are then waiting."""
        pod.node = node
        self._publish(pod)

    def start_container(self, pod: Pod, container: str = "falco") -> None:
        """Let a waiting container run: a restart if an instance of it has ended before."""
        item = pod.containers[container]
        if item.last is not None or item.current is not None:
            item.restart_count += 1
        self._retire(item)
        self._start(pod, item)
        self._publish(pod)

    def terminate(
        self, pod: Pod, container: str | None = None, *, exit_code: int = 0, reason: str | None = None
    ) -> None:
        """End one container, or all of them: the state is `terminated`, the log stays readable."""
        for item in pod.containers.values():
            running = item.current is not None and item.current.finished_ns is None
            if running and container in {None, item.name}:
                self._end(item, exit_code, reason)
        self._publish(pod)

    def crash(self, pod: Pod, container: str = "falco", *, exit_code: int = 139) -> None:
        """End a container and leave it waiting for its restart (CrashLoopBackOff)."""
        item = pod.containers[container]
        self._end(item, exit_code, None)
        self._retire(item)
        item.waiting_reason = "CrashLoopBackOff"
        self._publish(pod)

    def restart_container(self, pod: Pod, container: str = "falco", *, exit_code: int = 0) -> None:
        """End a container and run its next instance at once, in one change of the pod."""
        item = pod.containers[container]
        self._end(item, exit_code, None)
        self._retire(item)
        item.restart_count += 1
        self._start(pod, item)
        self._publish(pod)

    def set_label(self, pod: Pod, key: str, value: str | None) -> None:
        """Set a label, or take it away (None)."""
        if value is None:
            pod.labels.pop(key, None)
        else:
            pod.labels[key] = value
        self._publish(pod)

    def begin_deletion(self, pod: Pod, *, grace_seconds: int = 30) -> None:
        """Set the deletion timestamp; the containers go on."""
        pod.deletion_ns = self.clock_ns() + grace_seconds * 1_000_000_000
        pod.deletion_grace_seconds = grace_seconds
        self._publish(pod)

    def remove_pod(self, pod: Pod) -> None:
        """Take the object away. Open streams go on until the containers end; new requests get 404."""
        del self.pods[pod.namespace, pod.name]
        self._publish(pod, gone=True)

    def delete_pod(self, pod: Pod, *, grace_seconds: int = 30) -> None:
        """The usual course of a deletion: deletion timestamp, containers ended, object gone."""
        self.begin_deletion(pod, grace_seconds=grace_seconds)
        self.terminate(pod)
        self.remove_pod(pod)

    # What containers print

    def log(self, pod: Pod, container: str = "falco") -> ContainerLog:
        """The log that a container's current instance writes to."""
        current = pod.containers[container].current
        if current is None:
            msg = f"container {container} of {pod.name} has not started"
            raise ValueError(msg)
        return current.log

    def append(self, pod: Pod, *lines: bytes, container: str = "falco", time_ns: int | None = None) -> None:
        """Print lines; without `time_ns` they are stamped now, a nanosecond apart."""
        log = self.log(pod, container)
        now = self.clock_ns() if time_ns is None else time_ns
        for n, line in enumerate(lines):
            log.append(line, now + n)

    def rotate(self, pod: Pod, container: str = "falco") -> None:
        """Rotate the log of a container's current instance."""
        self.log(pod, container).rotate()

    # What watches read

    def changes_since(self, version: int) -> list[Change]:
        """Every change after a resource version, oldest first; GoneError if some are forgotten."""
        if version < self._oldest:
            raise GoneError(version, self._oldest)
        if version >= self.resource_version:
            return []
        newer: list[Change] = []
        for change in reversed(self._history):
            if change.version <= version:
                break
            newer.append(change)
        newer.reverse()
        return newer

    def forget_history(self) -> None:
        """Let every earlier resource version be too old, as a compaction does."""
        self.resource_version += 1
        self._oldest = self.resource_version
        self._history.clear()
        self._changed.set()

    def wake(self) -> None:
        """Let every watch look again, for a reason outside the cluster."""
        self._changed.set()

    async def changed(self) -> None:
        """Wait for the next change; the caller has looked before, with no await in between."""
        self._changed.clear()
        await self._changed.wait()

    def object(self, pod: Pod) -> Json:
        """The pod's JSON as of its last change; not to be altered."""
        return self._objects[pod.namespace, pod.name]

    # The inside

    def _publish(self, pod: Pod, *, gone: bool = False) -> None:
        key = (pod.namespace, pod.name)
        if not gone and self.pods.get(key) is not pod:
            return  # the object is gone; what is left of its containers shows in their logs alone
        self.resource_version += 1
        pod.resource_version = self.resource_version
        before = self._objects.pop(key, None)
        after = None if gone else pod.to_json()
        if after is not None:
            self._objects[key] = after
        self._history.append(Change(self.resource_version, before, after))
        if len(self._history) > self._history_limit:
            self._oldest = self._history.popleft().version
        self._changed.set()

    def _start(self, pod: Pod, container: Container) -> None:
        container_id = f"containerd://{self._random.getrandbits(256):064x}"
        log = ContainerLog(rotate_bytes=self.rotate_bytes, utc_offset_minutes=pod.utc_offset_minutes)
        container.current = Instance(container_id, self.clock_ns(), log)
        container.waiting_reason = None

    def _end(self, container: Container, exit_code: int, reason: str | None) -> None:
        instance = container.current
        if instance is None or instance.finished_ns is not None:
            return
        instance.finished_ns = self.clock_ns()
        instance.exit_code = exit_code
        instance.reason = reason or ("Error" if exit_code else "Completed")
        instance.log.end()

    def _retire(self, container: Container) -> None:
        """Make an ended instance the last one; the one before it is garbage, as with the kubelet."""
        if container.current is not None and container.current.finished_ns is not None:
            container.last, container.current = container.current, None
