"""Whether a stream has caught up: by the times of its lines, and by when they came."""

from __future__ import annotations

import asyncio


class Pace:
    """Whether lines come as fast as they were written: then what was there when the log was opened is through."""

    def __init__(self, window_seconds: float) -> None:
        self._window_seconds = window_seconds
        self._clock = asyncio.get_running_loop().time
        self._since: tuple[float, int] | None = None

    def is_live(self, time_ns: int) -> bool:
        """Take the time of a line that has just come. Compared are two lines that came a window apart."""
        now = self._clock()
        if self._since is None:
            self._since = now, time_ns
        came_seconds = now - self._since[0]
        if came_seconds < self._window_seconds:
            return False
        written_seconds = (time_ns - self._since[1]) / 1_000_000_000
        self._since = now, time_ns
        return abs(written_seconds - came_seconds) <= came_seconds / 4
