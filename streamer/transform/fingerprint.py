"""Which alerts are the same: the group an alert belongs to, and which variant of the group it is.

A group is what happens to whom: rule, host, pod, container, process, user. A variant is the evidence: by default
every field that is not volatile, so that no benign hit can stand for a different one. Both are keyed 128-bit
hashes: attackers choose command lines, and must not be able to choose two with one hash.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import translate
from hashlib import blake2b
from operator import itemgetter
from typing import Any, Final, NamedTuple

import orjson

from streamer.model import Alert
from streamer.transform.normalise import NORMALISERS, Normaliser

DIGEST_BYTES: Final = 16
_TEXT_BYTES: Final = 8 * 1024
_LEAD_TEXT_BYTES: Final = 256
_LEAD_BYTES: Final = 16
_FIRST_FIELDS: Final = ("proc.cmdline", "fd.name")
"""What a reader looks for first stands first in a variant's text."""


@dataclass(frozen=True, slots=True)
class KeyFields:
    """The `output_fields` that make a group and a variant, as globs.

    Rule, priority, source and hostname always belong to both, the followed container too.
    """

    group: tuple[str, ...]
    variant: tuple[str, ...] = ("*",)


@dataclass(frozen=True, slots=True)
class FingerprintPlan:
    """How fingerprints are made. `fields` by Falco's source; `other` is for sources not named."""

    fields: Mapping[str, KeyFields] = field(default_factory=dict)
    other: KeyFields = KeyFields(())
    volatile: tuple[str, ...] = ()
    """Globs of fields that belong to no variant, unless they are named there without a glob."""
    normalisers: tuple[str, ...] = tuple(NORMALISERS)


class Fingerprint(NamedTuple):
    """The two hashes of an alert."""

    group: bytes
    variant: bytes


class FieldSelector:
    """Takes the chosen fields out of alerts that all have the same fields, and hashes them."""

    __slots__ = ("_base", "_get", "_normaliser", "names")

    def __init__(self, names: tuple[str, ...], base: Any, normaliser: Normaliser) -> None:
        self.names = names
        self._get = _getter(names)
        self._base = base.copy()
        # With the names in the hash, equal values of different fields are different alerts.
        self._base.update(orjson.dumps(names))
        self._normaliser = normaliser

    def values(self, fields: Mapping[str, Any]) -> tuple[Any, ...]:
        """The values, normalised, in the order of `names`."""
        return self._normaliser.values(self._get(fields))

    def digest(self, hostname: str, fields: Mapping[str, Any]) -> bytes:
        """The hash of the chosen fields."""
        values = self._get(fields)
        encoded = orjson.dumps((hostname, values))
        if self._normaliser.concerns(encoded):
            encoded = orjson.dumps((hostname, self._normaliser.values(values)))
        digest = self._base.copy()
        digest.update(encoded)
        return digest.digest()  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True)
class Selection:
    """The fields of one kind of alert: same rule, priority, source and the same field names."""

    field_names: frozenset[str]
    group: FieldSelector
    variant: FieldSelector

    def fingerprint(self, alert: Alert) -> Fingerprint | None:
        """The alert's two hashes; None if its fields are nested too deep to be compared."""
        hostname, fields = alert.hostname, alert.fields
        try:
            return Fingerprint(self.group.digest(hostname, fields), self.variant.digest(hostname, fields))
        except TypeError:  # orjson writes 254 levels, and reads 1024
            return None

    def variant_text(self, alert: Alert, beside: Mapping[str, Any] | None) -> str:
        """What tells this variant from the alert with the fields `beside`; without one, the beginning of it all.

        A long value is shown from where it begins to differ, and to its end: no padding puts evidence out of sight.
        """
        values = dict(zip(self.variant.names, self.variant.values(alert.fields), strict=True))
        known = {} if beside is None else beside
        others = dict(
            zip(self.variant.names, self.variant.values({n: known.get(n) for n in values}), strict=True)
        )
        # The group's fields are the same in all variants.
        own = [name for name in values if name not in self.group.names]
        names = sorted(own, key=lambda name: (name not in _FIRST_FIELDS, name))
        parts = [
            f"{name}={_from_difference(_text(values[name]), _text(others[name]) if beside else '')}"
            for name in names
            if values[name] is not None and (beside is None or values[name] != others[name])
        ]
        most_bytes = _LEAD_TEXT_BYTES if beside is None else _TEXT_BYTES
        return " ".join(parts).encode(errors="replace")[:most_bytes].decode(errors="ignore")


class Fingerprinter:
    """Works out which fields count for each kind of alert, once for each kind."""

    def __init__(self, plan: FingerprintPlan, key: bytes) -> None:
        self._plan = plan
        self._volatile = _any_of(plan.volatile)
        self._normaliser = Normaliser(plan.normalisers)
        self._base = blake2b(digest_size=DIGEST_BYTES, key=key)

    def select(self, alert: Alert, chosen: KeyFields | None) -> Selection:
        """The fields that count for alerts like this one; `chosen` instead of those of its source."""
        keys = chosen or self._plan.fields.get(alert.source, self._plan.other)
        base = self._base.copy()
        base.update(orjson.dumps((alert.rule, int(alert.priority), alert.source)))
        names = sorted(alert.fields)
        group, variant = _any_of(keys.group), _any_of(keys.variant)
        groups = [name for name in names if group(name)]
        variants = [n for n in names if variant(n) and (n in keys.variant or not self._volatile(n))]
        return Selection(
            frozenset(names),
            FieldSelector(tuple(groups), base, self._normaliser),
            FieldSelector(tuple(variants), base, self._normaliser),
        )

    def select_limit(self, alert: Alert, by: tuple[str, ...]) -> tuple[FieldSelector, bytes | None]:
        """The fields that name an alert's bucket; and that name, if no field of `output_fields` belongs to it."""
        top = {"rule": alert.rule, "priority": alert.priority.label, "source": alert.source}
        base = self._base.copy()
        base.update(orjson.dumps([(name, top[name]) for name in by if name in top]))
        names = tuple(sorted(name for name in by if name not in top and name in alert.fields))
        selector = FieldSelector(names, base, self._normaliser)
        return selector, None if names else selector.digest("", {})


def _any_of(globs: tuple[str, ...]) -> Callable[[str], bool]:
    """Whether a name is one of these, or matches one as a glob: `proc.aname[2]` is both, and meant as it stands."""
    pattern = re.compile("|".join(map(translate, globs)) or r"(?!)")
    return lambda name: name in globs or pattern.match(name) is not None


def _getter(names: tuple[str, ...]) -> Callable[[Mapping[str, Any]], tuple[Any, ...]]:
    if len(names) > 1:
        return itemgetter(*names)
    return lambda fields: tuple([fields[name] for name in names])


def _text(value: Any) -> str:
    return value if type(value) is str else orjson.dumps(value).decode()


def _from_difference(value: str, other: str) -> str:
    """`value`, from shortly before it leaves `other` if that is far in."""
    same = next(
        (at for at, (a, b) in enumerate(zip(value, other, strict=False)) if a != b),
        min(len(value), len(other)),
    )
    return value if same <= 2 * _LEAD_BYTES else f"…{value[same - _LEAD_BYTES :]}"
