"""What one window has counted instead of passed, until a summary tells it."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from struct import Struct
from typing import TYPE_CHECKING, Final

from streamer.transform.fingerprint import DIGEST_BYTES
from streamer.transform.stamp import LAST_NS

if TYPE_CHECKING:
    from streamer.transform.window import Window

SAMPLE: Final = b""
"""Stands for the sample among the names of variants."""
_PACKED: Final = Struct("<QQQQ")


@dataclass(slots=True)
class Repeats:
    """What one window has counted since it was last told of. Times are those of the alerts."""

    sample: bytes
    """The first alert that was counted, as Falco wrote it."""
    due_ns: int
    """When it is told of at the latest, by our clock."""
    first_ns: int
    last_ns: int = 0
    count: int = 0
    variants: dict[bytes, int] = field(default_factory=dict)
    """How often each variant was counted."""
    texts: dict[bytes, str] = field(default_factory=dict)
    """What tells the variants apart."""
    evidence_bytes: int = 0
    """The size of the sample and the texts, as JSON."""
    fresh: list[bytes] = field(default_factory=lambda: [SAMPLE])
    """The variants whose texts the stored state does not hold yet; with the empty name in it, nor the sample."""
    window: Window | None = field(default=None, compare=False)
    """The window that counts, as long as it stays as it is: the next repeat need not unpack it again."""

    def pack(self) -> bytes:
        """The counts and times in few bytes; sample and texts, the long parts, are stored once, on their own."""
        numbers = _PACKED.pack(self.count, self.first_ns, self.last_ns, self.due_ns)
        return numbers + b"".join(self.variants) + array("Q", self.variants.values()).tobytes()

    @staticmethod
    def unpack(packed: bytes) -> Repeats:
        """The counts and times again; raises `ValueError` or `struct.error` where they cannot be these."""
        count, first_ns, last_ns, due_ns = _PACKED.unpack_from(packed)
        variants, odd = divmod(len(packed) - _PACKED.size, DIGEST_BYTES + 8)
        if odd or max(first_ns, last_ns, due_ns) > LAST_NS:
            raise ValueError("counts of the wrong size, or out of all time")
        digests_end = _PACKED.size + variants * DIGEST_BYTES
        digests = [packed[at : at + DIGEST_BYTES] for at in range(_PACKED.size, digests_end, DIGEST_BYTES)]
        counts = array("Q", packed[digests_end:])
        if not count or sum(counts) != count:
            raise ValueError("counts that do not add up")
        return Repeats(
            b"", due_ns, first_ns, last_ns, count, dict(zip(digests, counts, strict=True)), fresh=[]
        )
