"""A container's log as a runtime writes it (containerd's CRI format) and as the kubelet rotates it.

One record a line: `2026-02-03T04:05:06.7Z stdout F text`. F ends a line, P is a part of one: containerd cuts at
16 KiB. The folder holds `<restartCount>.log`, the rotated ones with the time behind it, and nothing else.
"""

import itertools
import os
import time
from collections.abc import Iterable
from pathlib import Path


def record(text: str | bytes, *, at: int | None = None, stream: str = "stdout", tag: str = "F") -> bytes:
    """Return one record with its newline; `at` is in nanoseconds since the epoch, now by default."""
    body = text.encode() if isinstance(text, str) else text
    return f"{timestamp(time.time_ns() if at is None else at)} {stream} {tag} ".encode() + body + b"\n"


def timestamp(nanoseconds: int) -> str:
    """Return RFC 3339 as containerd writes it: as many digits as it takes, none for a whole second."""
    seconds, fraction = divmod(nanoseconds, 1_000_000_000)
    digits = f".{fraction:09d}".rstrip("0").rstrip(".")
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}{digits}Z"


class CriLog:
    """The log of one container. Each write is one write(2), as a runtime's: no reader sees half of it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        self._file: int | None = None
        self.path = folder / "0.log"

    def open(self, restart_count: int) -> None:
        """Begin the log of an instance, or begin it anew after rename()."""
        self.close()
        self.path = self._folder / f"{restart_count}.log"
        self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)

    def line(self, text: str | bytes, *, at: int | None = None, stream: str = "stdout") -> None:
        """Write a whole line."""
        self.raw(record(text, at=at, stream=stream))

    def part(self, text: str | bytes, *, at: int | None = None, stream: str = "stdout") -> None:
        """Write a part of a line; the line ends with the next line()."""
        self.raw(record(text, at=at, stream=stream, tag="P"))

    def lines(self, texts: Iterable[str | bytes]) -> None:
        """Write many lines at once."""
        self.raw(b"".join(map(record, texts)))

    def raw(self, data: bytes) -> None:
        """Write bytes as they are: a damaged record, or half of one."""
        assert self._file is not None, "the container has not started: there is no log to write to"
        written = os.write(self._file, data)
        assert written == len(data), "the disk is full"

    def begin_with(self, records: bytes) -> None:
        """Put records before those that were written, while nobody reads the log: it was larger all along."""
        self.path.write_bytes(records + self.path.read_bytes())

    def rename(self) -> Path:
        """Do the kubelet's half of a rotation; until reopen() lines go on into the renamed file."""
        # The kubelet's names differ by the second, and it rotates every 10 s at most. Tests are quicker.
        for second in itertools.count(int(time.time())):
            rotated = self.path.with_name(
                f"{self.path.name}.{time.strftime('%Y%m%d-%H%M%S', time.gmtime(second))}"
            )
            if not rotated.exists():
                break
        return self.path.rename(rotated)

    def reopen(self) -> None:
        """Do the runtime's half of a rotation: from here on lines go to a new file."""
        self.open(int(self.path.stem))

    def rotate(self) -> Path:
        """Rotate as kubelet and runtime do together; return where the old lines are now."""
        rotated = self.rename()
        self.reopen()
        return rotated

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
