"""What was written, line by line, against what was published: nothing twice, and every hole said."""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from streamer.model import RING_LINES, Gap, GapReason
from streamer.simulator.logs import LogFile
from streamer.simulator.pods import Instance
from streamer.source.patience import PATIENCE
from streamer.transform.align import INVERSION_NS
from streamer.transform.split import KEPT_BYTES
from tests.model.server import Born, ModelServer
from tests.model.worker import Committed, Line

Key = tuple[bytes, bytes]
_INVERSION_NS: Final = 1_000_000_000
"""A runtime may stamp a batch at once: with its second, here."""


@dataclass
class Written:
    """One line as it stands in the files."""

    key: Key
    time_ns: int
    instance: Instance
    file: LogFile
    headless: tuple[Key, ...] = ()
    """Where a rotation fell between a line's records: its rest, as whoever opens a later file sees it."""
    optional: bool = False
    """A last line without a newline: only a line if the container is known to have ended, and it is served then."""
    cut: bool = False
    """It is a record that was cut before its newline: no stream brings it."""


@dataclass
class Truth:
    """All that one target wrote, in order, and what became of it."""

    lines: list[Written] = field(default_factory=list)
    files: int = 0
    instances: list[Instance] = field(default_factory=list)
    empty_instances: bool = False


def truth_of(born: Sequence[Born], uid: str, max_line_bytes: int) -> Truth:
    truth = Truth()
    for instance, first in ((item.instance, item.first) for item in born if item.uid == uid):
        before = len(truth.lines)
        truth.instances.append(instance)
        for file, line in _lines(instance, first, max_line_bytes):
            truth.lines.append(line)
            truth.files += file
        if len(truth.lines) == before:
            truth.empty_instances = True
    return truth


def _lines(instance: Instance, first: LogFile, most: int) -> Iterator[tuple[bool, Written]]:
    file: LogFile | None = first
    head, head_ns, head_file = b"", 0, first
    rests: list[bytes] = []  # of the line at hand, from each later file on
    stamp_bytes = instance.log.stamp_bytes
    while file is not None:
        at = 0
        data = bytes(file.data)
        while (end := data.find(b"\n", at)) >= 0:
            raw = data[at:end]
            time_ns = file.times[bisect_left(file.starts, at)]
            if head:
                joined = key_of(head + raw[stamp_bytes:], most, stamp_bytes)
                seen = [rest + raw[stamp_bytes:] for rest in rests] + [raw]
                headless = tuple(key_of(rest, most, stamp_bytes) for rest in seen)
                yield at == 0, Written(joined, head_ns, instance, file, headless=headless)
                head, rests = b"", []
            else:
                yield at == 0, Written(key_of(raw, most, stamp_bytes), time_ns, instance, file)
            at = end + 1
        if file.cut:  # nothing goes on with it: the reader never joins it to the next file
            key = key_of(data[at:], most, stamp_bytes)
            yield False, Written(key, file.times[-1], instance, file, optional=True, cut=True)
        elif at < len(data):
            if head:  # a line over three files
                head += data[at:][stamp_bytes:]
                rests = [rest + data[at:][stamp_bytes:] for rest in rests] + [data[at:]]
            else:
                head, head_ns, head_file = data[at:], file.times[bisect_left(file.starts, at)], file
        last, file = file, file.next
    if head:
        at = last.data.rfind(b"\n") + 1
        rest = (key_of(bytes(last.data[at:]), most, stamp_bytes),) if at < len(last.data) else ()
        yield (
            False,
            Written(
                key_of(head, most, stamp_bytes), head_ns, instance, head_file, headless=rest, optional=True
            ),
        )


def key_of(raw: bytes, max_line_bytes: int, stamp_bytes: int) -> Key:
    """How a line reaches us: whole, or its beginning and the digest of the whole. Its stamp is none of its length."""
    if len(raw) - stamp_bytes > max_line_bytes:
        return raw[: min(KEPT_BYTES, max_line_bytes)], hashlib.sha256(raw).digest()
    return raw, b""


