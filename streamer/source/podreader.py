"""Read pod objects and watch events: what is kept of them, at little cost, and whatever they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson
import structlog

from streamer.source.api import ApiError
from streamer.source.pods import ANYWHERE, NOT_AN_OBJECT, FoundPod, Origin, read_pod

_EVENTS: Final = 1024
"""How many of the last events are known again when another watch brings them."""
_REASONS: Final = 100
"""How many causes to leave pods out are written to the log, each once."""
_MANAGED, _BEHIND_MANAGED = b'"managedFields":[', b']},"spec":'

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a watch."""

    kind: str
    version: str
    """The resource version that it leads to."""
    uid: str = ""
    pod: FoundPod | None = None
    """What is kept of its pod; None where that cannot be read, or where there is none."""


class PodReader:
    """Reads for all scopes, so that an event that several watches bring is parsed once."""

    def __init__(self, container: str, origin: Origin = ANYWHERE) -> None:
        self._container = container
        self._origin = origin
        self._events: dict[int, Event] = {}
        self._said: set[str] = set()

    def pod(self, item: Mapping[str, Any]) -> FoundPod | None:
        """What is kept of a pod; None where it cannot be read, which costs that pod and nothing else.

        Raises one of `NOT_AN_OBJECT` where there is no metadata.
        """
        metadata = item["metadata"]
        try:
            found = read_pod(item, self._container, self._origin)
        except NOT_AN_OBJECT as error:
            name = f"{metadata.get('namespace')}/{metadata.get('name')}"
            if self._is_new(f"{name}: {error!r}"):
                log.warning("pod_unreadable", pod=name, cause=repr(error))
            return None
        if found.refusal and self._is_new(found.refusal):
            log.warning(
                "pod_refused",
                pod=f"{metadata.get('namespace')}/{metadata.get('name')}",
                cause=found.refusal,
                consequence="it matches the selectors and is not followed, nor are others for the same cause",
                fix="if it is Falco's, add its owner to kubernetes.owners or its service account to "
                "kubernetes.service_accounts; else find out who gave it Falco's labels",
            )
        return found

    def event(self, line: bytes) -> Event:
        """One line of a watch. Raises `ApiError` for the server's error, one of `NOT_AN_OBJECT` for what is none."""
        key = hash(line)
        if (known := self._events.get(key)) is not None:
            return known
        given = orjson.loads(_without_managed_fields(line))
        kind, item = given["type"], given["object"]
        if kind == "ERROR":
            raise ApiError(int(item.get("code", 0)), str(item.get("message", "the watch failed")))
        metadata = item["metadata"]
        version = str(metadata["resourceVersion"])
        if kind not in ("ADDED", "MODIFIED", "DELETED"):
            return Event(kind, version)
        event = self._events[key] = Event(kind, version, str(metadata["uid"]), self.pod(item))
        if len(self._events) > _EVENTS:
            del self._events[next(iter(self._events))]
        return event

    def _is_new(self, reason: str) -> bool:
        if reason in self._said or len(self._said) >= _REASONS:
            return False
        self._said.add(reason)
        return True


def _without_managed_fields(line: bytes) -> bytes:
    """Nearly half of a pod object is of no use here, and is the part that is most expensive to parse.

    It is the last of the metadata. No string can look like its beginning or end: their quotes are escaped.
    """
    begin = line.find(_MANAGED)
    end = line.find(_BEHIND_MANAGED, begin) if begin >= 0 else -1
    return line if end < 0 else line[: begin + len(_MANAGED)] + line[end:]
