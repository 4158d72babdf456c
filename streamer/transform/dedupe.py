"""Deduplication: the first alert of a group passes at once, and so do further variants; the rest is counted.

Evidence is a variant that was not shown in its group's window: neither published nor reported in a summary. Of a
protected priority it passes, whatever it costs. Of the others a few variants pass, and any further one is reported
within the first length of `window_ns`. What is held back for longer are exact repeats of what was shown.

Decisions depend on one target's input alone. What is counted leaves in summaries, made in `summary`.
"""

from __future__ import annotations

from itertools import islice
from operator import itemgetter
from typing import Any, Final

import orjson

from streamer.model import Alert
from streamer.transform.fingerprint import DIGEST_BYTES, Fingerprint
from streamer.transform.repeats import Repeats, Variant
from streamer.transform.sample import sample_of, shortened
from streamer.transform.stamp import LAST_NS
from streamer.transform.state import ShardState, TargetState
from streamer.transform.treatment import DedupePlan, Treatment
from streamer.transform.window import Window
from streamer.transform.windows import Windows

_MOST_VARIANTS: Final = 500
_MOST_EVIDENCE_BYTES: Final = 192 * 1024
"""A window that has counted so many distinct variants, or so long ones, is reported at once: a summary stays well
below the size that Kafka takes by default."""
_REPORTABLE_BYTES: Final = 8 * 1024
"""The longest alert of a variant not shown yet that may be counted: what distinguishes it must fit a summary whole. It
is a bound on the alert, so that it depends on nothing else."""
_WINDOW_BYTES: Final = 512
"""What a window may take on average, above all for the variants it has shown."""
_LEAST_WINDOW_BYTES: Final = 1024 * 1024


