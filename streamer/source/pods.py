"""What a pod object says about its log, and about where it comes from: a pure reading of the API's JSON."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from streamer.model import Instance, Target

NOT_AN_OBJECT: Final = (AttributeError, IndexError, KeyError, TypeError, ValueError)
"""What reading an answer raises that is JSON, or not even that, but not what it should be."""

_FALCO_IMAGES: Final = ("falco", "falco-no-driver")


@dataclass(frozen=True, slots=True)
class PodView:
    """One target as the API server last described its pod."""

    target: Target
    instance: Instance | None
    """The container's current or last run; None before its first."""
    running: bool
    deleting: bool
    finished: bool
    """The pod will not start this container again."""
    started_ns: int | None = None
    """When `instance` began, by the node's clock and in whole seconds."""
    ended_ns: int | None = None
    """When `instance` ended; None while it runs."""
    previous: Instance | None = None
    """The run whose log is the previous one: `instance` itself, while its container waits for a restart."""
    previous_started_ns: int | None = None
    previous_ended_ns: int | None = None


def view(pod: Mapping[str, Any], container: str) -> PodView | None:
    """The target in a pod; None if it is on no node yet or has no such container."""
    metadata, spec, status = pod["metadata"], pod.get("spec") or {}, pod.get("status") or {}
    if not spec.get("nodeName") or container not in container_names(pod):
        return None
    target = Target(metadata["namespace"], metadata["name"], metadata["uid"], container, spec["nodeName"])
    statuses = (*(status.get("containerStatuses") or ()), *(status.get("initContainerStatuses") or ()))
    known = _status(statuses, container)
    state = known.get("state") or {}
    ended = state.get("terminated") or {}
    last = (known.get("lastState") or {}).get("terminated") or {}
    identity = known.get("containerID") or ended.get("containerID")
    restarts = int(known.get("restartCount", 0))
    instance = Instance(identity, restarts) if identity else None
    previous = _previous(instance, last.get("containerID"))
    present = state.get("running") or ended or (last if previous == instance else {})
    return PodView(
        target,
        instance,
        running="running" in state,
        deleting=bool(metadata.get("deletionTimestamp")),
        finished=status.get("phase") in ("Succeeded", "Failed"),
        started_ns=_nanoseconds(present.get("startedAt")),
        ended_ns=_nanoseconds(present.get("finishedAt")),
        previous=previous,
        previous_started_ns=_nanoseconds(last.get("startedAt")),
        previous_ended_ns=_nanoseconds(last.get("finishedAt")),
    )


@dataclass(frozen=True, slots=True)
class FoundPod:
    """What is kept of a pod object: the objects themselves would be most of our memory."""

    uid: str
    version: int | None
    """Its resource version; None where the server gives one that is not a number. Versions of one cluster's pods
    compare as integers (KEP-5504)."""
    view: PodView | None
    """The target in it, if there is one to follow."""
    containers: tuple[str, ...] = ()
    refusal: str = ""
    """Why it is not followed although it matches; "" if it is."""

    def is_older_than(self, other: FoundPod) -> bool:
        """Whether it is known to be an older state of the same pod."""
        return self.version is not None and other.version is not None and self.version < other.version


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a pod must come from to be a source of alerts; empty: from anywhere."""

    owners: tuple[str, ...] = ()
    """Controllers, as `Kind/name`."""
    service_accounts: tuple[str, ...] = ()

    def refusal(self, pod: Mapping[str, Any]) -> str:
        """Why a pod is not followed; "" if it may be."""
        if self.owners:
            references = pod["metadata"].get("ownerReferences") or ()
            names = [f"{each['kind']}/{each['name']}" for each in references if each.get("controller")]
            if not set(names) & set(self.owners):
                return f"controlled by {names[0] if names else 'nothing'}, not by {' or '.join(self.owners)}"
        if self.service_accounts:
            name = (pod.get("spec") or {}).get("serviceAccountName") or "default"
            if name not in self.service_accounts:
                return f"its service account is {name}, not {' or '.join(self.service_accounts)}"
        return ""


ANYWHERE: Final = Origin()


def read_pod(pod: Mapping[str, Any], container: str, origin: Origin = ANYWHERE) -> FoundPod:
    """What is kept of a pod. Raises one of `NOT_AN_OBJECT` for what is not a pod."""
    metadata = pod["metadata"]
    uid, version = metadata["uid"], str(metadata["resourceVersion"])
    refusal = origin.refusal(pod)
    return FoundPod(
        uid,
        int(version) if version.isdecimal() else None,
        None if refusal else view(pod, container),
        tuple(container_names(pod)),
        refusal,
    )


def is_leaving(pod: Mapping[str, Any], uid: str) -> bool:
    """Whether the pod of this uid is gone, its name being another's, or is being deleted."""
    metadata = pod["metadata"]
    return bool(metadata["uid"] != uid or metadata.get("deletionTimestamp"))


def containers_of(pod: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The containers that run as long as the pod: regular ones, and init containers that are native sidecars (KEP-753).

    Other init containers and ephemeral ones are left out (docs/decisions/0024-which-containers.md).
    """
    spec = pod.get("spec") or {}
    first = [one for one in spec.get("initContainers") or () if one.get("restartPolicy") == "Always"]
    return [*(spec.get("containers") or ()), *first]


def container_names(pod: Mapping[str, Any]) -> list[str]:
    """The names of the containers that can be followed."""
    return [container["name"] for container in containers_of(pod)]


def runs_falco(container: Mapping[str, Any]) -> bool:
    """Whether a container's image is Falco's, from whatever registry; its loaders and companions are not."""
    repository = str(container.get("image") or "").partition("@")[0]
    return repository.rpartition("/")[2].partition(":")[0] in _FALCO_IMAGES


def _status(statuses: Iterable[Mapping[str, Any]], container: str) -> Mapping[str, Any]:
    return next((status for status in statuses if status.get("name") == container), {})


def _previous(instance: Instance | None, last_id: str | None) -> Instance | None:
    if instance is None or not last_id:
        return None
    if last_id == instance.container_id:
        return instance
    return Instance(last_id, max(0, instance.restart_count - 1))


def _nanoseconds(text: str | None) -> int | None:
    if not text:
        return None
    return int(dt.datetime.fromisoformat(text).timestamp()) * 1_000_000_000
