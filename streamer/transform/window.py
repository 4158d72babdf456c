"""One target's windows: which groups passed lately, and what was counted instead of passed.

Everything here is a function of the target's input: time is the target's own clock (`elapsed_ns`), and a window
ends where a line of the target passes its end. A window that has counted nothing is one short `bytes`: a million
of them fit where a million objects would not.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from struct import Struct
from typing import Final, NamedTuple

from streamer.transform.fingerprint import DIGEST_BYTES

HEAD_BYTES: Final = 17
"""The first half of a SHA-256 and an ordinal: what tells an alert's record id from others of its target."""
_PACKED: Final = Struct("<QQQB??I17s")
NEVER: Final = 1 << 63


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
    """How many summaries have told of it."""
    head: bytes
    """What tells the first alert's record id from others of the target."""
    passed: bytes
    """The variants that have passed, one digest after the other."""

    @property
    def end_ns(self) -> int:
        """When it ends, by the target's clock."""
        return self.start_ns + self.length_ns

    @property
    def kept_until_ns(self) -> int:
        """When it is forgotten: a group that comes back within one more length is still busy."""
        return self.end_ns + self.length_ns if self.busy else self.end_ns

    def counts(self, variant: bytes, most_passed: int) -> bool:
        """Whether an alert of this variant is counted, not passed: its variant has passed, or enough others have."""
        passed = self.passed
        if len(passed) >= most_passed * DIGEST_BYTES:
            return True
        return any(passed[at : at + DIGEST_BYTES] == variant for at in range(0, len(passed), DIGEST_BYTES))

    def pack(self) -> bytes:
        """The window in few bytes."""
        return _PACKED.pack(*self[:8]) + self.passed

    @staticmethod
    def unpack(packed: bytes) -> Window:
        """The window again."""
        return Window._make((*_PACKED.unpack_from(packed), packed[_PACKED.size :]))


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
    stored: set[bytes] = field(default_factory=set)
    """The variants whose texts the state holds; with the empty name in it, the sample too."""

    @property
    def evidence_bytes(self) -> int:
        """The memory that the sample and the texts take, roughly."""
        return len(self.sample) + 200 * len(self.texts) + sum(map(len, self.texts.values()))


@dataclass(slots=True)
class Windows:
    """The windows of one target, the one not used for longest first."""

    packed: dict[bytes, bytes] = field(default_factory=dict)
    """By group."""
    repeats: dict[bytes, Repeats] = field(default_factory=dict)
    """By group: what was counted and not yet told."""
    next_ns: int = field(default=NEVER, compare=False)
    """When something ends next, by the target's clock."""
    dirty: dict[bytes, None] = field(default_factory=dict)
    """Groups that the state does not yet hold as they are, in the order in which they changed."""
    told: list[tuple[bytes, Repeats]] = field(default_factory=list)
    """What a summary has told, which the state still holds."""
    _queues: dict[tuple[int, bool], deque[bytes]] = field(default_factory=dict, compare=False)
    # Groups by their windows' length and `ended`: within one queue, what came first ends first.

    def __len__(self) -> int:
        return len(self.packed)

    def get(self, group: bytes) -> Window | None:
        """A group's window."""
        packed = self.packed.get(group)
        return None if packed is None else Window.unpack(packed)

    def put(self, group: bytes, window: Window) -> None:
        """Open a window, or let one end."""
        self.packed.pop(group, None)
        self.packed[group] = window.pack()
        self.dirty[group] = None
        self._queue(group, window)

    def change(self, group: bytes, window: Window) -> None:
        """Note what else has become of a window; its times stay."""
        self.packed[group] = window.pack()
        self.dirty[group] = None

    def restore(self, windows: list[tuple[bytes, Window]]) -> None:
        """Put back what was stored."""
        for group, window in sorted(windows, key=lambda item: (item[1].start_ns, item[0])):
            self.packed[group] = window.pack()
        for group, window in sorted(windows, key=lambda item: (_deadline(item[1]), item[0])):
            self._queue(group, window)

    def touch(self, group: bytes) -> None:
        """Note that a window was used."""
        self.packed[group] = self.packed.pop(group)

    def take_repeats(self, group: bytes) -> Repeats | None:
        """What is to be told of a group; from now on it counts as told."""
        if (repeats := self.repeats.pop(group, None)) is not None:
            self.dirty[group] = None
            self.told.append((group, repeats))
        return repeats

    def drop(self, group: bytes) -> None:
        """Forget a window; what it has counted must have been told."""
        assert group not in self.repeats
        self.packed.pop(group, None)
        self.dirty[group] = None

    def next_ended(self, elapsed_ns: int) -> tuple[bytes, Window] | None:
        """The next window that has ended, or is to be forgotten, by now; it must then be put again or dropped."""
        first: tuple[int, bytes, Window, deque[bytes]] | None = None
        for key, queue in list(self._queues.items()):
            window = self._front(key, queue)
            if window is None:
                del self._queues[key]
            elif first is None or (_deadline(window), queue[0]) < first[:2]:
                first = _deadline(window), queue[0], window, queue
        self.next_ns = NEVER if first is None else first[0]
        if first is None or first[0] > elapsed_ns:
            return None
        _, group, window, queue = first
        queue.popleft()
        return group, window

    def _queue(self, group: bytes, window: Window) -> None:
        self._queues.setdefault((window.length_ns, window.ended), deque()).append(group)
        self.next_ns = min(self.next_ns, _deadline(window))

    def _front(self, key: tuple[int, bool], queue: deque[bytes]) -> Window | None:
        """The window at a queue's front; groups whose window has meanwhile become another one are passed over."""
        while queue:
            window = self.get(queue[0])
            if window is not None and (window.length_ns, window.ended) == key:
                return window
            queue.popleft()
        return None


def _deadline(window: Window) -> int:
    return window.kept_until_ns if window.ended else window.end_ns
