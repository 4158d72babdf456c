"""Pods that print numbered alerts, and the journal of every line that they printed: what the judge compares with."""

from __future__ import annotations

import random
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum, StrEnum, auto
from typing import NamedTuple

from streamer.simulator import AlertGenerator
from tests.testbed.crilog import record
from tests.testbed.pod import Pod

# containerd cuts lines into parts of this size.
_PART_BYTES = 16 * 1024
_BROKEN, _TEXT = 0.005, 0.02  # shares of the lines
SHARDS = 4
_SHARE_BYTES = 25_165_824 / 2 / SHARDS
"""Of `kubernetes.max_uncommitted_bytes`, what each shard has for itself: until it is used up, reading goes on."""


class Kind(Enum):
    """What a line is to become."""

    ALERT = auto()
    TEXT = auto()  # Falco's own words: counted, never published
    BROKEN = auto()  # a dead letter


@dataclass(frozen=True, slots=True)
class Line:
    """One line as it was written; `at_ns` is its timestamp, unique and rising within its target."""

    uid: str
    number: int
    at_ns: int
    kind: Kind
    body: bytes


class Change(StrEnum):
    """What was done to a target's log."""

    ROTATED = "rotated"
    RESTARTED = "restarted"
    DELETED = "deleted"  # its container had ended before
    DELETED_BY_FORCE = "deleted by force"


@dataclass(slots=True)
class Epoch:
    """The time between two moments at which all was well: everything written before it was read and committed."""

    disturbed: bool = False
    """Streams may have been closed, or have brought nothing."""
    kafka_disturbed: bool = False
    """Kafka may have taken nothing: what was read waited, and nothing more was read once there was no room."""
    written_bytes: Counter[int] = field(default_factory=Counter)
    """The size of the lines by shard."""

    def may_not_read(self, uid: str) -> bool:
        """Whether this target's log may not have been read at some time."""
        return self.disturbed or (self.kafka_disturbed and self.written_bytes[shard_of(uid)] >= _SHARE_BYTES)

    def wrote(self, line: Line) -> None:
        """Count a line."""
        self.written_bytes[shard_of(line.uid)] += len(line.body)


class Event(NamedTuple):
    """A change of a target's log; `at_ns` is by the clock of its lines: after those before it."""

    what: Change
    at_ns: int
    epoch: Epoch


@dataclass(slots=True)
class TargetLog:
    """All that one pod instance ever printed, and what was done to it."""

    namespace: str
    pod: str
    uid: str
    lines: list[Line] = field(default_factory=list)
    changes: list[Event] = field(default_factory=list)
    holes: int = 0
    """What was done on purpose so that lines are certainly out of reach: each costs exactly one certain gap."""

    @property
    def key(self) -> bytes:
        """The key of its records."""
        return f"{self.namespace}/{self.pod}".encode()

    def now_ns(self) -> int:
        """The time for the next line or change: no two have the same."""
        last_line_ns = self.lines[-1].at_ns if self.lines else 0
        last_change_ns = self.changes[-1].at_ns if self.changes else 0
        return max(time.time_ns(), last_line_ns + 1, last_change_ns + 1)


class Journal:
    """What was written, by target and by content, and what was done meanwhile."""

    def __init__(self) -> None:
        self.targets: dict[str, TargetLog] = {}
        self.by_body: dict[bytes, Line] = {}
        self.epoch = Epoch()

    def add(self, pod: Pod) -> TargetLog:
        """Keep a journal of this pod, too."""
        return self.targets.setdefault(pod.uid, TargetLog(pod.namespace, pod.name, pod.uid))

    def lines(self) -> Iterator[Line]:
        """Every line."""
        for target in self.targets.values():
            yield from target.lines

    def note(self, line: Line) -> None:
        """Take a line down. All bodies differ, since each holds its target and number."""
        assert line.body not in self.by_body
        self.by_body[line.body] = line
        self.targets[line.uid].lines.append(line)
        self.epoch.wrote(line)

    def change(self, pod: Pod, what: Change) -> None:
        """Take down a change that is made to a pod's log now, before another line is written."""
        target = self.add(pod)
        target.changes.append(Event(what, target.now_ns(), self.epoch))

    def settled(self, since_ns: int) -> None:
        """All is well: what was written before `since_ns` is committed."""
        self.epoch = Epoch()
        for target in self.targets.values():
            for line in reversed(target.lines):
                if line.at_ns < since_ns:
                    break
                self.epoch.wrote(line)


def shard_of(uid: str) -> int:
    """Where a pod belongs, by the documented rule and not by the worker's code."""
    return zlib.crc32(uid.encode()) % SHARDS


class Printer:
    """Lets pods print, each line numbered and taken down before a reader can see it."""

    def __init__(self, journal: Journal, seed: int) -> None:
        self.journal = journal
        self._random = random.Random(seed)
        self._alerts = AlertGenerator(seed, sources=("syscall",))

    def print(self, pod: Pod, count: int, kind: Kind | None = None) -> None:
        """Print lines at once; without a kind, alerts for the most part."""
        target = self.journal.add(pod)
        raw = []
        for _ in range(count):
            number = len(target.lines)
            at_ns = target.now_ns()
            line = Line(pod.uid, number, at_ns, kind or self._kind(), b"")
            line = Line(pod.uid, number, at_ns, line.kind, self._body(line, pod))
            self.journal.note(line)
            raw.append(_records(line))
        pod.log().raw(b"".join(raw))

    def large(self, pod: Pod, size: int) -> None:
        """Print one alert of so many bytes, and hardly one less when it is compressed."""
        target = self.journal.add(pod)
        number, at_ns = len(target.lines), target.now_ns()
        body = self._body(Line(pod.uid, number, at_ns, Kind.ALERT, b""), pod)
        padding = noise(self._random, size - len(body) - len(b'"noise":"",'))
        body = body.replace(b'"output_fields":{', b'"output_fields":{"noise":"%b",' % padding, 1)
        assert len(body) == size
        line = Line(pod.uid, number, at_ns, Kind.ALERT, body)
        self.journal.note(line)
        pod.log().raw(_records(line))

    def _kind(self) -> Kind:
        draw = self._random.random()
        return Kind.BROKEN if draw < _BROKEN else Kind.TEXT if draw < _BROKEN + _TEXT else Kind.ALERT

    def _body(self, line: Line, pod: Pod) -> bytes:
        who = f"{line.uid}/{line.number}"
        match line.kind:
            case Kind.TEXT:
                return f"{time.strftime('%a %b %d %H:%M:%S %Y', time.gmtime())}: chaos {who}".encode()
            case Kind.BROKEN:
                return f'{{"priority":"Warning","rule":"chaos {who}"'.encode()
            case Kind.ALERT:
                alert = self._alerts.alert(line.at_ns, f"node-of-{pod.name}")
                return alert.replace(
                    b'"output_fields":{', b'"output_fields":{"chaos":"%b",' % who.encode(), 1
                )


def noise(source: random.Random, size: int) -> bytes:
    """Letters that need no escape in JSON and give a compressor nothing."""
    return bytes(source.choices([code for code in range(32, 127) if chr(code) not in '"\\%'], k=size))


def _records(line: Line) -> bytes:
    parts = [line.body[at : at + _PART_BYTES] for at in range(0, len(line.body), _PART_BYTES)]
    tags = ["P"] * (len(parts) - 1) + ["F"]
    # Each part has a time of its own in the file; readers give the line that of the first.
    return b"".join(record(part, at=line.at_ns, tag=tag) for part, tag in zip(parts, tags, strict=True))
