"""What pods wrote on a real node, compared with what a consumer reads; nothing of the worker's code is used."""

from __future__ import annotations

import datetime as dt
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from tests.testbed.log_keeper import WrittenLine
from tests.testbed.node_cluster import NodePod


@dataclass
class GapSeen:
    """A gap record, and what is missing in it."""

    uid: str
    pod: str
    reason: str
    certain: bool
    detail: str
    from_ns: int | None
    to_ns: int | None
    missing: int = 0

    def covers(self, line: WrittenLine) -> bool:
        after = self.from_ns is None or line.at_ns > self.from_ns
        return after and (self.to_ns is None or line.at_ns < self.to_ns)


@dataclass
class Findings:
    """How many alerts were written, and what became of them."""

    written: int = 0
    published: int = 0
    broken: int = 0
    """Lines that are not alerts, because a line of stderr was written between their parts."""
    dead_letters: int = 0
    missing: list[WrittenLine] = field(default_factory=list)
    """Alerts that were not published and lie in a gap."""
    late: list[WrittenLine] = field(default_factory=list)
    """Those of them that were written after a time."""
    lost: list[WrittenLine] = field(default_factory=list)
    """Alerts that were not published and lie in no gap."""
    reopened: list[WrittenLine] = field(default_factory=list)
    """Alerts at the very end of a file that was rotated, written to it after the next file was there: the kubelet's
    reader has gone on to that one. No stream brings them, and nothing shows that they are missing."""
    around: list[str] = field(default_factory=list)
    """For each lost line: where it stands, and what became of the lines around it."""
    doubled: list[bytes] = field(default_factory=list)
    unknown: list[bytes] = field(default_factory=list)
    """Alerts that were published and not written."""
    disordered: list[bytes] = field(default_factory=list)
    gaps: list[GapSeen] = field(default_factory=list)

    @property
    def exact(self) -> bool:
        """Whether every alert was published once, in order, or lies in a gap."""
        return not (self.lost or self.doubled or self.unknown or self.disordered)

    @property
    def needless(self) -> list[GapSeen]:
        """Gaps in which nothing is missing."""
        return [gap for gap in self.gaps if not gap.missing]

    def __str__(self) -> str:
        """In one paragraph, for the output of a test."""
        shown = {
            name: len(value) if isinstance(value, list) else value
            for name, value in vars(self).items()
            if name not in {"gaps", "around"}
        }
        gaps = [
            f"{gap.pod}: {gap.reason}, {'certain' if gap.certain else 'possible'}, {gap.missing} missing"
            f" ({gap.detail})"
            for gap in self.gaps
        ]
        return "\n".join([str(shown), *gaps, *self.around[:3]])


def compare(pods: Iterable[NodePod], records: Sequence[Any], before_ns: int) -> Findings:
    """Compare what these pods wrote before a time with the records of the topics, in each partition's order."""
    found = Findings()
    published: Counter[bytes] = Counter()
    gaps: dict[str, list[GapSeen]] = defaultdict(list)
    order: list[bytes] = []
    for record in records:
        match dict(record.headers).get("kind"):
            case b"alert":
                published[record.value] += 1
                order.append(record.value)
            case b"health" if (value := orjson.loads(record.value))["health"] == "gap":
                gap = _gap(value)
                gaps[gap.uid].append(gap)
                found.gaps.append(gap)
            case b"dead-letter":
                found.dead_letters += 1
    written: dict[bytes, tuple[str, int]] = {}
    for pod in pods:
        lines = pod.written()
        for number, line in enumerate(lines):
            if not _is_alert(line.text):
                found.broken += line.mixed
                continue
            written[line.text] = (pod.uid, number)
            if line.at_ns < before_ns and not published[line.text]:
                _miss(line, _ends_rotated_file(lines, number), gaps[pod.uid], found)
                if found.lost[-1:] == [line]:
                    found.around.append(_around(pod, lines, number, published))
    found.written, found.published = len(written), published.total()
    found.doubled = [text for text, times in published.items() if times > 1]
    found.unknown = [text for text in published if text not in written]
    last: dict[str, int] = defaultdict(lambda: -1)
    for text in order:
        uid, number = written.get(text, ("", -1))
        if uid and number < last[uid]:
            found.disordered.append(text)
        last[uid] = number
    return found


def _around(pod: NodePod, lines: Sequence[WrittenLine], number: int, published: Mapping[bytes, int]) -> str:
    near = lines[max(0, number - 3) : number + 4]
    shown = [f"file {line.file} at {line.at_ns}: {published.get(line.text, 0)}" for line in near]
    return (
        f"lost: line {number} of {pod.name}, instance {lines[number].instance}; around it {', '.join(shown)}"
    )


def _ends_rotated_file(lines: Sequence[WrittenLine], number: int) -> bool:
    """Whether a line is one of the last two of its file, and its instance wrote on in another one."""
    line = lines[number]
    return any(
        later.file != line.file and later.instance == line.instance
        for later in lines[number + 1 : number + 3]
    )


def _miss(line: WrittenLine, reopened: bool, gaps: Sequence[GapSeen], found: Findings) -> None:
    covering = [gap for gap in gaps if gap.covers(line)]
    for gap in covering:
        gap.missing += 1
    (found.missing if covering else found.reopened if reopened else found.lost).append(line)


def _is_alert(text: bytes) -> bool:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return isinstance(value, dict) and "rule" in value


def _gap(value: Any) -> GapSeen:
    target = value["target"]
    return GapSeen(
        target["uid"],
        target["pod"],
        value["reason"],
        value["certain"],
        f"{value['detail']} {value.get('evidence') or ''}".strip(),
        _nanoseconds(value["from"]),
        _nanoseconds(value["to"]),
    )


def _nanoseconds(text: str | None) -> int | None:
    if text is None:
        return None
    whole, _, fraction = text.removesuffix("Z").partition(".")
    seconds = int(dt.datetime.fromisoformat(f"{whole}+00:00").timestamp())
    return seconds * 1_000_000_000 + int(fraction.ljust(9, "0") or 0)
