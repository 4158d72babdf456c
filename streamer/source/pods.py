"""What a pod object says about its log: a pure reading of the API's JSON."""

from __future__ import annotations

import datetime as dt
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
    known = _status(status.get("containerStatuses") or (), container)
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


def container_names(pod: Mapping[str, Any]) -> list[str]:
    """The names of a pod's containers, init containers left out."""
    return [container["name"] for container in (pod.get("spec") or {}).get("containers") or ()]


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
