"""Lines from files and standard input, for `replay`: alerts as Falco wrote them, or pods' logs as saved."""

from __future__ import annotations

import gzip
import io
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from typing import IO, Any, BinaryIO, Final, cast

from streamer.model import DigestRing, LogBatch, Target
from streamer.transform import align
from streamer.transform.read import LineReader, StampedLines
from streamer.transform.split import Lines, Splitter
from streamer.transform.stamp import StampReader

_CHUNK_BYTES: Final = 256 * 1024
_GZIP: Final = b"\x1f\x8b"
_PACKED: Final = {
    b"BZh": ("bzip2", "bzcat"),
    b"\xfd7zXZ\x00": ("xz", "xzcat"),
    b"\x28\xb5\x2f\xfd": ("zstd", "zstdcat"),
    b"PK\x03\x04": ("zip", "unzip -p"),
}
"""By a file's first bytes, what else packs, and what unpacks it; no line of Falco's begins so."""
_MAGIC_BYTES: Final = max(map(len, _PACKED))


class FileError(Exception):
    """A file cannot be read; the text names it."""


def read_file(
    name: str, max_line_bytes: int, on_read: Callable[[int], None] = lambda _: None
) -> Iterator[LogBatch]:
    """The batches of one file, `-` for standard input; gzip is recognised by its first bytes.

    `on_read` is told how many of the file's own bytes, packed ones where it is packed, are read.

    A file whose first line begins with the log API's timestamp is a pod's log (`kubectl logs --timestamps`), any
    other holds the lines as Falco printed them. Raises `FileError`.
    """
    label = "stdin" if name == "-" else Path(name).name
    # One file is one target: its lines have one order, one clock, and ids of their own.
    target = Target("replay", label, label, "falco", "")
    ring = DigestRing()
    for found in _pieces(name, max_line_bytes, on_read):
        stamped = isinstance(found, StampedLines)
        ring = align.advance(ring, found.lines, found.oversize)
        yield LogBatch(
            target,
            found.lines,
            found.times_ns if isinstance(found, StampedLines) else [],
            ring,
            sum(map(len, found.lines)),
            stamped=stamped,
            oversize=found.oversize,
            fragments=found.fragments if isinstance(found, StampedLines) else 0,
        )


def _pieces(name: str, max_line_bytes: int, on_read: Callable[[int], None]) -> Iterator[StampedLines | Lines]:
    with _open(name, on_read) as file:
        try:
            chunk = file.read(_CHUNK_BYTES)
            stamped = StampReader().line_time(chunk[:64]) is not None
            reader: LineReader | Splitter = (
                LineReader(max_line_bytes) if stamped else Splitter(max_line_bytes)
            )
            while chunk:
                found = reader.feed(chunk)
                if found.lines or (isinstance(found, StampedLines) and found.fragments):
                    yield found
                chunk = file.read(_CHUNK_BYTES)
            # A file has an end: what stands after its last newline is a line.
            last = reader.finish()
            if last.lines or (isinstance(last, StampedLines) and last.fragments):
                yield last
        except (OSError, EOFError, zlib.error) as error:
            raise FileError(f"{name}: {error}") from error


@contextmanager
def _open(name: str, on_read: Callable[[int], None]) -> Iterator[IO[bytes]]:
    if name == "-":
        yield _unzipped(name, sys.stdin.buffer)
        return
    try:
        raw = _Counted(name, on_read)
    except OSError as error:
        raise FileError(f"{name}: {error.strerror}") from error
    with io.BufferedReader(raw, _CHUNK_BYTES) as file:
        yield _unzipped(name, file)


class _Counted(io.FileIO):
    """A file that tells how far it is read."""

    def __init__(self, name: str, on_read: Callable[[int], None]) -> None:
        super().__init__(name)
        self._on_read = on_read
        self._read = 0

    def readinto(self, buffer: Any) -> int:
        """As any file does."""
        count = super().readinto(buffer) or 0
        self._read += count
        self._on_read(self._read)
        return count


def _unzipped(name: str, file: BinaryIO) -> IO[bytes]:
    head = file.read(_MAGIC_BYTES)
    for magic, (by, unpack) in _PACKED.items():
        if head.startswith(magic):
            way = (
                f"put {unpack} before it"
                if name == "-"
                else f"{unpack} {quote(name)} | falco-streamer replay -"
            )
            raise FileError(f"{name}: it is packed by {by}: {way}")
    whole = io.BufferedReader(_PutBack(head, file), _CHUNK_BYTES)
    return cast("IO[bytes]", gzip.GzipFile(fileobj=whole)) if head.startswith(_GZIP) else whole


class _PutBack(io.RawIOBase):
    """A file with its first bytes put back: a pipe cannot seek, and what can be peeked may be one byte."""

    def __init__(self, head: bytes, file: BinaryIO) -> None:
        self._head = head
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._head:
            return self._file.readinto(buffer)  # type: ignore[attr-defined,no-any-return]
        size = min(len(self._head), len(buffer))
        buffer[:size], self._head = self._head[:size], self._head[size:]
        return size
