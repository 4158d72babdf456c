"""From a log stream's bytes to lines with their times."""

from __future__ import annotations

from dataclasses import dataclass, field

from streamer.model import Oversize
from streamer.transform.split import Lines, Splitter
from streamer.transform.stamp import StampReader, stamp_bytes


@dataclass(slots=True)
class StampedLines:
    """Lines that begin with a valid timestamp, and these timestamps.

    `fragments` counts pieces without one: the headless end of a long line at the start of a tail, or error text
    that the kubelet wrote into the body. They are not lines.
    """

    lines: list[bytes] = field(default_factory=list)
    times_ns: list[int] = field(default_factory=list)
    oversize: dict[int, Oversize] = field(default_factory=dict)
    fragments: int = 0

    def extend(self, more: StampedLines) -> None:
        """Append what came later."""
        at = len(self.lines)
        self.lines += more.lines
        self.times_ns += more.times_ns
        self.oversize |= {at + index: known for index, known in more.oversize.items()}
        self.fragments += more.fragments

    def before(self, count: int) -> StampedLines:
        """The first `count` lines."""
        kept = {index: known for index, known in self.oversize.items() if index < count}
        return StampedLines(self.lines[:count], self.times_ns[:count], kept, self.fragments)

    def after(self, count: int) -> StampedLines:
        """What follows the first `count` lines."""
        return StampedLines(
            self.lines[count:],
            self.times_ns[count:],
            {index - count: known for index, known in self.oversize.items() if index >= count},
            self.fragments,
        )


class LineReader:
    """Reads one response body: chunks in, stamped lines out, in bounded memory.

    `max_line_bytes` (64 or more) is for what the container wrote: the timestamp before it does not count.
    """

    __slots__ = ("_splitter", "_stamps")

    def __init__(self, max_line_bytes: int) -> None:
        self._splitter = Splitter(max_line_bytes, stamp_bytes)
        self._stamps = StampReader()

    @property
    def unfinished(self) -> bytes:
        """What came after the last newline, its first bytes: no line while the container may still write it."""
        return self._splitter.unfinished

    def feed(self, chunk: bytes) -> StampedLines:
        """The lines that this chunk completes."""
        return self._stamped(self._splitter.feed(chunk))

    def finish(self) -> StampedLines:
        """What is left after the last newline: a line only where the log is known to have ended."""
        return self._stamped(self._splitter.finish())

    def _stamped(self, found: Lines) -> StampedLines:
        times = [self._stamps.line_time(line) for line in found.lines]
        if None not in times:
            return StampedLines(found.lines, times, found.oversize)  # type: ignore[arg-type]
        kept = StampedLines()
        for index, (line, time_ns) in enumerate(zip(found.lines, times, strict=True)):
            if time_ns is None:
                kept.fragments += 1
                continue
            if index in found.oversize:
                kept.oversize[len(kept.lines)] = found.oversize[index]
            kept.lines.append(line)
            kept.times_ns.append(time_ns)
        return kept
