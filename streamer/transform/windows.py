"""A window's life, from the first alert of its group to its tombstone.

A window begins with the first alert of a group that is published, and has a fixed length by its target's clock
(`elapsed_ns`), which a line moves: nothing here depends on when we read.

    state     in memory          an alert of its group is                  left by
    --------  -----------------  ----------------------------------------  ------------------------------------------
    (none)    nothing            published, and opens it                   `open`
    open      packed             published (`show`) or counted             `count` -> counting; `end` -> ended, or gone
    counting  live, with         published (`show`) or counted (`count`)   `report` -> open; `report`, `end` -> ended
              `Repeats`
    ended     packed             published, and opens the next one,        `open`, one level longer; `end` -> gone
                                 which is longer
    gone      nothing, and a     published, and opens one                  `open`
              tombstone

`Deduplicator` decides whether an alert is published or counted (`counts`), and `Writer` when what was counted is
reported: when evidence is due, at the window's end, when its target is silent, and where memory is short. A window
that has ever counted anything is kept for another length after its end, so that the next one can be longer; another is
gone at its end. A bound on memory and another plan end a window at any time (`drop`), and a target that is gone takes
its windows along (`clear`).

What each step changes goes into the journal, which is emptied when a transaction is sealed: `window/` is written when
a window opens, shows or ends, `sample/` and `variant/` once each, `repeats/` with the counts, and each is deleted when
it is over. Windows that count nothing are packed then: a million of them fit where a million objects would not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from streamer.transform.deadlines import Deadlines
from streamer.transform.journal import Journal
from streamer.transform.repeats import Repeats, Variant
from streamer.transform.stamp import LAST_NS, NEVER
from streamer.transform.window import Window, is_over_at_its_deadline, packed_deadline_ns

_SILENCE_NS: Final = 9 * 1_000_000_000
"""How long after it is due a silent target's evidence is reported, by our clock: with ticks of a second, within ten."""


class Usage:
    """How much all windows of a shard take."""

    __slots__ = ("counting", "evidence_bytes", "window_bytes", "windows")

    def __init__(self) -> None:
        self.windows = 0
        self.counting = 0
        """Those that have counted something since they were last reported."""
        self.window_bytes = 0
        """Of all of them when they are packed."""
        self.evidence_bytes = 0
        """Of samples and variants' fields."""


