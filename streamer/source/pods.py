"""What a pod object says about its log: a pure reading of the API's JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from streamer.model import Instance, Target


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


def view(pod: Mapping[str, Any], container: str) -> PodView | None:
    """The target in a pod; None if it is on no node yet or has no such container."""
    metadata, spec, status = pod["metadata"], pod.get("spec") or {}, pod.get("status") or {}
    if not spec.get("nodeName") or container not in container_names(pod):
        return None
    target = Target(metadata["namespace"], metadata["name"], metadata["uid"], container, spec["nodeName"])
    known = _status(status.get("containerStatuses") or (), container)
    state = known.get("state") or {}
    identity = known.get("containerID") or (state.get("terminated") or {}).get("containerID")
    return PodView(
        target,
        Instance(identity, int(known.get("restartCount", 0))) if identity else None,
        running="running" in state,
        deleting=bool(metadata.get("deletionTimestamp")),
        finished=status.get("phase") in ("Succeeded", "Failed"),
    )


def container_names(pod: Mapping[str, Any]) -> list[str]:
    """The names of a pod's containers, init containers left out."""
    return [container["name"] for container in (pod.get("spec") or {}).get("containers") or ()]


def _status(statuses: Iterable[Mapping[str, Any]], container: str) -> Mapping[str, Any]:
    return next((status for status in statuses if status.get("name") == container), {})