@dataclass
class Circumstances:
    """What happened to a run that decides what may be missing or said."""

    clock_steps: bool = False
    long_wait: bool = False
    """A stream may have been behind its log by two rotations."""


def check(
    server: ModelServer,
    committed: Committed,
    max_line_bytes: int,
    circumstances: Circumstances,
) -> list[str]:
    """Everything that is wrong with a run, in words."""
    found = list(committed.faults)
    uids = {item.uid for item in server.born}
    for identity, output in committed.output.items():
        uid = identity.split("/")[2]
        truth = truth_of(server.born, uid, max_line_bytes)
        found += [
            f"{identity.split('/')[1]}: {text}"
            for text in _check(
                server, truth, output, circumstances, uid, released=uid in committed.left_released
            )
        ]
        uids.discard(uid)
    for uid in uids:  # never attached: fine only where the pod is gone
        if any(pod.uid == uid for pod in server.cluster.pods.values()):
            found.append("a pod that is there was never followed")
    return found


def _check(
    server: ModelServer,
    truth: Truth,
    output: Sequence[Line | Gap],
    circumstances: Circumstances,
    uid: str,
    *,
    released: bool,
) -> Iterator[str]:
    """`released`: what it printed last was not ours to miss, as far as anybody knew when its pod had left."""
    taken = [
        (line.raw, line.oversize.digest if line.oversize else b"")
        for line in output
        if isinstance(line, Line)
    ]
    gaps: list[tuple[int, Gap]] = []
    seen = 0
    for item in output:
        if isinstance(item, Gap):
            gaps.append((seen, item))
        else:
            seen += 1
    places: dict[Key, list[int]] = {}
    for index, line in enumerate(truth.lines):
        places.setdefault(line.key, []).append(index)
        for rest in line.headless:
            places.setdefault(rest, []).append(index)
    headless = {rest for line in truth.lines for rest in line.headless}

    holes: list[tuple[int, list[Written]]] = []
    at = 0
    for index, key in enumerate(taken):
        where = places.get(key)
        if where is None:
            yield f"line {index} was never written: {key[0][:120]!r}"
            return
        next_at = bisect_left(where, at)
        if next_at == len(where):
            if key in headless:
                continue  # the rest of a line that was cut by a rotation cannot be told from a line
            if _sent_again_unseen(truth, where[-1], at):
                at = where[-1] + 1
                continue
            yield f"line {index} is doubled or out of order: {key[0][:120]!r}"
            return
        if where[next_at] > at:
            holes.append((index, truth.lines[at : where[next_at]]))
        at = where[next_at] + 1
    if at < len(truth.lines) and not released:
        holes.append((len(taken), truth.lines[at:]))
    served = _served(server, uid)
    holes = [
        (index, missing)
        for index, hole in holes
        # The log's end is looked at from shortly before the last line on: a clock set back can hide a cut record.
        if (
            missing := [
                line
                for line in hole
                if not line.optional
                or (_is_final(line, served) and not (line.cut and circumstances.clock_steps))
            ]
        )
    ]

    yield from _judge_holes(server, truth, taken, holes, gaps, circumstances, uid)
    yield from _judge_gaps(server, truth, holes, gaps, circumstances, uid)


def _sent_again_unseen(truth: Truth, index: int, at: int) -> bool:
    """Whether a line that comes again is in order as far as anybody can see: docs/delivery.md names the case.

    The kubelet has sent a file twice that holds more lines than are remembered, all written within the time by which
    stdout and stderr may overtake each other.
    """
    newest_ns = max(line.time_ns for line in truth.lines[:at])
    return at - index > RING_LINES and newest_ns - truth.lines[index].time_ns <= INVERSION_NS


def _is_final(line: Written, served: set[tuple[int, int]]) -> bool:
    """Whether a last line without a newline can be read as one: its container has ended, and its log is there."""
    return line.instance.finished_ns is not None and (id(line.instance), id(line.file)) in served


