"""How far a replay is: on a terminal a line that is rewritten, elsewhere a plain one now and then."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Final

_SAY_SECONDS: Final = 10.0
_REWRITE_SECONDS: Final = 0.2
_BAR: Final = 20


class Progress:
    """Lines, their rate and, where the files' sizes are known, the part that is done and the time left."""

    def __init__(
        self, out: IO[str], files: Sequence[str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._out = out
        self._terminal = out.isatty()
        self._clock = clock
        self._started_at = self._said_at = clock()
        self._sizes = [_size(name) for name in files]
        self._file = 0
        self._read = 0

    def at(self, read: int) -> None:
        """So many bytes of the present file are read."""
        self._read = read

    def end_file(self) -> None:
        """The next file begins."""
        self._file, self._read = self._file + 1, 0

    def show(self, lines: int) -> None:
        """Say it, if it is time to."""
        now = self._clock()
        if now - self._said_at < (_REWRITE_SECONDS if self._terminal else _SAY_SECONDS):
            return
        self._said_at = now
        text = self._text(lines, now - self._started_at)
        self._out.write(f"\r\x1b[K{text}" if self._terminal else f"replay: {text}\n")
        self._out.flush()

    def warn(self, text: str) -> None:
        """A line that stays."""
        self.end()
        self._out.write(f"warning: {text}\n")

    def end(self) -> None:
        """Leave the terminal's line free."""
        if self._terminal:
            self._out.write("\r\x1b[K")

    def _text(self, lines: int, seconds: float) -> str:
        rate = f"{lines:,} lines, {lines / seconds:,.0f} a second"
        known = [size for size in self._sizes if size is not None]
        if len(known) < len(self._sizes) or not sum(known):  # standard input has no end that is known
            return rate
        part = min(1.0, (sum(known[: self._file]) + self._read) / sum(known))
        if part <= 0:
            return rate
        left = round(seconds * (1 - part) / part)
        bar = f"[{'#' * round(part * _BAR):-<{_BAR}}] " if self._terminal else ""
        return f"{bar}{part:.0%}, {rate}, {left // 60}:{left % 60:02d} left"


def _size(name: str) -> int | None:
    path = Path(name)
    return path.stat().st_size if name != "-" and path.is_file() else None
