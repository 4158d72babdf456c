"""The workload that an alert is about, for readers: `tap`, its filters and templates name it in one way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

ABSENT: Final = "-"
NAMESPACES: Final = ("k8s.ns.name", "ka.target.namespace")
_PODS: Final = ("k8s.pod.name", "ka.target.name")
_CONTAINERS: Final = ("container.name", "container.id")
_HOST: Final = "host"
"""What Falco gives as container of a process that runs in none."""


class Workload(NamedTuple):
    """Where it happened: namespace and pod, or the host's name, or the source of the event; container; process."""

    name: str
    container: str
    process: str


def workload_of(alert: Mapping[str, Any]) -> Workload:
    """The workload of an alert's or a summary's value; what is unknown is `-`."""
    fields = alert.get("output_fields")
    if not isinstance(fields, dict):
        fields = {}
    namespace, pod = _first(fields, NAMESPACES), _first(fields, _PODS)
    container = _first(fields, _CONTAINERS)
    source = _text(alert.get("source"))
    name = "/".join(filter(None, (namespace, pod)))
    if not name and (container == _HOST or source in ("", "syscall")):
        name = _text(alert.get("hostname"))
    return Workload(
        name or (source if source != "syscall" else "") or ABSENT,
        container or ABSENT,
        _text(fields.get("proc.name")) or ABSENT,
    )


def _first(fields: Mapping[str, Any], names: tuple[str, ...]) -> str:
    return next((text for name in names if (text := _text(fields.get(name)))), "")


def _text(value: Any) -> str:
    """A text; Falco writes `<NA>` for a field that it does not know."""
    return value if isinstance(value, str) and value != "<NA>" else ""
