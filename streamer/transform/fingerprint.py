"""Which alerts are the same: the group an alert belongs to, and which variant of the group it is.

A group is what happens to whom: rule, host, pod, container, process, user. A variant is the evidence: by default
every field that is not volatile, so that no benign hit can stand for a different one. Both are keyed 128-bit
hashes: attackers choose command lines, and must not be able to choose two with one hash. What the settings choose as
key is hashed along: a window that was opened under other settings is not a window of the same group.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import translate
from functools import lru_cache
from hashlib import blake2b, sha256
from operator import itemgetter
from typing import Any, Final, NamedTuple

import orjson

from streamer.model import Alert
from streamer.transform.normalise import NORMALISERS, Normaliser

DIGEST_BYTES: Final = 16
_MOST_KNOWN_BYTES: Final = 4 * 1024 * 1024
"""Of encoded fields and their hashes."""
_ENTRY_BYTES: Final = 256
"""What an entry takes in addition to its key."""
_MOST_COARSE: Final = 16
"""Sets of volatile fields of one kind of alert; targets mostly learn the same one."""
FIRST_FIELDS: Final = ("proc.cmdline", "fd.name")
"""What a reader looks for first stands first in a variant's fields."""


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
    learns: bool = False
    """Whether it is learned which fields of sources not named are volatile."""
    volatile: tuple[str, ...] = ()
    """Globs of fields that belong to no variant, unless they are named there without a glob."""
    normalisers: tuple[str, ...] = tuple(NORMALISERS)

    def definition(self, keys: KeyFields) -> bytes:
        """What the settings choose as key, as JSON: it is hashed along."""
        return orjson.dumps((keys.group, keys.variant, self.volatile, self.normalisers))


class Fingerprint(NamedTuple):
    """The hashes of an alert."""

    group: bytes
    variant: bytes
    coarse: bytes = b""
    """That of its variant without the fields that were found to be volatile; only of sources that nobody configured."""


def kept(encoded: bytes) -> bytes:
    """A copy of what orjson has written, to be kept: its own takes 4 KiB, however short it is."""
    return memoryview(encoded).tobytes()


class FieldSelector:
    """Takes the chosen fields out of alerts that all have the same fields, and hashes them."""

    __slots__ = ("_base", "_get", "_normaliser", "names")

    def __init__(self, names: tuple[str, ...], base: Any, normaliser: Normaliser) -> None:
        self.names = names
        self._get = getter(names)
        self._base = _base_of(base, names)
        self._normaliser = normaliser

    def digest(self, fields: Mapping[str, Any]) -> bytes:
        """The hash of the chosen fields."""
        values = self._get(fields)
        encoded = orjson.dumps(values)
        if signs := self._normaliser.signs_in(encoded):
            encoded = orjson.dumps(self._normaliser.values(values, signs))
        return _hash(self._base, encoded)


