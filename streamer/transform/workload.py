"""Whose alert it is: the workload that has a limit of its own, and the tenant that shares the target's with others."""

from __future__ import annotations

from typing import Final

import orjson

from streamer.model import Alert
from streamer.transform.fingerprint import FieldSelector, Fingerprinter

_TEXT: Final = 128
"""How much of a field's value names a workload in a health record."""


class WorkloadNames:
    """How the workload and the tenant of one kind of alert are named.

    A workload is what `limits.by` says. A tenant is the first of its fields that the alert has, whatever the rule: for
    system calls the namespace. Without such a field, the rule is the tenant.
    """

    __slots__ = ("_tenant", "_tenant_key", "_tops", "_workload", "_workload_key")

    def __init__(self, alert: Alert, by: tuple[str, ...], fingerprinter: Fingerprinter) -> None:
        tops = {"rule": alert.rule, "priority": alert.priority.label, "source": alert.source}
        fields = tuple(name for name in by if name not in tops and name in alert.fields)
        self._tops = {name: tops[name][:_TEXT] for name in by if name in tops}
        whole = [(name, tops[name]) for name in by if name in tops]
        self._workload = fingerprinter.selector(fields, ["workload", whole])
        tenant = ["tenant", alert.source] if fields else ["tenant", whole]
        self._tenant = fingerprinter.selector(fields[:1], tenant)
        self._workload_key = None if fields else self._workload.digest({})
        self._tenant_key = None if fields else self._tenant.digest({})

    def workload(self, alert: Alert) -> bytes:
        """The workload as a digest."""
        return self._workload_key or _digest(self._workload, alert)

    def tenant(self, alert: Alert) -> bytes:
        """The tenant as a digest."""
        return self._tenant_key or _digest(self._tenant, alert)

    def workload_texts(self, alert: Alert) -> dict[str, str]:
        """The workload for readers: the rule, and its fields."""
        return self._texts(self._workload, alert)

    def tenant_texts(self, alert: Alert) -> dict[str, str]:
        """The tenant for readers, with the rule."""
        return {"rule": alert.rule[:_TEXT]} | self._texts(self._tenant, alert)

    def _texts(self, selector: FieldSelector, alert: Alert) -> dict[str, str]:
        return self._tops | {name: _text(alert.fields[name]) for name in selector.names}


def _digest(selector: FieldSelector, alert: Alert) -> bytes:
    try:
        return selector.digest(alert.fields)
    except TypeError:  # nested too deep to be compared: all such alerts are of one workload
        return selector.digest(dict.fromkeys(alert.fields))


def _text(value: object) -> str:
    try:
        return (value if type(value) is str else orjson.dumps(value).decode())[:_TEXT]
    except TypeError:
        return "…"