class Windows:  # noqa: PLW1641 -- they change
    """The windows of one target, the one not used for longest first."""

    __slots__ = (
        "_ends",
        "_every",
        "_evidence",
        "_journal",
        "_name",
        "_numbers",
        "_silent",
        "_usage",
        "counting",
        "evidence_bytes",
        "next_ns",
        "window_bytes",
    )

    def __init__(
        self, name: str, journal: Journal, usage: Usage, silent: Deadlines[tuple[str, bytes]]
    ) -> None:
        """`name` is the `Target.id`; `silent` has when what targets have counted is due by our clock."""
        self.counting: dict[bytes, Window] = {}
        """By group: those that have counted something since they were last reported, in that order."""
        self.window_bytes = 0
        self.evidence_bytes = 0
        self.next_ns = NEVER
        """No window ends, and no evidence is to be reported, before this time by the target's clock."""
        self._name = name
        self._journal = journal
        self._usage = usage
        self._silent = silent
        self._every: dict[bytes, Window | bytes] = {}
        self._ends = Deadlines[bytes]()
        self._evidence = Deadlines[bytes]()
        self._numbers = 0

    def __len__(self) -> int:
        return len(self._every)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Windows) and self.stored() == other.stored()

    def __iter__(self) -> Iterator[bytes]:
        """The groups."""
        return iter(self._every)

    @property
    def counted(self) -> int:
        """How many alerts were counted and not reported."""
        return sum(one.repeats.count for one in self.counting.values() if one.repeats is not None)

    def get(self, group: bytes) -> Window | None:
        """A group's window."""
        found = self._every.get(group)
        return Window.unpack(group, found) if isinstance(found, bytes) else found

    def open(self, window: Window) -> None:
        """A group's first alert was published: begin its window, in place of one that has ended."""
        window.is_stored = self._forget(window.group)
        self._add(window)

    def show(self, window: Window, variants: bytes) -> None:
        """Another alert was published: note its variant, and use the window."""
        self._show(window, variants)
        self._use(window)

    def count(
        self, window: Window, digest: bytes, variant: Variant, time_ns: int, line_ns: int, elapsed_ns: int
    ) -> None:
        """Count an alert at `time_ns`, of which the line came at `line_ns`, by the target's clock at `elapsed_ns`."""
        repeats = window.repeats
        assert repeats is not None
        if not variant.count:
            variant.first_ns = variant.last_ns = time_ns
            self._journal.put(("variant", self._name, window.group + digest), variant)
        elif time_ns > variant.last_ns:
            variant.last_ns = time_ns
        elif time_ns < variant.first_ns:
            variant.first_ns = time_ns
        variant.count += 1
        repeats.count += 1
        repeats.line_ns = line_ns
        window.counted_ns = elapsed_ns
        group = window.group
        del self._every[group]
        self._every[group] = window
        if not window.is_counted:
            window.is_counted = True
            self._journal.put(("repeats", self._name, group), window)

    def begin_repeats(self, window: Window, sample: bytes, group_id: bytes) -> Repeats:
        """A window counts its first alert since it was reported."""
        self._numbers += 1
        repeats = window.repeats = Repeats(sample, group_id, self._numbers)
        self.counting[window.group] = window
        self._usage.counting += 1
        self._use(window)
        self._journal.put(("sample", self._name, window.group), repeats)
        self._add_evidence(len(sample))
        if not window.busy:
            window.busy = True
            self._note(window)
        return repeats

    def begin_variant(
        self, window: Window, digest: bytes, variant: Variant, size: int, evidence_due_ns: int
    ) -> None:
        """A window is about to count a variant that it had not counted; its fields have a size as JSON.

        One that it had not shown is to be reported at `evidence_due_ns`, by the target's clock.
        """
        repeats = window.repeats
        assert repeats is not None
        repeats.variants[digest] = variant
        repeats.evidence_bytes += size
        self._add_evidence(size)
        if (
            variant.is_new and evidence_due_ns < repeats.evidence_due_ns
        ):  # the first, or the settings are others
            repeats.evidence_due_ns = evidence_due_ns
            self._expect_evidence(window.group, evidence_due_ns)

    def report(self, window: Window, *, shows: bool) -> Repeats | None:
        """What a window has counted and not reported; it must be reported now, and with `shows` was shown by that."""
        repeats = window.repeats
        if repeats is None:
            return None
        group = window.group
        window.repeats, window.is_counted = None, False
        del self.counting[group]
        self._usage.counting -= 1
        self._add_evidence(-repeats.evidence_bytes)
        gone = self._journal.delete if repeats.is_stored else self._journal.cancel
        gone(("repeats", self._name, group))
        gone(("sample", self._name, group))
        for digest, variant in repeats.variants.items():
            gone = self._journal.delete if variant.is_stored else self._journal.cancel
            gone(("variant", self._name, group + digest))
        if shows:
            window.part += 1
            self._show(window, repeats.new_variants())
        self._note(window)
        return repeats

    def end(self, window: Window) -> None:
        """Let a window end whose repeats were reported: one that was busy is remembered for another length."""
        self._forget(window.group)
        if window.busy and not window.ended:
            window.ended, window.shown = True, bytearray()
            self._add(window)
        else:
            self._delete(window)

    def drop(self, group: bytes) -> None:
        """Forget a window whose repeats were reported."""
        if (window := self.get(group)) is not None:
            assert window.repeats is None
            self._forget(group)
            self._delete(window)

    def clear(self) -> None:
        """The target is gone; what was counted must have been reported."""
        for group in list(self._every):
            self.drop(group)

    def next_ended(self, elapsed_ns: int) -> Window | None:
        """The next window that has ended by now; it must be reported and ended. Those to be forgotten are forgotten."""
        while (group := self._ends.pop(elapsed_ns, self._deadline_ns)) is not None:
            found = self._every[group]
            if isinstance(found, Window) or not is_over_at_its_deadline(found):
                break
            self._forget(group)
            self._journal.delete(("window", self._name, group))
        self._look_ahead()
        return None if group is None else self.get(group)

    def next_evidence(self, elapsed_ns: int) -> Window | None:
        """The next window whose evidence is due by now; it must be reported."""
        group = self._evidence.pop(elapsed_ns, self._evidence_due_ns)
        self._look_ahead()
        return None if group is None else self.counting[group]

    def due_ns(self, group: bytes) -> int:
        """When a window is to be reported by our clock; never if it counts nothing."""
        window = self.counting.get(group)
        return NEVER if window is None or window.repeats is None else window.repeats.due_ns

    def due_at_latest(self, window: Window, repeats: Repeats, elapsed_ns: int, now_ns: int) -> None:
        """Report a window by our clock when it would be due by the target's, if the target says no more."""
        remaining_ns = min(window.end_ns, repeats.evidence_due_ns) - elapsed_ns
        due_ns = min(now_ns + max(0, remaining_ns) + _SILENCE_NS, LAST_NS)
        if due_ns < repeats.due_ns:  # lines may come faster than our clock runs
            self.set_due(window, repeats, due_ns)

    def set_due(self, window: Window, repeats: Repeats, due_ns: int) -> None:
        """Report a window at a time by our clock."""
        repeats.due_ns = due_ns
        self._silent.add((self._name, window.group), due_ns)
        if not window.is_counted:
            self._journal.put(("repeats", self._name, window.group), window)

    def settle(self, window: Window) -> bytes:
        """A window is stored as it is: pack it where it counts nothing."""
        window.is_stored = True
        packed = window.pack()
        if window.repeats is None and window.group in self._every:
            self._every[window.group] = packed
        return packed

    def restore(self, windows: Iterable[Window]) -> None:
        """Put back what was stored; those with `repeats` count."""
        found = sorted(windows, key=lambda window: (window.start_ns, window.group))
        for window in found:
            window.is_stored = True
            self._usage.windows += 1
            self._every[window.group] = window.pack() if window.repeats is None else window
            self._grow(window.size_bytes)
            self._expect_end(window)
            if (repeats := window.repeats) is not None:
                repeats.is_stored = True
                self._add_evidence(repeats.evidence_bytes)
                for variant in repeats.variants.values():
                    variant.is_stored = True
        counting = [window for window in found if window.repeats is not None]
        for window in sorted(counting, key=_number):
            assert window.repeats is not None
            self._numbers += 1
            window.repeats.number = self._numbers
            self.counting[window.group] = window
            self._usage.counting += 1
            self._silent.add((self._name, window.group), window.repeats.due_ns)
            if window.repeats.evidence_due_ns != NEVER:
                self._expect_evidence(window.group, window.repeats.evidence_due_ns)

    def stored(self) -> dict[bytes, tuple[object, ...]]:
        """All windows as they are stored."""
        found: dict[bytes, tuple[object, ...]] = {}
        for group in self._every:
            window = self.get(group)
            assert window is not None
            found[group] = (window.pack(),)
            if (repeats := window.repeats) is not None:
                variants = {name: (one.id, one.fields, one.is_new) for name, one in repeats.variants.items()}
                found[group] += repeats.pack(), repeats.sample, repeats.group_id, variants
        return found

    def _add(self, window: Window) -> None:
        self._usage.windows += 1
        self._every[window.group] = window
        self._grow(window.size_bytes)
        self._expect_end(window)
        self._note(window)

    def _forget(self, group: bytes) -> bool:
        """Take a window out; True if it was stored."""
        found = self._every.pop(group, None)
        if found is None:
            return False
        self._usage.windows -= 1
        if isinstance(found, bytes):
            self._grow(-len(found))
            return True
        self._grow(-found.size_bytes)
        return found.is_stored

    def _delete(self, window: Window) -> None:
        place = ("window", self._name, window.group)
        if window.is_stored:
            self._journal.delete(place)
        else:
            self._journal.cancel(place)

    def _show(self, window: Window, variants: bytes) -> None:
        before = window.size_bytes
        window.show(variants)
        self._grow(window.size_bytes - before)
        self._note(window)

    def _note(self, window: Window) -> None:
        self._every[window.group] = window
        self._journal.put(("window", self._name, window.group), window)

    def _use(self, window: Window) -> None:
        del self._every[window.group]
        self._every[window.group] = window

    def _grow(self, size: int) -> None:
        self.window_bytes += size
        self._usage.window_bytes += size

    def _add_evidence(self, size: int) -> None:
        self.evidence_bytes += size
        self._usage.evidence_bytes += size

    def _expect_end(self, window: Window) -> None:
        if len(self._ends) > 2 * len(self._every) + 64:  # windows were evicted by the thousand
            self._ends.renew(self._every, self._deadline_ns)
        else:
            self._ends.add(window.group, window.deadline_ns)
        self._look_ahead()

    def _expect_evidence(self, group: bytes, due_ns: int) -> None:
        if len(self._evidence) > 2 * len(self.counting) + 64:  # much was reported before it was due
            self._evidence.renew(self.counting, self._evidence_due_ns)
        else:
            self._evidence.add(group, due_ns)
        self._look_ahead()

    def _look_ahead(self) -> None:
        self.next_ns = min(self._ends.next_ns, self._evidence.next_ns)

    def _deadline_ns(self, group: bytes) -> int:
        found = self._every.get(group)
        if found is None:
            return -1
        if isinstance(found, Window):
            return found.deadline_ns
        return packed_deadline_ns(found)

    def _evidence_due_ns(self, group: bytes) -> int:
        window = self.counting.get(group)
        return -1 if window is None or window.repeats is None else window.repeats.evidence_due_ns


def _number(window: Window) -> int:
    return 0 if window.repeats is None else window.repeats.number
