"""Split a stream of bytes into lines, in bounded memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

from streamer.model import Oversize

KEPT_BYTES = 64 * 1024
"""What is kept of a line that is too long; the rest is only counted and hashed."""


@dataclass(slots=True)
class Lines:
    """Complete lines without their newline; `oversize` names, by index, those of which only a part is kept."""

    lines: list[bytes] = field(default_factory=list)
    oversize: dict[int, Oversize] = field(default_factory=dict)


class Splitter:
    """Cuts chunks of a stream at newlines and keeps the unfinished rest for the next chunk.

    A line of more than `max_line_bytes` is not stored: its first `KEPT_BYTES` (never more than `max_line_bytes`)
    stand for it, its length and its digest are known at its end. So memory stays below `max_line_bytes` plus one chunk.

    Neither the newline counts nor what `prefix_bytes` says stands before a line: others wrote that, and its length
    differs from node to node. It is asked only about lines of more than `max_line_bytes`, and sees their beginning.
    """

    __slots__ = ("_hash", "_head", "_max_line_bytes", "_prefix_bytes", "_rest", "_rest_bytes")

    def __init__(self, max_line_bytes: int, prefix_bytes: Callable[[bytes], int] = lambda _: 0) -> None:
        self._max_line_bytes = max_line_bytes
        self._prefix_bytes = prefix_bytes
        self._rest: list[bytes] = []  # joined only once its newline is there
        self._rest_bytes = 0
        self._head = b""
        self._hash: hashlib._Hash | None = None  # set while inside a line that is too long

    @property
    def unfinished(self) -> bytes:
        """What came after the last newline; of a line that is too long already, its beginning."""
        return self._head or b"".join(self._rest)

    def feed(self, chunk: bytes) -> Lines:
        """Take a chunk; return the lines it completes, perhaps none."""
        result = Lines()
        first, *more = chunk.split(b"\n")
        if not more:
            self._keep(first)
            return result
        if self._rest_bytes:
            self._keep(first)
            self._finish(result)
        else:
            more.insert(0, first)
        rest = more.pop()
        if len(chunk) > self._max_line_bytes and max(map(len, more), default=0) > self._max_line_bytes:
            for line in more:
                self._keep(line)
                self._finish(result)
        else:
            result.lines += more
        if rest:
            self._keep(rest)
        return result

    def finish(self) -> Lines:
        """Take what is left after the last newline as a line: only right where the log is known to have ended."""
        result = Lines()
        if self._rest_bytes:
            self._finish(result)
        return result

    def _keep(self, piece: bytes) -> None:
        self._rest_bytes += len(piece)
        if self._hash is not None:
            self._hash.update(piece)
            return
        self._rest.append(piece)
        if self._rest_bytes > self._max_line_bytes:
            start = b"".join(self._rest)
            if self._rest_bytes <= self._max_line_bytes + self._prefix_bytes(start):
                self._rest = [start]
                return
            self._hash = hashlib.sha256(start)
            self._head = start[: min(KEPT_BYTES, self._max_line_bytes)]
            self._rest.clear()

    def _finish(self, result: Lines) -> None:
        if self._hash is not None:
            result.oversize[len(result.lines)] = Oversize(self._rest_bytes, self._hash.digest())
            result.lines.append(self._head)
        else:
            result.lines.append(b"".join(self._rest))
        self._rest.clear()
        self._rest_bytes = 0
        self._head = b""
        self._hash = None
