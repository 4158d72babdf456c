"""How far a stream is behind its log, by the times of its lines.

Behind by two rotations, the kubelet's reader skips the file between them, and what it brings looks sound: lines in
order. Only their times tell. The kubelet looks at a log's size every 10 s, so such a file lasted that long: the
last line before the hole is as much older than the first one behind it, came as long after it was written, and
hardly before that one: where a log was silent for so long, so was its stream.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

_SECOND_NS = 1_000_000_000


class Lag:
    """One stream's. Its clock may differ from ours: the least that a line was late stands for not at all."""

    def __init__(self, last_ns: int | None, rotation_seconds: float) -> None:
        """`last_ns` is the time of the line before the stream's first; None at a log's beginning."""
        self._last_ns = last_ns
        self.late_seconds = 0.0
        """How long after it was written the last line came."""
        self._least_ns: float = inf
        self._came_ns = 0
        self._compared_ns: float = inf
        self._rotation_ns = int(rotation_seconds * _SECOND_NS)
        self._offset_ns: int | None = None

    @property
    def offset_ns(self) -> int:
        """How far our wall clock is ahead of the node's, the way to us included; 0 while no line has shown it."""
        return self._offset_ns or 0

    def lived(self, offset_ns: int) -> None:
        """A line came as soon as it was written, so much later by our wall clock than by the node's."""
        self._offset_ns = offset_ns if self._offset_ns is None else min(offset_ns, self._offset_ns)

    def compared(self, asked_at: float) -> None:
        """The log had no more than had come: the last line is not late, but the node's clock was set back.

        `asked_at` is when it was requested, by the clock of `hole`.
        """
        self.late_seconds = 0.0
        self._compared_ns = asked_at * _SECOND_NS

    def hole(self, times_ns: Sequence[int], *, now: float, behind_seconds: float) -> int | None:
        """Which of the next lines may be the first one behind a hole; the ones from it on are to be given again.

        `now` is by any clock of ours; `behind_seconds` is for how long there was always something to read.
        """
        now_ns, rotation_ns = int(now * _SECOND_NS), self._rotation_ns
        behind = behind_seconds * _SECOND_NS >= rotation_ns
        late_ns = inf if behind else now_ns - self._least_ns - rotation_ns  # lines up to this time are late
        one_ns, is_late = self._last_ns, behind or self.late_seconds * _SECOND_NS >= rotation_ns
        waited_ns = 0 if behind else now_ns - self._came_ns
        # What was written since the log was compared took no longer than that; more is a clock that was set forward.
        since_ns = now_ns - self._compared_ns + rotation_ns // 2
        most_ns = since_ns if self._came_ns >= self._compared_ns else inf
        if is_late or times_ns[0] <= late_ns:
            for index, next_ns in enumerate(times_ns):
                left_out_ns = 0 if one_ns is None else next_ns - one_ns
                if (
                    is_late
                    and rotation_ns <= left_out_ns <= most_ns
                    and left_out_ns - waited_ns >= rotation_ns // 2
                ):
                    self._last_ns = None
                    if index:
                        before_ns = times_ns[index - 1]
                        self.late_seconds = max(0.0, now_ns - self._least_ns - before_ns) / _SECOND_NS
                    return index
                one_ns, is_late, waited_ns = next_ns, next_ns <= late_ns, 0
        self._least_ns = min(self._least_ns, now_ns - times_ns[-1])
        self._last_ns, self._came_ns = times_ns[-1], now_ns
        self.late_seconds = (now_ns - times_ns[-1] - self._least_ns) / _SECOND_NS
        return None
