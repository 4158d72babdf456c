"""One group's window: what was shown of it lately, and what it has counted instead. `windows` has its life."""

from __future__ import annotations

from struct import Struct
from typing import Final

from streamer.transform.fingerprint import DIGEST_BYTES
from streamer.transform.repeats import Repeats
from streamer.transform.stamp import LAST_NS

HEAD_BYTES: Final = 17
"""The first half of a SHA-256 and an ordinal: what distinguishes an alert's record id from others of its target."""
_PACKED: Final = Struct(f"<QQQBBI{HEAD_BYTES}s")
_TIMES: Final = Struct("<QQ")
_FLAGS_AT: Final = 25
_BUSY: Final = 1
_ENDED: Final = 2
_LONGEST_NS: Final = 1 << 50  # 13 days
_MOST_SHOWN_BYTES: Final = 1000 * DIGEST_BYTES
"""How many variants a window remembers as shown. Beyond, it forgets the oldest, which are shown again if they come."""


class Window:
    """One group's window, unpacked."""

    __slots__ = (
        "busy",
        "counted_ns",
        "end_ns",
        "ended",
        "group",
        "head",
        "head_ns",
        "is_counted",
        "is_stored",
        "length_ns",
        "level",
        "part",
        "repeats",
        "shown",
        "start_ns",
    )

    def __init__(
        self,
        group: bytes,
        start_ns: int,
        length_ns: int,
        head_ns: int,
        level: int,
        head: bytes,
        shown: bytes,
        busy: bool = False,
        ended: bool = False,
        part: int = 0,
    ) -> None:
        self.group = group
        self.start_ns = start_ns
        """When it began, by the target's clock."""
        self.length_ns = length_ns
        self.end_ns = start_ns + length_ns
        """When it ends, by the target's clock."""
        self.head_ns = head_ns
        """The time of the first alert's line."""
        self.level = level
        """How often it has grown."""
        self.head = head
        """What distinguishes the first alert's record id from others of the target."""
        self.shown = bytearray(shown)
        """The variants that were published, or reported in a summary: one digest after the other, the oldest first."""
        self.busy = busy
        """Whether anything was ever counted in it."""
        self.ended = ended
        """Whether it is over, and kept only so that the group's next window can grow."""
        self.part = part
        """How many parts of summaries have reported it."""
        self.repeats: Repeats | None = None
        """What it has counted and not reported."""
        self.counted_ns = 0
        """When it counted last in this transaction, by the target's clock."""
        self.is_counted = False
        """Whether it counted anything in this transaction."""
        self.is_stored = False
        """Whether the stored state holds it."""

    @property
    def deadline_ns(self) -> int:
        """When it ends, or, of one that has ended, when it is forgotten.

        A group that comes back within one more length is still busy.
        """
        return self.end_ns + self.length_ns if self.ended else self.end_ns

    @property
    def size_bytes(self) -> int:
        """How long it is when it is packed."""
        return _PACKED.size + len(self.shown)

    def has_shown(self, variant: bytes) -> bool:
        """Whether this variant was published or reported."""
        at = self.shown.find(variant)
        while at % DIGEST_BYTES and at > 0:  # found across two others
            at = self.shown.find(variant, at + 1)
        return at >= 0

    def show(self, variants: bytes) -> None:
        """Note that these variants were shown."""
        self.shown += variants
        if len(self.shown) > _MOST_SHOWN_BYTES:
            del self.shown[:-_MOST_SHOWN_BYTES]

    def pack(self) -> bytes:
        """The window in few bytes."""
        flags = (_BUSY if self.busy else 0) | (_ENDED if self.ended else 0)
        return (
            _PACKED.pack(self.start_ns, self.length_ns, self.head_ns, self.level, flags, self.part, self.head)
            + self.shown
        )

    @staticmethod
    def unpack(group: bytes, packed: bytes) -> Window:
        """The window again."""
        start, length, head_ns, level, flags, part, head = _PACKED.unpack_from(packed)
        shown = packed[_PACKED.size :]
        busy, ended = flags & _BUSY > 0, flags & _ENDED > 0
        window = Window(group, start, length, head_ns, level, head, shown, busy, ended, part)
        window.is_stored = True
        return window

    @staticmethod
    def read(group: bytes, packed: bytes) -> Window:
        """The window that was stored; raises `ValueError` or `struct.error` where it cannot be one."""
        window = Window.unpack(group, packed)
        if window.pack() != packed or len(window.shown) % DIGEST_BYTES:
            raise ValueError("a window of the wrong size, or with flags of its own")
        if window.length_ns > _LONGEST_NS or max(window.start_ns, window.head_ns) > LAST_NS:
            raise ValueError("a window out of all time")
        return window


def packed_deadline_ns(packed: bytes) -> int:
    """`deadline_ns` of a packed window."""
    start_ns, length_ns = _TIMES.unpack_from(packed)
    return int(start_ns + length_ns * (2 if packed[_FLAGS_AT] & _ENDED else 1))


def is_over_at_its_deadline(packed: bytes) -> bool:
    """Whether nothing is left of a packed window at its deadline: it has ended before, or was never busy."""
    return packed[_FLAGS_AT] != _BUSY