class Selection:
    """The fields of one kind of alert: same rule, priority, source and the same field names."""

    __slots__ = (
        "_coarse",
        "_get",
        "_group",
        "_group_base",
        "_is_evidence",
        "_memory",
        "_names",
        "_normalise",
        "_normalised_at",
        "_normaliser",
        "_own",
        "_seen",
        "_sign",
        "_variant_base",
        "key",
    )

    def __init__(
        self,
        group: tuple[str, ...],
        variant: tuple[str, ...],
        base: Any,
        normaliser: Normaliser,
        memory: _Memory,
        is_evidence: Callable[[str], bool],
    ) -> None:
        # Within a group its fields are the same in all variants.
        own = [name for name in variant if name not in group]
        self._own = tuple(sorted(own, key=lambda name: (name not in FIRST_FIELDS, name)))
        self._names = group + self._own
        self._group = len(group)
        self._is_evidence = is_evidence
        self._get = getter(self._names)
        self._group_base = _base_of(base, group)
        self._variant_base = _base_of(base, group + self._own)
        self.key = self._variant_base.digest()
        """What distinguishes this kind of alert from others."""
        self._coarse: dict[tuple[str, ...], FieldSelector] = {}
        self._normaliser = normaliser
        self._sign, self._normalise = normaliser.first or ("", str)
        self._normalised_at = -1
        # Which value the first normaliser has changed lately.
        self._seen = memory.one_more()
        self._memory = memory

    def fingerprint(self, alert: Alert) -> Fingerprint | None:
        """The alert's two hashes; None if its fields are nested too deep to be compared.

        Most alerts are like one before, or like one but for what the first normaliser takes out of one field, such as
        a client's port. Those are found by their encoding, and no normaliser looks at their other fields.
        """
        hostname, values, at = alert.hostname, self._get(alert.fields), self._normalised_at
        try:
            if at >= 0 and type(value := values[at]) is str and self._sign in value:
                encoded = orjson.dumps((hostname, (*values[:at], self._normalise(value), *values[at + 1 :])))
                seen = self._seen.but_one
            else:
                encoded = orjson.dumps((hostname, values))
                seen = self._seen.plain
        except TypeError:  # orjson writes 254 levels, and reads 1024
            return None
        return seen.get(encoded) or self._work_out(hostname, values, encoded, seen)

    def _work_out(
        self, hostname: str, values: tuple[Any, ...], encoded: bytes, seen: dict[bytes, Fingerprint]
    ) -> Fingerprint:
        whole = encoded if seen is self._seen.plain else orjson.dumps((hostname, values))
        signs = self._normaliser.signs_in(whole)
        if signs and seen is self._seen.plain:  # what is like it but for a normalised part is not the same
            seen = self._seen.normalised
            self._normalised_at = self._place_of_sign(values)
        if signs:
            values = self._normaliser.values(values, signs)
            whole = orjson.dumps((hostname, values))
            if seen is self._seen.normalised:
                encoded = whole
                if (known := seen.get(encoded)) is not None:
                    return known
        own = orjson.dumps((hostname, values[: self._group]))
        group = self._seen.groups.get(own)
        found = Fingerprint(group or _hash(self._group_base, own), _hash(self._variant_base, whole))
        self._memory.make_room(len(encoded) + len(own))
        seen[kept(encoded)] = found
        if group is None:
            self._seen.groups[kept(own)] = found.group
        return found

    def _place_of_sign(self, values: tuple[Any, ...]) -> int:
        """Which of the values the first normaliser may change; -1 if it changes none."""
        for at, value in enumerate(values):
            if self._sign and type(value) is str and self._sign in value:
                return at
        return -1

    def evidence(self, alert: Alert) -> dict[str, Any]:
        """The fields that tell its variants apart."""
        return {name: alert.fields[name] for name in self._own}

    def coarse(self, alert: Alert, volatile: tuple[str, ...]) -> bytes:
        """The hash of the alert's variant without these fields; the alert is one that has a fingerprint."""
        if (selector := self._coarse.get(volatile)) is None:
            if len(self._coarse) >= _MOST_COARSE:
                self._coarse.clear()
            names = tuple(name for name in self._own if name not in volatile)
            base = self._variant_base.copy()
            base.update(b"coarse")
            selector = self._coarse[volatile] = FieldSelector(names, base, self._normaliser)
        return selector.digest(alert.fields)

    def difference(self, alert: Alert, sample: Mapping[str, Any]) -> dict[str, Any]:
        """The evidence in which an alert differs from another one with the fields `sample`; null where it has none.

        Values are as Falco wrote them. Where only that differs which normalisers take out, they are the same.
        """
        found = dict[str, Any]()
        for name, value in zip(self._own, self._get(alert.fields)[self._group :], strict=True):
            if name not in sample or not self._are_same(value, sample[name]):
                found[name] = value
        for name in sample:
            if name not in alert.fields and self._is_evidence(name):
                found[name] = None
        return found

    def _are_same(self, value: Any, other: Any) -> bool:
        if type(value) is str and type(other) is str:
            return value == other or self._normaliser.values((value,)) == self._normaliser.values((other,))
        return orjson.dumps(value) == orjson.dumps(other)  # to Python, 1, 1.0 and True are equal

    def group_id(self, cluster: str, alert: Alert) -> bytes:
        """What the alert's group is called in summaries: the same on every shard, under any key.

        The first half of a SHA-256 of the cluster, hostname, rule, priority, source and the group's fields, as JSON.
        """
        names = self._names[: self._group]
        values = self._normaliser.values(tuple([alert.fields[name] for name in names]))
        who = [cluster, alert.hostname, alert.rule, alert.priority.label, alert.source]
        return _public([*who, dict(zip(names, values, strict=True))])

    def variant_id(self, group_id: bytes, alert: Alert) -> bytes:
        """What the alert's variant is called in summaries: the same of the group's name and the variant's fields."""
        values = self._normaliser.values(self._get(alert.fields)[self._group :])
        return _public([group_id.hex(), dict(zip(self._own, values, strict=True))])


