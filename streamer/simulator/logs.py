"""The log of one container instance, as the kubelet writes it and its reader gives it out.

The record is the unit: containerd cuts a line into records of at most 16 KiB, the kubelet's reader
joins them again and stamps a line once. `tailLines` and `sinceTime` work on records, so both can show
the inside of a long line. A record at the very end may be part of a line that goes on, or be cut before its own
newline, in the file: the reader does not give it to who follows, nor at the end of a tail that is full without it.
"""

from __future__ import annotations

import asyncio
import bisect
import datetime as dt
from array import array

RECORD_BYTES = 16384
"""containerd's max_container_log_line_size: what is longer is stored as several records."""

NS_PER_SECOND = 1_000_000_000
_NEWLINE = 10


class LogFile:
    """One file of a log: the records as a request from its start shows them, stamps included.

    `history` is what the file begins with: whole lines that any number of files share, so that thousands of pods
    with large logs need the memory of one.
    """

    __slots__ = ("cut", "data", "history", "next", "starts", "times")

    def __init__(self) -> None:
        self.history: LogFile | None = None
        self.data = bytearray()
        self.starts = array("Q")
        self.times = array("q")
        self.next: LogFile | None = None
        self.cut = False
        """Whether the last record was cut before its newline."""

    @property
    def records(self) -> int:
        """How many records there are."""
        return len(self.starts) + (self.history.records if self.history else 0)

    @property
    def whole(self) -> int:
        """How many records are not cut."""
        return self.records - self.cut

    def part(self, record: int) -> tuple[LogFile, int]:
        """The file that holds a record itself, and how many records of this one come before that file's."""
        if self.history is None:
            return self, 0
        before = self.history.records
        return (self.history, 0) if record < before else (self, before)

    def continues(self, record: int) -> bool:
        """Whether the record goes on with the line of the one before it (and has no stamp here)."""
        return record > 0 and self.data[self.starts[record] - 1] != _NEWLINE

    def end_of(self, record: int) -> int:
        """The byte behind the record."""
        return self.starts[record + 1] if record + 1 < len(self.starts) else len(self.data)


class ContainerLog:
    """Appended to by a container, rotated by the kubelet, read by any number of readers.

    `rotate_bytes`: the current file is rotated before the append that finds it this large (0: never).
    `utc_offset_minutes`: the node's zone, in which the kubelet prints the stamps.
    """

    def __init__(self, *, rotate_bytes: int = 0, utc_offset_minutes: int = 0) -> None:
        self.current = LogFile()
        self.rotations = 0
        self.ended = False
        self.rotate_bytes = rotate_bytes
        self._zone = dt.timezone(dt.timedelta(minutes=utc_offset_minutes))
        # Zone UTC is written Z; any other as ±hh:mm.
        self._zone_text = b"Z " if utc_offset_minutes == 0 else _offset_text(utc_offset_minutes)
        self._second = -1
        self._prefix = b""
        self._changed = asyncio.Event()

    @property
    def stamp_bytes(self) -> int:
        """The length of a stamp with the space behind it: 31 in UTC, 36 elsewhere."""
        return 29 + len(self._zone_text)

    def stamp(self, time_ns: int) -> bytes:
        """RFC 3339 with always nine digits, and a space: how the kubelet begins a line."""
        second, nanosecond = divmod(time_ns, NS_PER_SECOND)
        if second != self._second:
            at = dt.datetime.fromtimestamp(second, self._zone)
            self._prefix = at.strftime("%Y-%m-%dT%H:%M:%S.%%09d").encode() + self._zone_text
            self._second = second
        return self._prefix % nanosecond

    def begin_with(self, history: ContainerLog) -> None:
        """Let the current file begin with another log: whole lines in our zone, and nothing is added to it any more."""
        self.current.history = history.current
        self._changed.set()

    def append(self, text: bytes, time_ns: int) -> None:
        """Append one line (without its newline), in records of `RECORD_BYTES`."""
        at = 0
        while len(text) - at > RECORD_BYTES:
            self._append(text[at : at + RECORD_BYTES], time_ns)
            at += RECORD_BYTES
        self._append(text[at:] + b"\n", time_ns)

    def append_partial(self, text: bytes, time_ns: int) -> None:
        """Append a record that ends without a newline; the next one goes on with its line."""
        if not text:
            msg = "an empty partial record does not exist"
            raise ValueError(msg)
        self._append(text, time_ns)

    def append_cut(self, text: bytes, time_ns: int) -> None:
        """Append the beginning of a record, as on a full disk: whatever comes next is glued to it."""
        self._append(text, time_ns)
        self.current.cut = True

    def _append(self, record: bytes, time_ns: int) -> None:
        if record.find(b"\n", 0, -1) >= 0:
            msg = "a record is part of one line"
            raise ValueError(msg)
        file = self.current
        if self.rotate_bytes and len(file.data) >= self.rotate_bytes:
            self.rotate()
            file = self.current
        data = file.data
        if file.cut:
            data += self.stamp(time_ns) + b"stdout F " + record
            file.cut = False
            self._changed.set()
            return
        file.starts.append(len(data))
        file.times.append(time_ns)
        if not data or data[-1] == _NEWLINE:
            data += self.stamp(time_ns)
        data += record
        self._changed.set()

    def rotate(self) -> None:
        """Begin a new file. The old one is gone for new requests; who reads it, reads it to its end."""
        self.current.next = LogFile()
        self.current = self.current.next
        self.rotations += 1
        self._changed.set()

    def end(self) -> None:
        """Say that the container has ended: followers end when they have read everything."""
        self.ended = True
        self._changed.set()

    def wake(self) -> None:
        """Let every waiting reader look again, for a reason outside the log."""
        self._changed.set()

    async def changed(self) -> None:
        """Wait for the next change. The caller has looked before, with no await in between."""
        self._changed.clear()
        await self._changed.wait()


