"""Lines from files and standard input, for `replay`: alerts as Falco wrote them, or logs as saved."""

from __future__ import annotations

import gzip
import io
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from shlex import quote
from typing import IO, Any, BinaryIO, Final, cast

from streamer.model import DigestRing, LogBatch, Target
from streamer.source.gaps import Hole, holes_of
from streamer.source.head import fault_of, read_head
from streamer.source.nodepath import in_order, instance_of, target_of
from streamer.source.saved import Run, SavedLines, is_of_a_node
from streamer.source.wrapping import Wrapping
from streamer.transform import align
from streamer.transform.read import StampedLines

_CHUNK_BYTES: Final = 1024 * 1024
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
    """A file cannot be read, or is not to be; the text names it."""


class FileReader:
    """Reads the files of one replay, one after the other.

    Files of one target are one log, wherever they lie: its lines have one order, one clock, and ids of their own.
    """

    def __init__(
        self,
        max_line_bytes: int,
        *,
        target: Target | None = None,
        node: str = "",
        holes: Sequence[Hole] = (),
    ) -> None:
        """Whose log files are is said by `target`, else by their paths; else each is a log of its own.

        With `holes`, only lines in them are read, and those without a timestamp are not.
        """
        self._max_line_bytes = max_line_bytes
        self._target = target
        self._node = node
        self._holes = holes
        self._kept: dict[str, tuple[IO[bytes], ExitStack]] = {}
        self._rings: dict[Target, DigestRing] = {}
        self._saved: tuple[object, SavedLines] | None = None
        self.unknown: list[str] = []
        """Files of a node of which nothing says whose log they are: their records have ids of their own."""

    @property
    def of_gaps(self) -> bool:
        """Whether only what is missing is read."""
        return bool(self._holes)

    def examine(self, names: Sequence[str]) -> list[str]:
        """Look at the beginning of every file before any is read; the names in the order to read them.

        Raises FileError where one cannot be read, or does not hold lines of Falco's.
        """
        for name in names:
            self._target_of(name)
            with _readable(name), ExitStack() as stack:
                file = stack.enter_context(_open(name, lambda _: None))
                head = read_head(file.read)
                if not Path(name).is_file():  # a pipe brings everything once
                    rest = io.BufferedReader(_PutBack(head.content, cast("BinaryIO", file)), _CHUNK_BYTES)
                    self._kept[name] = rest, stack.pop_all()
            if self._target is None and target_of(name, self._node) is None and is_of_a_node(head.content):
                self.unknown.append(name)
            if (fault := fault_of(head, is_rotated=instance_of(name) is not None)) is not None:
                label = "standard input" if name == "-" else name
                raise FileError(f"{label}: {fault.what}{_way_out(name, fault, packed=_is_packed(name))}")
        return in_order(names)

    def read(
        self, name: str, on_read: Callable[[int], None] = lambda _: None, *, following: str = ""
    ) -> Iterator[LogBatch]:
        """The batches of one file, `-` for standard input; gzip is recognised by its first bytes.

        `on_read` is told how many of the file's own bytes, packed ones where it is packed, are read. `following`
        is the file that is read next: a line may go on there. Raises FileError.
        """
        target = self._target_of(name)
        holes = holes_of(self._holes, target)
        for run in self._runs(name, on_read, following):
            ring = self._rings[target] = align.advance(
                self._rings.get(target, DigestRing()), run.lines, run.oversize
            )
            wanted = _missing(run, holes) if self._holes else run
            if wanted.lines:
                yield LogBatch(
                    target,
                    wanted.lines,
                    wanted.times_ns if isinstance(wanted, StampedLines) else [],
                    ring,
                    sum(map(len, wanted.lines)),
                    stamped=isinstance(wanted, StampedLines),
                    oversize=wanted.oversize,
                )

    def _target_of(self, name: str) -> Target:
        known = self._target or target_of(name, self._node)
        if self._holes:
            if known is None:
                targets = {hole.target for hole in self._holes}
                if len(targets) > 1:
                    raise FileError(
                        f"{name}: the gaps are of {len(targets)} containers; "
                        "its path does not say of which it is: give --target"
                    )
                return targets.pop()
            return next((hole.target for hole in holes_of(self._holes, known)), known)
        if known is None:
            label = "stdin" if name == "-" else Path(name).name
            known = Target("replay", label, label, "falco", self._node)
        return known

    def _runs(self, name: str, on_read: Callable[[int], None], following: str) -> Iterator[Run]:
        instance = instance_of(name)
        saved = SavedLines(self._max_line_bytes)
        if self._saved is not None and instance is not None and self._saved[0] == instance:
            saved = self._saved[1]
        with _readable(name), self._open(name, on_read) as file:
            while chunk := file.read(_CHUNK_BYTES):
                yield from saved.feed(chunk)
        yield from saved.end_file()
        if instance is not None and instance == instance_of(following):
            self._saved = instance, saved
        else:
            self._saved = None
            yield from saved.finish()

    @contextmanager
    def _open(self, name: str, on_read: Callable[[int], None]) -> Iterator[IO[bytes]]:
        if name in self._kept:
            file, stack = self._kept.pop(name)
            with stack:
                yield file
        else:
            with _open(name, on_read) as file:
                yield file


def _missing(run: Run, holes: Sequence[Hole]) -> Run:
    """The lines of a run that lie in a hole."""
    found = StampedLines()
    if isinstance(run, StampedLines):
        for index, (line, time_ns) in enumerate(zip(run.lines, run.times_ns, strict=True)):
            if any(hole.holds(time_ns) for hole in holes):
                if index in run.oversize:
                    found.oversize[len(found.lines)] = run.oversize[index]
                found.lines.append(line)
                found.times_ns.append(time_ns)
    return found


def _way_out(name: str, fault: Wrapping, *, packed: bool) -> str:
    ways = [fault.advice] if fault.advice else []
    if fault.unwrap:
        if name == "-":
            ways.append(f"put {fault.unwrap} before it")
        else:
            unpack = f"zcat {quote(name)} | {fault.unwrap}" if packed else f"{fault.unwrap} {quote(name)}"
            ways.append(f"{unpack} | falco-streamer replay -")
    return f": {', or: '.join(ways)}" if ways else ""


def _is_packed(name: str) -> bool:
    path = Path(name)
    if name == "-" or not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(_GZIP)) == _GZIP


@contextmanager
def _readable(name: str) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, zlib.error) as error:
        raise FileError(f"{name}: {getattr(error, 'strerror', None) or error}") from error


@contextmanager
def _open(name: str, on_read: Callable[[int], None]) -> Iterator[IO[bytes]]:
    if name == "-":
        yield _unzipped(name, sys.stdin.buffer)
        return
    with io.BufferedReader(_Counted(name, on_read), _CHUNK_BYTES) as file:
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