class Deduplicator:
    """Decides about a shard's alerts, and keeps its windows within bounds."""

    def __init__(self, plan: DedupePlan, state: ShardState) -> None:
        self._plan = plan
        self._state = state
        self._usage = state.usage
        self._now_ns: int | None = None
        self._most_window_bytes = max(_LEAST_WINDOW_BYTES, plan.max_windows * _WINDOW_BYTES)

    def follow(self, now_ns: int) -> None:
        """Keep up with our clock where it was set back, since the last call or while the state was stored.

        What is due stays due as soon as it was.
        """
        last_ns, self._now_ns = self._now_ns, now_ns
        if last_ns is not None and now_ns >= last_ns:
            return
        for tracked in self._state.tracked.values():
            for window in tracked.windows.counting.values():
                repeats = _repeats(window)
                if last_ns is None:
                    elapsed_ns = tracked.position.elapsed_ns
                    tracked.windows.due_at_latest(window, repeats, elapsed_ns, now_ns)
                else:
                    earlier_ns = max(0, repeats.due_ns - (last_ns - now_ns))
                    tracked.windows.set_due(window, repeats, earlier_ns)

    def counts(self, window: Window, fingerprint: Fingerprint, treatment: Treatment, alert: Alert) -> bool:
        """Whether an alert is counted, not published: a repeat of what was shown, or a variant after many others."""
        if window.ended:
            return False
        variant = fingerprint.variant
        if window.has_shown(variant):
            return True
        if treatment.passes_all_variants:
            return False
        if treatment.learns:
            if not window.has_shown(fingerprint.coarse):
                return False
        elif len(window.shown) < treatment.most_passed * DIGEST_BYTES:
            return False
        if len(alert.body) <= _REPORTABLE_BYTES:
            return True
        # Its like may have been reported by now or not: by our clock, which must decide about nothing.
        return window.repeats is not None and variant in window.repeats.variants

    def count(
        self,
        windows: Windows,
        window: Window,
        digest: bytes,
        treatment: Treatment,
        alert: Alert,
        line_ns: int,
        elapsed_ns: int,
    ) -> bool:
        """Count an alert instead of publishing it; True if what its window has counted is to be reported now."""
        repeats = window.repeats
        variant = None if repeats is None else repeats.variants.get(digest)
        if repeats is None or variant is None:
            selection = treatment.selection
            if repeats is None:
                group_id = selection.group_id(self._state.cluster, alert)
                repeats = windows.begin_repeats(window, sample_of(alert), group_id)
            variant = Variant(
                selection.variant_id(repeats.group_id, alert),
                _difference(alert, repeats, treatment),
                is_new=not window.has_shown(digest),
            )
            evidence_due_ns = min(elapsed_ns + treatment.window_ns[0], LAST_NS)
            windows.begin_variant(window, digest, variant, len(orjson.dumps(variant.fields)), evidence_due_ns)
        windows.count(window, digest, variant, alert.time_ns, line_ns, elapsed_ns)
        return len(repeats.variants) >= _MOST_VARIANTS or repeats.evidence_bytes >= _MOST_EVIDENCE_BYTES

    @staticmethod
    def passed(
        windows: Windows,
        window: Window | None,
        fingerprint: Fingerprint,
        treatment: Treatment,
        head: bytes,
        elapsed_ns: int,
        line_ns: int,
    ) -> None:
        """Note that an alert was published: as another variant of its group's window, or as the first of a new one."""
        shown = fingerprint.variant + fingerprint.coarse
        if window is not None and not window.ended:
            windows.show(window, shown)
        else:
            level = 0 if window is None else min(window.level + 1, len(treatment.window_ns) - 1)
            length_ns = treatment.window_ns[level]
            windows.open(Window(fingerprint.group, elapsed_ns, length_ns, line_ns, level, head, shown))

    def to_evict(self) -> tuple[TargetState, list[bytes]] | None:
        """The windows to forget where there are too many: of the target that has most, those not used for longest.

        So a flood on one node pushes out what was known of that node, and of no other.
        """
        if self._usage.windows > self._plan.max_windows:
            fullest = max(self._state.tracked.values(), key=lambda tracked: len(tracked.windows))
        elif self._usage.window_bytes > self._most_window_bytes:
            fullest = max(self._state.tracked.values(), key=lambda tracked: tracked.windows.window_bytes)
        else:
            return None
        return fullest, list(islice(fullest.windows, max(1, len(fullest.windows) // 16)))

    def over_budget(self) -> tuple[TargetState, list[bytes]] | None:
        """The windows to report early where samples and fields take too much memory: of the target that has most."""
        if self._usage.evidence_bytes <= self._plan.max_evidence_bytes:
            return None
        fullest = max(self._state.tracked.values(), key=lambda tracked: tracked.windows.evidence_bytes)
        counting = fullest.windows.counting
        return fullest, list(islice(counting, max(1, len(counting) // 4)))

    def due(self, until_ns: int, most_bytes: int | None = None) -> list[tuple[TargetState, Window]]:
        """The windows that are to be reported by `until_ns` of our clock, of each target in the order of their counts.

        With `most_bytes`, those whose samples and fields fit, but one at least; the others still are.
        """
        tracked = self._state.tracked
        found: list[tuple[int, int, TargetState, Window]] = []
        while (place := self._state.next_silent(until_ns)) is not None:
            target = tracked[place[0]]
            window = target.windows.counting[place[1]]
            found.append((target.number, _repeats(window).number, target, window))
        found.sort(key=itemgetter(0, 1))
        taken, size = list[tuple[TargetState, Window]](), 0
        for _, _, target, window in found:
            if most_bytes is None or size < most_bytes:
                taken.append((target, window))
                size += _repeats(window).evidence_bytes
            else:
                self._state.silent.add((target.name, window.group), _repeats(window).due_ns)
        return taken


def _repeats(window: Window) -> Repeats:
    assert window.repeats is not None
    return window.repeats


def _difference(alert: Alert, repeats: Repeats, treatment: Treatment) -> dict[str, Any]:
    """The evidence in which an alert that is to be counted differs from the sample."""
    if not repeats.variants:  # it is the sample
        return {}
    found = treatment.selection.difference(alert, repeats.sample_fields)
    # A longer one is counted only where its like was shown already.
    return found if len(alert.body) <= _REPORTABLE_BYTES else shortened(found)
