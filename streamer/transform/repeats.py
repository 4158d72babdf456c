"""What one window has counted instead of published, until a summary reports it."""

from __future__ import annotations

from dataclasses import dataclass, field
from struct import Struct
from typing import TYPE_CHECKING, Any, Final

import orjson

from streamer.transform.fingerprint import DIGEST_BYTES
from streamer.transform.stamp import LAST_NS, NEVER

if TYPE_CHECKING:
    from streamer.transform.window import Window

SAMPLE: Final = b""
"""Stands for the sample among the names of variants."""
_PACKED: Final = Struct("<QQQ")
_COUNTED: Final = Struct(f"<{DIGEST_BYTES}sQQQ")


@dataclass(slots=True)
class Variant:
    """One variant among what a window has counted. Times are those of the alerts."""

    id: bytes = b""
    """What it is called in summaries (`Selection.variant_id`)."""
    fields: dict[str, Any] = field(default_factory=dict)
    """The evidence in which it differs from the sample."""
    is_new: bool = False
    """Whether it was not shown in its window before."""
    count: int = 0
    first_ns: int = 0
    last_ns: int = 0

    def add(self, time_ns: int) -> None:
        """Count one more."""
        self.first_ns = min(self.first_ns, time_ns) if self.count else time_ns
        self.last_ns = max(self.last_ns, time_ns)
        self.count += 1


@dataclass(slots=True)
class Repeats:
    """What one window has counted since it was last reported."""

    sample: bytes
    """The first alert that was counted, as Falco wrote it."""
    group_id: bytes
    """What the group is called in summaries."""
    due_ns: int
    """When it is reported at the latest, by our clock."""
    evidence_due_ns: int = NEVER
    """When the oldest variant that was not shown is to be reported, by the target's clock; never if there is none."""
    count: int = 0
    variants: dict[bytes, Variant] = field(default_factory=dict)
    line_ns: int = 0
    """The time of the last counted alert's line: alerts may be much older than their lines."""
    evidence_bytes: int = 0
    """The size of the sample and the variants' fields, as JSON."""
    fresh: list[bytes] = field(default_factory=lambda: [SAMPLE])
    """The variants whose fields the stored state does not hold yet; with the empty name in it, nor the sample."""
    _fields: dict[str, Any] | None = field(default=None, compare=False)
    window: Window | None = field(default=None, compare=False)
    """The window that counts, as long as it stays as it is: the next repeat need not unpack it again."""

    @property
    def sample_fields(self) -> dict[str, Any]:
        """The sample's `output_fields`; read once, where a second variant is counted."""
        if self._fields is None:
            found = orjson.loads(self.sample).get("output_fields")
            self._fields = found if isinstance(found, dict) else {}
        return self._fields

    def new_variants(self) -> bytes:
        """The variants that the window had not shown, one digest after the other."""
        return b"".join([digest for digest, variant in self.variants.items() if variant.is_new])

    def pack(self) -> bytes:
        """The counts and times in few bytes; sample and fields, the long parts, are stored once, on their own."""
        counted = [_COUNTED.pack(name, v.count, v.first_ns, v.last_ns) for name, v in self.variants.items()]
        return _PACKED.pack(self.due_ns, self.evidence_due_ns, self.line_ns) + b"".join(counted)

    @staticmethod
    def unpack(packed: bytes) -> Repeats:
        """The counts and times again; raises `ValueError` or `struct.error` where they cannot be these."""
        due_ns, evidence_due_ns, line_ns = _PACKED.unpack_from(packed)
        every = list(_COUNTED.iter_unpack(packed[_PACKED.size :]))
        variants = {name: Variant(name, {}, False, *counted) for name, *counted in every}
        found = Repeats(b"", b"", due_ns, evidence_due_ns, variants=variants, line_ns=line_ns, fresh=[])
        found.count = sum(variant.count for variant in variants.values())
        if len(variants) != len(every) or not all(variant.count for variant in variants.values()):
            raise ValueError("no counts of distinct variants")
        times_ns = (
            due_ns,
            line_ns,
            *(time for one in variants.values() for time in (one.first_ns, one.last_ns)),
        )
        if not every or max(times_ns) > LAST_NS or evidence_due_ns > NEVER:
            raise ValueError("counts of nothing, or out of all time")
        return found