def _offset_text(minutes: int) -> bytes:
    return b"%s%02d:%02d " % (b"-" if minutes < 0 else b"+", *divmod(abs(minutes), 60))


class LogReader:
    """One request's way through a log; `read` never waits.

    `since_ns`: records with an earlier stamp are left out, wherever they stand. `tail_lines` is a number
    of records. `limit_bytes` counts everything and cuts inside a line. With `rotation_bugs` the reader
    does what the kubelet's own (1.36) does when it is behind at a rotation: it takes note of rotations
    only after its first end of file, and re-opens the current file once for each it noted, so it may
    stay silent for ever, skip a file, or give one twice. Without, every file is read once, in order.
    """

    def __init__(
        self,
        log: ContainerLog,
        *,
        follow: bool = False,
        timestamps: bool = True,
        since_ns: int | None = None,
        tail_lines: int | None = None,
        limit_bytes: int | None = None,
        rotation_bugs: bool = False,
    ) -> None:
        self.log = log
        self.finished = False
        self._file = log.current
        whole = self._file.whole
        self._record = 0 if tail_lines is None else max(0, whole - tail_lines)
        # A reader that does not follow gives what was there when it was opened.
        full = tail_lines is not None and whole >= tail_lines
        self._stop = None if follow else whole if full else self._file.records
        self._timestamps = timestamps
        self._since_ns = since_ns
        self._left = limit_bytes
        self._inside_line = False
        self._rotation_bugs = rotation_bugs
        self._rotations_seen: int | None = None

    def read(self, max_bytes: int = 1 << 18) -> bytes:
        """What there is, at most about `max_bytes` (whole records); b"" with `finished` at the end."""
        while not self.finished:
            stop = self._file.whole if self._stop is None else self._stop
            if self._record < stop:
                chunk = self._take(stop, max_bytes)
                if chunk:
                    return self._limited(chunk)
            elif self._stop is not None or not self._next_file():
                self.finished = self._stop is not None or self.log.ended
                break
        return b""

    def _next_file(self) -> bool:
        if not self._rotation_bugs:
            if self._file.next is None:
                return False
            self._file, self._record = self._file.next, 0
            return True
        if self._rotations_seen is None:
            self._rotations_seen = self.log.rotations
        if self._rotations_seen == self.log.rotations:
            return False
        self._rotations_seen += 1
        self._file, self._record = self.log.current, 0
        return True

    def _take(self, stop: int, max_bytes: int) -> bytes:
        file, before = self._file.part(self._record)
        first, stop = self._record - before, min(stop - before, len(file.starts))
        if self._timestamps and self._since_ns is None:
            # The common case costs one copy, however many lines there are.
            begin = file.starts[first]
            end = bisect.bisect_right(file.starts, begin + max_bytes, first + 1, stop)
            if end < stop or file.end_of(stop - 1) - begin > max_bytes:
                end = max(end - 1, first + 1)
            upto = file.end_of(end - 1)
            chunk = bytes(file.data[begin:upto])
            if file.continues(first) != self._inside_line:
                chunk = self._restamped(chunk, first)
            self._record = before + end
            self._inside_line = chunk[-1] != _NEWLINE
            return chunk
        return self._take_by_record(file, before, stop, max_bytes)

    def _restamped(self, chunk: bytes, record: int) -> bytes:
        """The first record's stamp: put before what was a continuation, or cut where a line goes on."""
        if self._inside_line:
            return chunk[self.log.stamp_bytes :]
        return self.log.stamp(self._file.times[record]) + chunk

    def _take_by_record(self, file: LogFile, before: int, stop: int, max_bytes: int) -> bytes:
        log = self.log
        taken: list[bytes] = []
        size = 0
        while (record := self._record - before) < stop and size < max_bytes:
            text = bytes(file.data[file.starts[record] : file.end_of(record)])
            if not file.continues(record):
                text = text[log.stamp_bytes :]
            if self._since_ns is None or file.times[record] >= self._since_ns:
                if self._timestamps and not self._inside_line:
                    text = log.stamp(file.times[record]) + text
                taken.append(text)
                size += len(text)
            # The kubelet's reader remembers this of records it leaves out as well: the rest of a long
            # line whose first record was too old comes without a stamp.
            self._inside_line = text[-1] != _NEWLINE
            self._record += 1
        return b"".join(taken)

    def _limited(self, chunk: bytes) -> bytes:
        if self._left is None:
            return chunk
        chunk = chunk[: self._left]
        self._left -= len(chunk)
        self.finished = self._left == 0
        return chunk
