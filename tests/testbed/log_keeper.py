"""What pods have really written: a hard link to every log file of a node, kept when the node removes the file."""

import datetime as dt
import os
import re
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_LOG = re.compile(r"(?P<instance>\d+)\.log(?:\.(?P<rotated>\d{8}-\d{6}))?")
_LOOK_SECONDS = 0.02


@dataclass(frozen=True)
class WrittenLine:
    """A line as the log API joins it: all parts up to the next end of a line, whatever stream they are of."""

    text: bytes
    at_ns: int
    """The time of its first part."""
    instance: int
    file: int
    """In which of the instance's files it ends, from 0."""
    finished: bool
    """Whether its end was written."""
    mixed: bool
    """Whether parts of stdout and of stderr are in it."""


@dataclass(frozen=True)
class _Kept:
    uid: str
    instance: int
    link: Path


class LogKeeper:
    """Links the files below `pods` (<namespace>_<pod>_<uid>/<container>/<n>.log...) into a folder, as they appear.

    A file is seen if it exists for 20 ms: a rotated one stays for a whole interval of the kubelet's log manager.
    """

    def __init__(self, pods: Path, kept: Path) -> None:
        self._pods = pods
        self._kept = kept
        self._files: dict[int, _Kept] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="log-keeper", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._kept.mkdir()
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def lines(self, uid: str) -> list[WrittenLine]:
        """Return all that a pod's container has written by now, in order."""
        instances: dict[int, list[tuple[int, bytes]]] = defaultdict(list)
        for kept in self._of(uid):
            if content := kept.link.read_bytes():
                instances[kept.instance].append((_first_time(content), content))
        return [
            line
            for instance, contents in sorted(instances.items())
            # No two files of an instance begin at the same time, and none begins before one that was rotated.
            for line in _join([content for _, content in sorted(contents)], instance)
        ]

    def records(self, uid: str) -> int:
        """Return how many records a pod's container has written by now: a line has one, or more if it is long."""
        return sum(kept.link.read_bytes().count(b"\n") for kept in self._of(uid))

    def files(self, uid: str) -> int:
        """Return how many files a pod's logs have been so far."""
        return len(self._of(uid))

    def _of(self, uid: str) -> list[_Kept]:
        return [kept for kept in list(self._files.values()) if kept.uid == uid]

    def _run(self) -> None:
        while not self._stop.wait(_LOOK_SECONDS):
            self._look()

    def _look(self) -> None:
        for path, inode in _files(self._pods):
            name = _LOG.fullmatch(path.name)
            if name is None or inode in self._files:  # a kept file's inode is given to no other
                continue
            link = self._kept / str(inode)
            try:
                os.link(path, link)
            except FileNotFoundError:  # renamed meanwhile: the next look sees it
                continue
            if link.stat().st_ino != inode:  # another file has that name by now
                link.unlink()
                continue
            uid = path.parent.parent.name.rpartition("_")[2]
            self._files[inode] = _Kept(uid, int(name["instance"]), link)


def _files(root: Path) -> Iterator[tuple[Path, int]]:
    for pod in _scan(root):
        for container in _scan(pod.path):
            if container.name != "falco":
                continue
            for file in _scan(container.path):
                yield Path(file.path), file.inode()


def _scan(folder: Path | str) -> list["os.DirEntry[str]"]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _first_time(content: bytes) -> int:
    return _nanoseconds(content.partition(b" ")[0])


def _nanoseconds(stamp: bytes) -> int:
    seconds, _, fraction = stamp.decode().removesuffix("Z").partition(".")
    whole = dt.datetime.fromisoformat(f"{seconds}+00:00")
    return int(whole.timestamp()) * 1_000_000_000 + int(fraction.ljust(9, "0") or 0)


def _join(files: Sequence[bytes], instance: int) -> list[WrittenLine]:
    found: list[WrittenLine] = []
    parts: list[bytes] = []
    streams: set[bytes] = set()
    began = 0
    for number, content in enumerate(files):
        for record in content.split(b"\n")[:-1]:  # what has no newline is under way
            stamp, stream, tag, text = record.split(b" ", 3)
            if not parts:
                began = _nanoseconds(stamp)
            parts.append(text)
            streams.add(stream)
            if tag == b"F":
                found.append(WrittenLine(b"".join(parts), began, instance, number, True, len(streams) > 1))
                parts, streams = [], set()
    if parts:
        found.append(WrittenLine(b"".join(parts), began, instance, len(files) - 1, False, len(streams) > 1))
    return found