def _judge_holes(
    server: ModelServer,
    truth: Truth,
    taken: Sequence[Key],
    holes: Sequence[tuple[int, list[Written]]],
    gaps: Sequence[tuple[int, Gap]],
    circumstances: Circumstances,
    uid: str,
) -> Iterator[str]:
    served = _served(server, uid)
    lost_alike = Counter(line.key for line in truth.lines if (id(line.instance), id(line.file)) not in served)
    alike = Counter(line.key for line in truth.lines)
    for index, missing in holes:
        if index == 0:
            continue  # what was gone before the first line could be read was never followed
        for line in missing:
            still = (id(line.instance), id(line.file)) in served
            if still and not (alike[line.key] > 1 and lost_alike[line.key]):
                yield f"missing, though the API serves it: {line.key[0][:120]!r} (before line {index})"
                return
        # Lines alike to the nanosecond let a hole slide among them.
        low = index
        while low > 0 and taken[low - 1] == missing[0].key:
            low -= 1
        high = index
        while high < len(taken) and taken[high] == missing[-1].key:
            high += 1
        covering = [gap for at, gap in gaps if low <= at <= high or (gap.to_ns is None and at <= high)]
        if not covering and circumstances.clock_steps and _rest_looks_whole(truth, missing):
            continue
        if not covering:
            yield f"{len(missing)} missing in no gap: {missing[0].key[0][:120]!r} (before line {index})"
            return
        if circumstances.clock_steps:
            continue
        for line in missing:
            if not any(
                (gap.from_ns is None or gap.from_ns - _INVERSION_NS <= line.time_ns)
                and (gap.to_ns is None or line.time_ns <= gap.to_ns + _INVERSION_NS)
                for gap in covering
            ):
                yield f"missing outside its gap's times: {line.key[0][:120]!r} {covering}"
                return


def _rest_looks_whole(truth: Truth, missing: Sequence[Written]) -> bool:
    """Whether what is left of a rotated log begins with its container, by its times.

    A clock that was set back between the rotation and the next line makes it so. The API shows nothing else by which
    the log could be recognised as rotated.
    """
    instance = missing[0].instance
    lines = [line for line in truth.lines if line.instance is instance]
    if lines[: len(missing)] != missing or len(lines) == len(missing):
        return False
    age_ns = lines[len(missing)].time_ns - instance.started_ns
    return -_INVERSION_NS <= age_ns <= PATIENCE.begin_seconds * 1_000_000_000


def _judge_gaps(
    server: ModelServer,
    truth: Truth,
    holes: Sequence[tuple[int, list[Written]]],
    gaps: Sequence[tuple[int, Gap]],
    circumstances: Circumstances,
    uid: str,
) -> Iterator[str]:
    at_holes = {index for index, _ in holes}
    where = Counter(at for at, _ in gaps)
    for at, gap in gaps:
        if where[at] > 1:
            yield f"{where[at]} gaps for one hole: {[gap for place, gap in gaps if place == at]}"
            return
        if gap.certain and at not in at_holes and not truth.empty_instances:
            yield f"a certain gap where nothing is missing: {gap}"
        if gap.reason is GapReason.POD_GONE and uid in {pod.uid for pod in server.cluster.pods.values()}:
            yield f"the pod is there, but {gap}"
        # Before the first line, the first instance is one that was skipped.
        if gap.reason is GapReason.INSTANCES_SKIPPED and len(truth.instances) < (3 if at else 2):
            yield f"no instance was skipped, but {gap}"
        rotated = any(instance.log.rotations for instance in truth.instances)
        if (
            gap.reason is GapReason.ROTATION_UNSEEN
            and not rotated
            and len(truth.instances) < 2
            and not circumstances.long_wait
        ):
            yield f"nothing was rotated, but {gap}"


def _served(server: ModelServer, uid: str) -> set[tuple[int, int]]:
    """The files that a request can still have."""
    served = set()
    for pod in server.cluster.pods.values():
        if pod.uid != uid:
            continue
        for container in pod.containers.values():
            for instance in (container.current, container.last):
                if instance is not None and id(instance) not in server.lost:
                    served.add((id(instance), id(instance.log.current)))
    return served
