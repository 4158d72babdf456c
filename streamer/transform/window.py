"""One target's windows: which variants of which groups were shown lately, and what was counted instead.

Everything here is a function of the target's input: time is the target's own clock (`elapsed_ns`), and a window
ends where a line of the target passes its end. A window that has counted nothing is one short `bytes`: a million
of them fit where a million objects would not.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from struct import Struct
from typing import Final, NamedTuple

from streamer.transform.fingerprint import DIGEST_BYTES
from streamer.transform.queue import Queue
from streamer.transform.repeats import Repeats
from streamer.transform.stamp import LAST_NS, NEVER

HEAD_BYTES: Final = 17
"""The first half of a SHA-256 and an ordinal: what tells an alert's record id from others of its target."""
_PACKED: Final = Struct(f"<QQQBBI{HEAD_BYTES}s")
_BUSY, _ENDED = 1, 2
_LONGEST_NS: Final = 1 << 50  # 13 days
MOST_SHOWN: Final = 1000
"""How many variants a window remembers as shown. Beyond, it forgets the oldest, which are shown again if they come."""


class Window(NamedTuple):
    """A group's window: it begins with the alert that passed first and has a fixed length."""

    start_ns: int
    """When it began, by the target's clock."""
    length_ns: int
    head_ns: int
    """The time of the first alert's line."""
    level: int
    """How often it has grown."""
    busy: bool
    """Whether anything was counted in it."""
    ended: bool
    """Whether it is over, and kept only so that the group's next window can grow."""
    part: int
    """How many parts of summaries have reported it."""
    head: bytes
    """What tells the first alert's record id from others of the target."""
    shown: bytes
    """The variants that were published, or reported in a summary: one digest after the other, the oldest first."""

    @property
    def end_ns(self) -> int:
        """When it ends, by the target's clock."""
        return self.start_ns + self.length_ns

    @property
    def deadline_ns(self) -> int:
        """When it ends, or, of one that has ended, when it is forgotten.

        A group that comes back within one more length is still busy.
        """
        return self.end_ns + self.length_ns if self.ended else self.end_ns

    def has_shown(self, variant: bytes) -> bool:
        """Whether this variant was published or reported."""
        at = self.shown.find(variant)
        while at % DIGEST_BYTES and at > 0:  # found across two others
            at = self.shown.find(variant, at + 1)
        return at >= 0

    def showing(self, variants: bytes) -> Window:
        """The window after these variants were shown as well."""
        return self._replace(shown=(self.shown + variants)[-MOST_SHOWN * DIGEST_BYTES :])

    def pack(self) -> bytes:
        """The window in few bytes."""
        flags = (_BUSY if self.busy else 0) | (_ENDED if self.ended else 0)
        return (
            _PACKED.pack(self.start_ns, self.length_ns, self.head_ns, self.level, flags, self.part, self.head)
            + self.shown
        )

    @staticmethod
    def unpack(packed: bytes) -> Window:
        """The window again."""
        start, length, head_ns, level, flags, part, head = _PACKED.unpack_from(packed)
        shown = packed[_PACKED.size :]
        return Window(start, length, head_ns, level, flags & _BUSY > 0, flags & _ENDED > 0, part, head, shown)

    @staticmethod
    def read(packed: bytes) -> Window:
        """The window that was stored; raises `ValueError` or `struct.error` where it cannot be one."""
        window = Window.unpack(packed)
        if window.pack() != packed or len(window.shown) % DIGEST_BYTES:
            raise ValueError("a window of the wrong size, or with flags of its own")
        if window.length_ns > _LONGEST_NS or max(window.start_ns, window.head_ns) > LAST_NS:
            raise ValueError("a window out of all time")
        return window