class _Seen:
    """The hashes of one kind of alert, by its encoded fields."""

    __slots__ = ("but_one", "groups", "normalised", "plain")

    def __init__(self) -> None:
        self.plain: dict[bytes, Fingerprint] = {}
        """Of fields in which no normaliser has anything to do."""
        self.but_one: dict[bytes, Fingerprint] = {}
        """Of fields of which the first normaliser has changed one; what the others do to them follows from that."""
        self.normalised: dict[bytes, Fingerprint] = {}
        """Of all other fields, normalised. The three differ: what is normalised may be normalised once more."""
        self.groups: dict[bytes, bytes] = {}

    def clear(self) -> None:
        for known in (self.plain, self.but_one, self.normalised):
            known.clear()
        self.groups.clear()


class _Memory:
    """The hashes of what was seen lately: most alerts repeat others, and hashing one costs more than finding it.

    All are forgotten from time to time, so that memory stays bounded.
    """

    __slots__ = ("_every", "_held_bytes")

    def __init__(self) -> None:
        self._every: list[_Seen] = []
        self._held_bytes = 0

    def one_more(self) -> _Seen:
        """Room for one kind of alert."""
        self._every.append(_Seen())
        return self._every[-1]

    def make_room(self, size_bytes: int) -> None:
        """Make room for so much more."""
        if self._held_bytes >= _MOST_KNOWN_BYTES:
            self._held_bytes = 0
            for seen in self._every:
                seen.clear()
        self._held_bytes += size_bytes + _ENTRY_BYTES


class Fingerprinter:
    """Works out which fields count for each kind of alert, once for each kind."""

    def __init__(self, plan: FingerprintPlan, key: bytes) -> None:
        self._plan = plan
        self._is_volatile = _any_of(plan.volatile)
        self._normaliser = Normaliser(plan.normalisers)
        self._base = blake2b(digest_size=DIGEST_BYTES, key=key)
        self._memory = _Memory()

    def forget(self) -> None:
        """Forget the kinds of alerts that were selected; their selections must not be used any more."""
        self._memory = _Memory()

    def select(self, alert: Alert, chosen: KeyFields | None) -> Selection:
        """The fields that count for alerts like this one; `chosen` instead of those of its source."""
        keys = chosen or self._plan.fields.get(alert.source, self._plan.other)
        base = self._base.copy()
        what = (alert.rule, int(alert.priority), alert.source)
        base.update(orjson.dumps(what) + self._plan.definition(keys))
        names = sorted(alert.fields)
        group, variant = _any_of(keys.group), _any_of(keys.variant)
        groups = [name for name in names if group(name)]

        def is_evidence(name: str) -> bool:
            return variant(name) and (name in keys.variant or not self._is_volatile(name)) and not group(name)

        variants = [name for name in names if is_evidence(name)]
        return Selection(tuple(groups), tuple(variants), base, self._normaliser, self._memory, is_evidence)

    def selector(self, names: tuple[str, ...], what: Any) -> FieldSelector:
        """Of these fields; hashes of other ones, or for something else than `what`, are others."""
        base = self._base.copy()
        base.update(orjson.dumps(what))
        return FieldSelector(names, base, self._normaliser)


@lru_cache(maxsize=256)  # the same for each key of fingerprints, whenever a shard is loaded
def _any_of(globs: tuple[str, ...]) -> Callable[[str], bool]:
    """Whether a name is one of these, or matches one as a glob: `proc.aname[2]` is both, and meant as it stands."""
    pattern = re.compile("|".join(map(translate, globs)) or r"(?!)")
    return lambda name: name in globs or pattern.match(name) is not None


def _base_of(base: Any, names: tuple[str, ...]) -> Any:
    """The beginning of a hash of these fields: with their names, equal values of different fields differ."""
    ours = base.copy()
    ours.update(orjson.dumps(names))
    return ours


def _hash(base: Any, encoded: bytes) -> bytes:
    digest = base.copy()
    digest.update(encoded)
    return digest.digest()  # type: ignore[no-any-return]


def getter(names: tuple[str, ...]) -> Callable[[Mapping[str, Any]], tuple[Any, ...]]:
    """Takes these fields out of others."""
    if len(names) > 1:
        return itemgetter(*names)
    return lambda fields: tuple([fields[name] for name in names])


def _public(value: Any) -> bytes:
    return sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).digest()[:DIGEST_BYTES]
