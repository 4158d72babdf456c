"""Which fields differ in nearly every alert: learned for sources that nobody has configured.

Of such a source it is not known which fields are evidence and which are ids and times. Alerts of one kind (rule and
names of fields) are taken in rounds. A field that had another value in nearly each alert of a round is volatile, until
it repeats itself in half of one.

An attacker can make a field volatile, by alerts that differ in it. So no alert may be held back for it alone: an alert
that differs from all others in volatile fields only is still reported within the first window length.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from zlib import crc32

import orjson

ROUND: Final = 32
"""Alerts of one kind after which it is decided again."""
_BECOMES: Final = 29
_REMAINS: Final = 16
"""So many distinct values in a round make a field volatile, and so many keep it so."""
MOST_KINDS: Final = 32
"""Of one target; the one not seen for longest is forgotten, and learned again."""
MOST_REPORTED: Final = 256
"""Fields of one target of which it is remembered that they were reported; beyond, the oldest may be again."""
_MOST_FIELDS: Final = 64
_LONGEST_NAME: Final = 128
_VALUE_BYTES: Final = 4


@dataclass(slots=True)
class Kind:
    """What was learned of one kind of alert; a function of its alerts, in their order."""

    rule: str
    source: str
    definition: bytes = b""
    """That of the settings under which it is learned (`FingerprintPlan.definition`)."""
    seen: int = 0
    """Alerts of this round."""
    values: dict[str, bytes] = field(default_factory=dict)
    """By field: the hashes of the distinct values of this round, one after the other.

    Where two values have one hash, a field looks less volatile than it is, and more alerts pass.
    """
    volatile: tuple[str, ...] = ()

    def learn(self, fields: Mapping[str, Any]) -> bool:
        """Take one more alert's fields; True if it was decided again which are volatile, and any is."""
        for name, value in list(fields.items())[:_MOST_FIELDS]:
            if len(name) <= _LONGEST_NAME:
                known = self.values.get(name, b"")
                digest = crc32(orjson.dumps(value)).to_bytes(_VALUE_BYTES, "big")
                if not _holds(known, digest):
                    self.values[name] = known + digest
        self.seen += 1
        if self.seen < ROUND:
            return False
        before = frozenset(self.volatile)
        self.volatile = tuple(
            name
            for name, known in sorted(self.values.items())
            if len(known) >= (_REMAINS if name in before else _BECOMES) * _VALUE_BYTES
        )
        self.seen = 0
        self.values = {}
        return bool(self.volatile)


@dataclass(slots=True)
class Kinds:
    """The kinds of one target's alerts whose source nobody has configured, the one not seen for longest first."""

    known: dict[bytes, Kind] = field(default_factory=dict)
    reported: dict[tuple[str, str], None] = field(default_factory=dict)
    """Sources and fields that were reported, the oldest first: a kind may be forgotten, or a field alternate."""

    def of(self, key: bytes, rule: str, source: str, definition: bytes) -> tuple[Kind, bytes | None]:
        """The kind with this key, and the key of the one that was forgotten for it, if any."""
        kind = self.known.pop(key, None) or Kind(rule[:256], source[:256], definition)
        forgotten = None
        if len(self.known) >= MOST_KINDS:
            forgotten = next(iter(self.known))
            del self.known[forgotten]
        self.known[key] = kind
        return kind, forgotten

    def report(self, kind: Kind) -> bool:
        """Note that the volatile fields of a kind are reported; False if each was before, of any kind of its source."""
        fresh = [(kind.source, name) for name in kind.volatile if (kind.source, name) not in self.reported]
        for found in fresh:
            if len(self.reported) >= MOST_REPORTED:
                del self.reported[next(iter(self.reported))]
            self.reported[found] = None
        return bool(fresh)

    def keep(self, definition_of: Callable[[str, str], bytes | None]) -> list[bytes]:
        """Forget the kinds that are not learned under these settings any more, and give their keys.

        `definition_of` a rule and source says under which a kind would learn now, None where its source is configured.
        """
        gone = [
            key
            for key, kind in self.known.items()
            if definition_of(kind.rule, kind.source) != kind.definition
        ]
        for key in gone:
            del self.known[key]
        return gone


def _holds(values: bytes, value: bytes) -> bool:
    at = values.find(value)
    while at % _VALUE_BYTES and at > 0:  # found across two others
        at = values.find(value, at + 1)
    return at >= 0
