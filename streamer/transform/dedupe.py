"""Deduplication: the first alert of a group passes at once, further variants up to a bound; the rest is counted.

Decisions depend on one target's input alone. What is counted leaves in summaries, made in `summary`.
"""

from __future__ import annotations

from itertools import islice
from typing import Any, Final

import orjson

from streamer.model import Alert
from streamer.transform.fingerprint import DIGEST_BYTES, Fingerprint
from streamer.transform.repeats import Repeats
from streamer.transform.state import ShardState, Tracked
from streamer.transform.treatment import DedupePlan, Treatment
from streamer.transform.window import Window, Windows

_MOST_VARIANTS: Final = 500
_MOST_EVIDENCE_BYTES: Final = 192 * 1024
"""A window that has counted so many distinct variants, or so long ones, tells of them at once: a summary stays well
below the size that Kafka takes by default."""
_TELLABLE_BYTES: Final = 8 * 1024
"""The longest alert that may be counted although nothing like it has passed: what tells it from others must fit a
summary whole. It is a bound on the alert, so that it depends on nothing else."""
_MOST_PASSED: Final = 100
"""How many variants a window remembers to have passed; further long ones pass each time, until a limit takes them."""
_SILENCE_NS: Final = 9 * 1_000_000_000
"""How long after a silent window's end it is told of, by our clock: with ticks of a second, within ten."""
_SAMPLE_BYTES: Final = 16 * 1024
_SAMPLE_FIELDS: Final = 64
_SAMPLE_TEXT: Final = 256


def counts(window: Window, variant: bytes, treatment: Treatment, alert: Alert) -> bool:
    """Whether an alert is counted, not passed: its variant has passed in this window, or enough others have."""
    if window.ended:
        return False
    if len(window.passed) >= treatment.most_passed * DIGEST_BYTES and len(alert.body) <= _TELLABLE_BYTES:
        return True
    return window.has_passed(variant)


