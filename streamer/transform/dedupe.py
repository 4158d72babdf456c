"""Deduplication: the first alert of a group passes at once, and so do further variants; the rest is counted.

Evidence is a variant that was not shown in its group's window: neither published nor reported in a summary. Of a
protected priority it passes, whatever it costs. Of the others a few variants pass, and any further one is reported
within the first length of `window_ns`. What is held back for longer are exact repeats of what was shown.

Decisions depend on one target's input alone. What is counted leaves in summaries, made in `summary`.
"""

from __future__ import annotations

from itertools import islice
from typing import Any, Final

import orjson

from streamer.model import Alert
from streamer.transform.fingerprint import DIGEST_BYTES, Fingerprint
from streamer.transform.repeats import Repeats, Variant
from streamer.transform.sample import sample_of, shortened
from streamer.transform.stamp import LAST_NS, NEVER
from streamer.transform.state import ShardState, Tracked
from streamer.transform.treatment import DedupePlan, Treatment
from streamer.transform.window import Window, Windows

_MOST_VARIANTS: Final = 500
_MOST_EVIDENCE_BYTES: Final = 192 * 1024
"""A window that has counted so many distinct variants, or so long ones, is reported at once: a summary stays well
below the size that Kafka takes by default."""
_REPORTABLE_BYTES: Final = 8 * 1024
"""The longest alert of a variant not shown yet that may be counted: what tells it from others must fit a summary
whole. It is a bound on the alert, so that it depends on nothing else."""
_WINDOW_BYTES: Final = 512
"""What a window may take on average, above all for the variants it has shown."""
_LEAST_WINDOW_BYTES: Final = 1024 * 1024
_SILENCE_NS: Final = 9 * 1_000_000_000
"""How long after it is due a silent target's evidence is reported, by our clock: with ticks of a second, within ten."""


