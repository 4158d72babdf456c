"""What one window has counted instead of published, until a summary reports it."""

from __future__ import annotations

from struct import Struct
from typing import Any, Final

import orjson

from streamer.transform.fingerprint import DIGEST_BYTES
from streamer.transform.stamp import LAST_NS, NEVER

_PACKED: Final = Struct("<QQQ")
_COUNTED: Final = Struct(f"<{DIGEST_BYTES}sQQQ")


class Variant:
    """One variant among what a window has counted. Times are those of the alerts."""

    __slots__ = ("count", "fields", "first_ns", "id", "is_new", "is_stored", "last_ns")

    def __init__(
        self,
        id: bytes = b"",  # noqa: A002 -- as in summaries
        fields: dict[str, Any] | None = None,
        is_new: bool = False,
        count: int = 0,
        first_ns: int = 0,
        last_ns: int = 0,
    ) -> None:
        self.id = id
        """What it is called in summaries (`Selection.variant_id`)."""
        self.fields: dict[str, Any] = {} if fields is None else fields
        """The evidence in which it differs from the sample."""
        self.is_new = is_new
        """Whether it was not shown in its window before."""
        self.count = count
        self.first_ns = first_ns
        self.last_ns = last_ns
        self.is_stored = False
        """Whether the stored state holds its fields."""


class Repeats:
    """What one window has counted since it was last reported."""

    __slots__ = (
        "_fields",
        "count",
        "due_ns",
        "evidence_bytes",
        "evidence_due_ns",
        "group_id",
        "is_stored",
        "line_ns",
        "number",
        "sample",
        "variants",
    )

    def __init__(self, sample: bytes, group_id: bytes, number: int = 0) -> None:
        self.sample = sample
        """The first alert that was counted, as Falco wrote it."""
        self.group_id = group_id
        """What the group is called in summaries."""
        self.number = number
        """Its place among those of its target: what began to count first is reported first."""
        self.due_ns = NEVER
        """When it is reported at the latest, by our clock; worked out when a transaction is sealed."""
        self.evidence_due_ns = NEVER
        """When the oldest variant that was not shown is to be reported, by the target's clock."""
        self.line_ns = 0
        """The time of the last counted alert's line: alerts may be much older than their lines."""
        self.count = 0
        self.variants: dict[bytes, Variant] = {}
        self.evidence_bytes = len(sample)
        """The size of the sample and the variants' fields, as JSON."""
        self.is_stored = False
        """Whether the stored state holds the sample."""
        self._fields: dict[str, Any] | None = None

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
        found = Repeats(b"", b"")
        found.due_ns, found.evidence_due_ns, found.line_ns = _PACKED.unpack_from(packed)
        every = list(_COUNTED.iter_unpack(packed[_PACKED.size :]))
        times_ns = [found.due_ns, found.line_ns]
        for digest, count, first_ns, last_ns in every:
            found.variants[digest] = Variant(b"", {}, False, count, first_ns, last_ns)
            found.count += count
            times_ns += (first_ns, last_ns)
        if len(found.variants) != len(every) or not all(count for _, count, _, _ in every):
            raise ValueError("no counts of distinct variants")
        if not every or max(times_ns) > LAST_NS or found.evidence_due_ns > NEVER:
            raise ValueError("counts of nothing, or out of all time")
        return found