class Deduplicator:
    """Keeps the windows of a shard's targets."""

    def __init__(self, plan: DedupePlan, state: ShardState) -> None:
        self._plan = plan
        self._state = state
        every = [tracked.windows for tracked in state.tracked.values()]
        self.open_windows = sum(map(len, every))
        self.evidence_bytes = sum(
            repeats.evidence_bytes for windows in every for repeats in windows.repeats.values()
        )
        self.next_due_ns = min(
            (repeats.due_ns for windows in every for repeats in windows.repeats.values()), default=1 << 63
        )

    def count(
        self,
        windows: Windows,
        window: Window,
        fingerprint: Fingerprint,
        treatment: Treatment,
        alert: Alert,
        elapsed_ns: int,
        now_ns: int,
    ) -> bool:
        """Count an alert instead of passing it; True if what its window has counted is to be told now."""
        group, variant = fingerprint
        due_ns = now_ns + window.start_ns + window.length_ns - elapsed_ns + _SILENCE_NS
        repeats = windows.repeats.get(group)
        if repeats is None:
            sample = _sample(alert)
            repeats = windows.repeats[group] = Repeats(
                sample, due_ns, alert.time_ns, evidence_bytes=len(sample)
            )
            self.evidence_bytes += len(sample)
            if not window.busy:
                windows.change(group, window._replace(busy=True))
        if due_ns <= repeats.due_ns:  # lines may come faster than our clock runs
            repeats.due_ns = due_ns
            self.next_due_ns = min(self.next_due_ns, due_ns)
        repeats.count += 1
        repeats.last_ns = alert.time_ns
        windows.touch(group)
        windows.counted[group] = None
        if variant in repeats.variants:
            repeats.variants[variant] += 1
            return False
        repeats.variants[variant] = 1
        known = _fields(repeats.sample) if repeats.count > 1 else None
        text = treatment.selection.variant_text(alert, known)
        repeats.texts[variant] = text
        repeats.fresh.append(variant)
        size = len(orjson.dumps(text))
        repeats.evidence_bytes += size
        self.evidence_bytes += size
        return len(repeats.variants) >= _MOST_VARIANTS or repeats.evidence_bytes >= _MOST_EVIDENCE_BYTES

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
        """Note that an alert has passed: as another variant of its group's window, or as the first of a new one."""
        group, variant = fingerprint
        if window is not None and not window.ended:
            if len(window.passed) < max(_MOST_PASSED, treatment.most_passed) * DIGEST_BYTES:
                windows.change(group, window._replace(passed=window.passed + variant))
            windows.touch(group)
            return
        level = 0 if window is None else min(window.level + 1, len(treatment.window_ns) - 1)
        length_ns = treatment.window_ns[level]
        self.open_windows += window is None
        windows.put(group, Window(elapsed_ns, length_ns, line_ns, level, False, False, 0, head, variant))

    def take_repeats(self, windows: Windows, group: bytes) -> Repeats | None:
        """What a window has counted and not told; it must be told now."""
        repeats = windows.take_repeats(group)
        if repeats is not None:
            self.evidence_bytes -= repeats.evidence_bytes
        return repeats

    def end(self, windows: Windows, group: bytes, window: Window) -> None:
        """Let a window end whose repeats were told: a busy one is remembered for another length."""
        if window.busy and not window.ended:
            windows.put(group, window._replace(ended=True))
        else:
            self.drop(windows, group)

    def drop(self, windows: Windows, group: bytes) -> None:
        """Forget a window whose repeats were told."""
        self.open_windows -= group in windows.packed
        windows.drop(group)

    def forget(self, tracked: Tracked) -> None:
        """A target is gone, with its windows; their repeats were told."""
        self.open_windows -= len(tracked.windows)

    def to_evict(self) -> tuple[Tracked, list[bytes]] | None:
        """The windows to forget where there are too many: of the target that has most, those not used for longest.

        So a flood on one node pushes out what was known of that node, and of no other.
        """
        if self.open_windows <= self._plan.max_windows:
            return None
        fullest = max(self._state.tracked.values(), key=lambda tracked: len(tracked.windows))
        return fullest, list(islice(fullest.windows.packed, max(1, len(fullest.windows) // 16)))

    def over_budget(self) -> tuple[Tracked, list[bytes]] | None:
        """The windows to tell of early where samples and texts take too much memory: of the target that has most."""
        if self.evidence_bytes <= self._plan.max_evidence_bytes:
            return None
        fullest = max(
            self._state.tracked.values(),
            key=lambda tracked: sum(r.evidence_bytes for r in tracked.windows.repeats.values()),
        )
        counted = fullest.windows.repeats
        return fullest, list(islice(counted, max(1, len(counted) // 4)))

    def due(self, until_ns: int, most_bytes: int | None = None) -> list[tuple[Tracked, bytes]]:
        """The windows that are to be told of by `until_ns` of our clock.

        With `most_bytes`, those whose samples and texts fit, but one at least; the others still are.
        """
        if self.next_due_ns > until_ns:
            return []
        found, self.next_due_ns, size = [], 1 << 63, 0
        for tracked in self._state.tracked.values():
            for group, repeats in tracked.windows.repeats.items():
                if repeats.due_ns <= until_ns and (most_bytes is None or size < most_bytes):
                    found.append((tracked, group))
                    size += repeats.evidence_bytes
                else:
                    self.next_due_ns = min(self.next_due_ns, repeats.due_ns)
        return found


def _fields(sample: bytes) -> dict[str, Any]:
    fields = orjson.loads(sample).get("output_fields")
    return fields if isinstance(fields, dict) else {}


def _sample(alert: Alert) -> bytes:
    """The alert as it is; a very long one with its long texts cut: it has to fit the state and a summary."""
    if len(alert.body) <= _SAMPLE_BYTES:
        return alert.body
    cut = {
        name: value[:_SAMPLE_TEXT] if isinstance(value, str) else value
        for name, value in islice(alert.fields.items(), _SAMPLE_FIELDS)
        if value is None or isinstance(value, str | int | float)
    }
    return orjson.dumps(
        {
            "hostname": alert.hostname[:_SAMPLE_TEXT],
            "output_fields": cut,
            "priority": alert.priority.name.capitalize(),
            "rule": alert.rule[:_SAMPLE_TEXT],
            "source": alert.source[:_SAMPLE_TEXT],
            "tags": [tag[:_SAMPLE_TEXT] for tag in alert.tags[:_SAMPLE_FIELDS]],
        }
    )