class Deduplicator:
    """Keeps the windows of a shard's targets."""

    def __init__(self, plan: DedupePlan, state: ShardState) -> None:
        self._plan = plan
        self._state = state
        self._now_ns: int | None = None
        self._most_window_bytes = max(_LEAST_WINDOW_BYTES, plan.max_windows * _WINDOW_BYTES)
        every = [tracked.windows for tracked in state.tracked.values()]
        self.open_windows = sum(map(len, every))
        self.window_bytes = sum(windows.packed_bytes for windows in every)
        self.evidence_bytes = sum(windows.evidence_bytes for windows in every)
        self.next_due_ns = min(
            (repeats.due_ns for windows in every for repeats in windows.repeats.values()), default=NEVER
        )

    def follow(self, now_ns: int) -> list[Tracked]:
        """Keep up with our clock where it was set back, since the last call or while the state was stored.

        What is due stays due as soon as it was. Returns the targets of which this has changed something.
        """
        last_ns, self._now_ns = self._now_ns, now_ns
        if last_ns is not None and now_ns >= last_ns:
            return []
        changed = []
        for tracked in self._state.tracked.values():
            windows, before = tracked.windows, len(tracked.windows.counted)
            for group, repeats in windows.repeats.items():
                if last_ns is None:
                    window = windows.get(group)
                    assert window is not None
                    latest_ns = self._due_ns(window, repeats, tracked.position.elapsed_ns, now_ns)
                else:
                    latest_ns = max(0, repeats.due_ns - (last_ns - now_ns))
                if latest_ns < repeats.due_ns:
                    repeats.due_ns = latest_ns
                    windows.counted[group] = None
                    self.next_due_ns = min(self.next_due_ns, latest_ns)
            if len(windows.counted) > before:
                changed.append(tracked)
        return changed

    def counts(
        self, windows: Windows, window: Window, fingerprint: Fingerprint, treatment: Treatment, alert: Alert
    ) -> bool:
        """Whether an alert is counted, not published: a repeat of what was shown, or a variant after many others."""
        group, variant, coarse = fingerprint
        if window.ended:
            return False
        if window.has_shown(variant):
            return True
        if treatment.passes_all_variants:
            return False
        if treatment.learns:
            if not window.has_shown(coarse):
                return False
        elif len(window.shown) < treatment.most_passed * DIGEST_BYTES:
            return False
        if len(alert.body) <= _REPORTABLE_BYTES:
            return True
        # Its like may have been reported by now or not: by our clock, which must decide about nothing.
        repeats = windows.repeats.get(group)
        return repeats is not None and variant in repeats.variants

    def count(
        self,
        windows: Windows,
        window: Window,
        fingerprint: Fingerprint,
        treatment: Treatment,
        alert: Alert,
        elapsed_ns: int,
        line_ns: int,
        now_ns: int,
    ) -> bool:
        """Count an alert instead of publishing it; True if what its window has counted is to be reported now."""
        group, digest, _ = fingerprint
        repeats = windows.repeats.get(group)
        variant = None if repeats is None else repeats.variants.get(digest)
        if repeats is None or variant is None:
            selection = treatment.selection
            if repeats is None:
                group_id = selection.group_id(self._state.cluster, alert)
                repeats = windows.repeats[group] = Repeats(sample_of(alert), group_id, NEVER)
                self._add_evidence(windows, repeats, len(repeats.sample))
                if not window.busy:
                    windows.change(group, window._replace(busy=True))
            variant = Variant(
                selection.variant_id(repeats.group_id, alert),
                _difference(alert, repeats, treatment),
                is_new=not window.has_shown(digest),
            )
            repeats.variants[digest] = variant
            repeats.fresh.append(digest)
            self._add_evidence(windows, repeats, len(orjson.dumps(variant.fields)))
            if variant.is_new:
                evidence_due_ns = min(elapsed_ns + treatment.window_ns[0], LAST_NS)
                if evidence_due_ns < repeats.evidence_due_ns:  # the first one, or the settings are others now
                    repeats.evidence_due_ns = evidence_due_ns
                    windows.expect_evidence(group, evidence_due_ns)
        due_ns = self._due_ns(window, repeats, elapsed_ns, now_ns)
        if due_ns < repeats.due_ns:  # lines may come faster than our clock runs
            repeats.due_ns = due_ns
            self.next_due_ns = min(self.next_due_ns, due_ns)
        variant.add(alert.time_ns)
        repeats.count += 1
        repeats.line_ns = line_ns
        windows.touch(group)
        windows.counted[group] = None
        return len(repeats.variants) >= _MOST_VARIANTS or repeats.evidence_bytes >= _MOST_EVIDENCE_BYTES

    @staticmethod
    def _due_ns(window: Window, repeats: Repeats, elapsed_ns: int, now_ns: int) -> int:
        """When a target that says no more is to be reported, by our clock."""
        remaining_ns = min(window.end_ns, repeats.evidence_due_ns) - elapsed_ns
        return min(now_ns + max(0, remaining_ns) + _SILENCE_NS, LAST_NS)

    def _add_evidence(self, windows: Windows, repeats: Repeats, size: int) -> None:
        repeats.evidence_bytes += size
        windows.evidence_bytes += size
        self.evidence_bytes += size

    def passed(
        self,
        windows: Windows,
        window: Window | None,
        fingerprint: Fingerprint,
        treatment: Treatment,
        head: bytes,
        elapsed_ns: int,
        line_ns: int,
    ) -> None:
        """Note that an alert was published: as another variant of its group's window, or as the first of a new one."""
        group, shown = fingerprint.group, fingerprint.variant + fingerprint.coarse
        before = windows.packed_bytes
        if window is not None and not window.ended:
            windows.change(group, window.showing(shown))
            windows.touch(group)
        else:
            level = 0 if window is None else min(window.level + 1, len(treatment.window_ns) - 1)
            length_ns = treatment.window_ns[level]
            self.open_windows += window is None
            windows.put(group, Window(elapsed_ns, length_ns, line_ns, level, False, False, 0, head, shown))
        self.window_bytes += windows.packed_bytes - before

    def take_repeats(self, windows: Windows, group: bytes) -> Repeats | None:
        """What a window has counted and not reported; it must be reported now."""
        repeats = windows.take_repeats(group)
        if repeats is not None:
            self.evidence_bytes -= repeats.evidence_bytes
        return repeats

    def reported(self, windows: Windows, group: bytes, window: Window, repeats: Repeats) -> None:
        """Note that a part of a summary has reported these: their variants were shown."""
        before = windows.packed_bytes
        windows.change(group, window.showing(repeats.new_variants())._replace(part=window.part + 1))
        self.window_bytes += windows.packed_bytes - before

    def end(self, windows: Windows, group: bytes, window: Window) -> None:
        """Let a window end whose repeats were reported: a busy one is remembered for another length."""
        if window.busy and not window.ended:
            before = windows.packed_bytes
            windows.put(group, window._replace(ended=True, shown=b""))
            self.window_bytes += windows.packed_bytes - before
        else:
            self.drop(windows, group)

    def drop(self, windows: Windows, group: bytes) -> None:
        """Forget a window whose repeats were reported."""
        self.open_windows -= group in windows.packed
        before = windows.packed_bytes
        windows.drop(group)
        self.window_bytes += windows.packed_bytes - before

    def forget(self, tracked: Tracked) -> None:
        """A target is gone, with its windows; their repeats were reported."""
        self.open_windows -= len(tracked.windows)
        self.window_bytes -= tracked.windows.packed_bytes

    def to_evict(self) -> tuple[Tracked, list[bytes]] | None:
        """The windows to forget where there are too many: of the target that has most, those not used for longest.

        So a flood on one node pushes out what was known of that node, and of no other.
        """
        if self.open_windows > self._plan.max_windows:
            fullest = max(self._state.tracked.values(), key=lambda tracked: len(tracked.windows))
        elif self.window_bytes > self._most_window_bytes:
            fullest = max(self._state.tracked.values(), key=lambda tracked: tracked.windows.packed_bytes)
        else:
            return None
        return fullest, list(islice(fullest.windows.packed, max(1, len(fullest.windows) // 16)))

    def over_budget(self) -> tuple[Tracked, list[bytes]] | None:
        """The windows to report early where samples and fields take too much memory: of the target that has most."""
        if self.evidence_bytes <= self._plan.max_evidence_bytes:
            return None
        fullest = max(self._state.tracked.values(), key=lambda tracked: tracked.windows.evidence_bytes)
        counted = fullest.windows.repeats
        return fullest, list(islice(counted, max(1, len(counted) // 4)))

    def due(self, until_ns: int, most_bytes: int | None = None) -> list[tuple[Tracked, bytes]]:
        """The windows that are to be reported by `until_ns` of our clock.

        With `most_bytes`, those whose samples and fields fit, but one at least; the others still are.
        """
        if self.next_due_ns > until_ns:
            return []
        found, self.next_due_ns, size = [], NEVER, 0
        for tracked in self._state.tracked.values():
            for group, repeats in tracked.windows.repeats.items():
                if repeats.due_ns <= until_ns and (most_bytes is None or size < most_bytes):
                    found.append((tracked, group))
                    size += repeats.evidence_bytes
                else:
                    self.next_due_ns = min(self.next_due_ns, repeats.due_ns)
        return found


def _difference(alert: Alert, repeats: Repeats, treatment: Treatment) -> dict[str, Any]:
    """The evidence in which an alert that is to be counted differs from the sample."""
    if not repeats.variants:  # it is the sample
        return {}
    found = treatment.selection.difference(alert, repeats.sample_fields)
    # A longer one is counted only where its like was shown already.
    return found if len(alert.body) <= _REPORTABLE_BYTES else shortened(found)
