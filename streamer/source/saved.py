"""Lines of saved logs as the log API would serve them, whatever wrote the file.

Each line says for itself what it is: the log API's (a timestamp first), a record of a container runtime (CRI, or
Docker's json-file), or a line as Falco printed it. So an odd line costs nothing but itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

import orjson

from streamer.model import Oversize
from streamer.transform.read import StampedLines
from streamer.transform.split import Lines, Splitter
from streamer.transform.stamp import StampReader, stamp_bytes

BOM: Final = b"\xef\xbb\xbf"
_PRINTED: Final = re.compile(rb'\{(?!"log":")')
"""Begins with this, it is JSON that no runtime has wrapped."""
_SERVED: Final = re.compile(rb"\d[^ {]+ \{")
"""Begins with this, it is JSON behind a timestamp, if that is one."""
_DOCKER: Final = b'{"log":"'
# `2026-11-20T10:00:00.7+02:00 stdout F text`; tags may follow the F or P. An editor may have cut off the last space.
_CRI: Final = re.compile(
    rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d) (stdout|stderr) ([FP])(?::[^ ]*)?(?: |$)"
)
_TIME: Final = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)")
_STREAMS: Final = ("stdout", "stderr")
"""A line with another is a container's own, which may write what it likes: each would cost a buffer."""
_UTC: Final = (b"Z", b"+00:00", b"-00:00")
_DOCKER_MOST_BYTES: Final = 6 * 16 * 1024 + 1024
"""Docker cuts at 16 KiB; each byte has six in JSON at the most, and the other members have room as well."""

Run = StampedLines | Lines
"""Lines that follow each other, all of them with a timestamp, or all without one."""
_Piece = tuple[bytes, Oversize | None]


class SavedLines:
    """Reads what was saved of one container's log: bytes in, runs of lines out, in bounded memory.

    Parts of a long line are joined, those of stdout and of stderr each for themselves, also from one file to the next.
    """

    def __init__(self, max_line_bytes: int) -> None:
        """`max_line_bytes` is for what the container wrote: what others wrote around it does not count."""
        self._max_line_bytes = max_line_bytes
        self._splitter = Splitter(max_line_bytes, _wrapping_bytes)
        self._streams: dict[str, Splitter] = {}
        self._stamps = StampReader()

    def feed(self, chunk: bytes) -> Iterator[Run]:
        """The lines that this chunk completes."""
        return self._runs(self._splitter.feed(chunk))

    def end_file(self) -> Iterator[Run]:
        """A file has an end: what stands after its last newline is a line. The next file may go on with a part."""
        return self._runs(self._splitter.finish())

    def finish(self) -> Iterator[Run]:
        """What is left of lines whose last part is missing."""
        streams, self._streams = self._streams, {}
        return self._runs_of(piece for splitter in streams.values() for piece in _pieces(splitter.finish()))

    def _runs(self, found: Lines) -> Iterator[Run]:
        if not found.oversize:  # most files are of one kind, and these two are the usual ones
            if all(map(_PRINTED.match, found.lines)):
                return iter([found] if found.lines else [])
            if all(map(_SERVED.match, found.lines)):
                times = [time for line in found.lines if (time := self._stamps.line_time(line)) is not None]
                if len(times) == len(found.lines):
                    return iter([StampedLines(found.lines, times)])
        return self._runs_of(whole for piece in _pieces(found) for whole in self._completed(*piece))

    def _completed(self, line: bytes, oversize: Oversize | None) -> Iterable[_Piece]:
        """The lines that this one completes: itself, or what a runtime's record is the last part of."""
        line = line.removeprefix(BOM)
        if oversize is not None:
            return ((line, oversize),)
        if line.startswith(_DOCKER) and (record := _docker_record(line)) is not None:
            return self._join(*record)
        if (cri := _CRI.match(line)) is not None:
            end = b"\n" if cri[5] == b"F" else b""
            return self._join(cri[4].decode(), _api_stamp(cri), line[cri.end() :] + end)
        return ((line, None),)

    def _join(self, stream: str, stamp: bytes, text: bytes) -> Iterable[_Piece]:
        splitter = self._streams.get(stream)
        if splitter is None:
            splitter = self._streams[stream] = Splitter(self._max_line_bytes, stamp_bytes)
        # As the kubelet does: the time of the first part is the line's.
        return _pieces(splitter.feed(text if splitter.unfinished else stamp + b" " + text))

    def _runs_of(self, pieces: Iterable[_Piece]) -> Iterator[Run]:
        run: Run = Lines()
        for line, oversize in pieces:
            time_ns = self._stamps.line_time(line)
            if isinstance(run, StampedLines) is (time_ns is None):
                if run.lines:
                    yield run
                run = Lines() if time_ns is None else StampedLines()
            if oversize is not None:
                run.oversize[len(run.lines)] = oversize
            run.lines.append(line)
            if isinstance(run, StampedLines) and time_ns is not None:
                run.times_ns.append(time_ns)
        if run.lines:
            yield run


def _pieces(found: Lines) -> Iterator[_Piece]:
    return ((line, found.oversize.get(index)) for index, line in enumerate(found.lines))


def _docker_record(line: bytes) -> tuple[str, bytes, bytes] | None:
    """Stream, time and text of a record of Docker's json-file log; a text without a newline is a part."""
    try:
        found: Any = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    text, stream, time = found.get("log"), found.get("stream"), found.get("time")
    if type(text) is not str or stream not in _STREAMS or type(time) is not str or not time.isascii():
        return None
    match = _TIME.fullmatch(time.encode())
    return None if match is None else (stream, _api_stamp(match), text.encode())


def _api_stamp(match: re.Match[bytes]) -> bytes:
    """The time as the kubelet writes it: nine digits, the zone of the file, and Z for UTC."""
    second, fraction, zone = match[1], match[2] or b"", match[3]
    return b"%b.%b%b" % (second, fraction.ljust(9, b"0"), b"Z" if zone in _UTC else zone)


def is_of_a_node(content: bytes) -> bool:
    """Whether a file that begins so was written by a container runtime, on its node."""
    line = content.removeprefix(BOM).partition(b"\n")[0]
    return _CRI.match(line) is not None or (line.startswith(_DOCKER) and _docker_record(line) is not None)


def _wrapping_bytes(line: bytes) -> int:
    """How many bytes of a line, of which this is the beginning, the container has not written."""
    if line.startswith(_DOCKER):
        return _DOCKER_MOST_BYTES
    if (cri := _CRI.match(line[:128])) is not None:
        return cri.end()
    return stamp_bytes(line)
