"""Whose alert it is: the workload that has a limit of its own, and the tenant that shares the target's with others."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import orjson

from streamer.model import Alert
from streamer.transform.fingerprint import FieldSelector, Fingerprinter, getter

_TEXT: Final = 128
"""How much of a field's value names a workload in a health record."""
_MOST_KNOWN: Final = 1024
"""Workloads of one kind of alert whose digests are remembered."""
_TEXTS: Final = frozenset((str, type(None)))


class WorkloadKeys(NamedTuple):
    """Whose alert it is, as digests."""

    workload: bytes
    tenant: bytes


class WorkloadNames:
    """How the workload and the tenant of one kind of alert are named.

    A workload is what `limits.by` says. A tenant is the first of its fields that the alert has, whatever the rule: for
    system calls the namespace. Without such a field, the rule is the tenant.
    """

    __slots__ = ("_get", "_known", "_tenant", "_texts_of", "_tops", "_workload")

    def __init__(self, alert: Alert, by: tuple[str, ...], fingerprinter: Fingerprinter) -> None:
        tops = {"rule": alert.rule, "priority": alert.priority.label, "source": alert.source}
        fields = tuple(name for name in by if name not in tops and name in alert.fields)
        self._tops = {name: tops[name][:_TEXT] for name in by if name in tops}
        whole = [(name, tops[name]) for name in by if name in tops]
        self._get = getter(fields)
        self._workload = fingerprinter.selector(fields, ["workload", whole])
        self._tenant = fingerprinter.selector(
            fields[:1], ["tenant", alert.source] if fields else ["tenant", whole]
        )
        self._known: dict[tuple[Any, ...], WorkloadKeys] = {}
        # By the fields' values, where all are texts or null: to Python, 1, 1.0 and True are equal.
        self._texts_of: dict[str, dict[str, str]] = {}
        # By the tenant.

    def keys(self, alert: Alert) -> WorkloadKeys:
        """The workload and the tenant as digests."""
        values = self._get(alert.fields)
        try:
            known = self._known.get(values)
        except TypeError:  # a list
            known = None
        if known is None:
            known = WorkloadKeys(_digest(self._workload, alert), _digest(self._tenant, alert))
            if _TEXTS.issuperset(map(type, values)):
                _make_room(self._known)
                self._known[values] = known
        return known

    def workload_texts(self, alert: Alert) -> dict[str, str]:
        """The workload for readers: the rule, and its fields."""
        return self._texts(self._workload, alert)

    def tenant_texts(self, alert: Alert) -> dict[str, str]:
        """The tenant for readers, with the rule."""
        names = self._tenant.names
        name = alert.fields[names[0]] if names else ""
        if type(name) is str and (known := self._texts_of.get(name)) is not None:
            return known
        found = {"rule": alert.rule[:_TEXT]} | self._texts(self._tenant, alert)
        if type(name) is str:
            _make_room(self._texts_of)
            self._texts_of[name] = found
        return found

    def _texts(self, selector: FieldSelector, alert: Alert) -> dict[str, str]:
        return self._tops | {name: _text(alert.fields[name]) for name in selector.names}


def _make_room(known: dict[Any, Any]) -> None:
    if len(known) >= _MOST_KNOWN:
        known.clear()


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