@dataclass(slots=True)
class Windows:
    """The windows of one target, the one not used for longest first."""

    packed: dict[bytes, bytes] = field(default_factory=dict)
    """By group."""
    repeats: dict[bytes, Repeats] = field(default_factory=dict)
    """By group: what was counted and not yet reported."""
    packed_bytes: int = 0
    """The size of all packed windows."""
    evidence_bytes: int = 0
    """The size of all samples and variants' fields."""
    next_ns: int = field(default=NEVER, compare=False)
    """When a window ends next, or evidence is to be reported, by the target's clock."""
    dirty: dict[bytes, None] = field(default_factory=dict)
    """Groups whose windows the stored state does not yet hold as they are, in the order in which they changed."""
    counted: dict[bytes, None] = field(default_factory=dict)
    """Groups of whose repeats this is true."""
    reported: list[tuple[bytes, Repeats]] = field(default_factory=list)
    """What a summary has reported, which the state still holds."""
    _ends_ns: int = field(default=NEVER, compare=False)
    _evidence: list[tuple[int, bytes]] = field(default_factory=list, compare=False)
    # A heap of when evidence is due, by group. Entries that are no longer true are passed over.
    _queues: dict[tuple[int, bool], Queue] = field(default_factory=dict, compare=False)
    # By the windows' length and `ended`: within one queue, what came first ends first.

    def __len__(self) -> int:
        return len(self.packed)

    def get(self, group: bytes) -> Window | None:
        """A group's window."""
        repeats = self.repeats.get(group)
        if repeats is not None and repeats.window is not None:
            return repeats.window
        if (packed := self.packed.get(group)) is None:
            return None
        window = Window.unpack(packed)
        if repeats is not None:
            repeats.window = window
        return window

    def put(self, group: bytes, window: Window) -> None:
        """Open a window, or let one end."""
        self.packed_bytes -= len(self.packed.pop(group, b""))
        self.change(group, window)
        self._queue(group, window)

    def change(self, group: bytes, window: Window) -> None:
        """Note what else has become of a window; its times stay."""
        packed = window.pack()
        self.packed_bytes += len(packed) - len(self.packed.get(group, b""))
        self.packed[group] = packed
        self.dirty[group] = None
        if (repeats := self.repeats.get(group)) is not None:
            repeats.window = window

    def restore(self, windows: list[tuple[bytes, Window]]) -> None:
        """Put back what was stored."""
        for group, window in sorted(windows, key=lambda item: (item[1].start_ns, item[0])):
            self.packed[group] = window.pack()
        self.packed_bytes = sum(map(len, self.packed.values()))
        self.evidence_bytes = sum(repeats.evidence_bytes for repeats in self.repeats.values())
        for group, window in sorted(windows, key=lambda item: (item[1].deadline_ns, item[0])):
            self._queue(group, window)
        for group, repeats in self.repeats.items():
            if repeats.evidence_due_ns != NEVER:
                self.expect_evidence(group, repeats.evidence_due_ns)

    def touch(self, group: bytes) -> None:
        """Note that a window was used."""
        self.packed[group] = self.packed.pop(group)

    def take_repeats(self, group: bytes) -> Repeats | None:
        """What is to be reported of a group; from now on it counts as reported."""
        if (repeats := self.repeats.pop(group, None)) is not None:
            self.evidence_bytes -= repeats.evidence_bytes
            self.reported.append((group, repeats))
        return repeats

    def drop(self, group: bytes) -> None:
        """Forget a window; what it has counted must have been reported."""
        assert group not in self.repeats
        self.packed_bytes -= len(self.packed.pop(group, b""))
        self.dirty[group] = None

    def expect_evidence(self, group: bytes, due_ns: int) -> None:
        """Note by when a group's oldest variant that was not shown is to be reported, by the target's clock."""
        if len(self._evidence) > 2 * len(self.repeats) + 64:  # much was reported before it was due
            self._evidence = [entry for entry in self._evidence if self._is_expected(entry)]
            heapify(self._evidence)
        heappush(self._evidence, (due_ns, group))
        self.next_ns = min(self.next_ns, due_ns)

    def next_evidence(self, elapsed_ns: int) -> bytes | None:
        """The next group whose evidence is due by now; it must then be reported."""
        while self._evidence and not self._is_expected(self._evidence[0]):
            heappop(self._evidence)
        due_ns, group = self._evidence[0] if self._evidence else (NEVER, b"")
        self.next_ns = min(self._ends_ns, due_ns)
        return group if due_ns <= elapsed_ns else None

    def _is_expected(self, entry: tuple[int, bytes]) -> bool:
        repeats = self.repeats.get(entry[1])
        return repeats is not None and repeats.evidence_due_ns == entry[0]

    def next_ended(self, elapsed_ns: int) -> tuple[bytes, Window] | None:
        """The next window that has ended, or is to be forgotten, by now; it must then be put again or dropped."""
        first: tuple[int, bytes, Window, Queue] | None = None
        for key, queue in list(self._queues.items()):
            front = self._front(queue)
            if front is None:
                del self._queues[key]
            elif first is None or (front[1].deadline_ns, front[0]) < first[:2]:
                first = front[1].deadline_ns, *front, queue
        self._ends_ns = NEVER if first is None else first[0]
        if first is None or first[0] > elapsed_ns:
            return None
        _, group, window, queue = first
        queue.pop()
        return group, window

    def _queue(self, group: bytes, window: Window) -> None:
        key = window.length_ns, window.ended
        if (queue := self._queues.get(key)) is None:
            queue = self._queues[key] = Queue()
        elif len(queue) > 2 * len(self.packed) + 64:  # windows were evicted by the thousand
            queue.keep(lambda group, deadline_ns: self._valid(group, deadline_ns) is not None)
        deadline_ns = window.deadline_ns
        queue.append(group, deadline_ns)
        self._ends_ns = min(self._ends_ns, deadline_ns)
        self.next_ns = min(self.next_ns, deadline_ns)

    def _front(self, queue: Queue) -> tuple[bytes, Window] | None:
        """What ends next in a queue; windows that were evicted, or became others, are passed over."""
        while len(queue):
            group, deadline_ns = queue.front
            if (window := self._valid(group, deadline_ns)) is not None:
                return group, window
            queue.pop()
        return None

    def _valid(self, group: bytes, deadline_ns: int) -> Window | None:
        window = self.get(group)
        return window if window is not None and window.deadline_ns == deadline_ns else None
