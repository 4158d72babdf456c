"""Gap records as a request: which part of whose log is to be read from files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import orjson

from streamer.model import Health, Target
from streamer.transform.stamp import LAST_NS, StampReader

_HOW: Final = "expected gap records, one a line, as `falco-streamer tap -o raw` prints them"


class GapsError(Exception):
    """What was given are no gap records of this cluster; the text says why."""


class Hole(NamedTuple):
    """A hole in a target's log; both times, in ns, are those of lines that were read."""

    target: Target
    from_ns: int
    to_ns: int

    def holds(self, time_ns: int) -> bool:
        """Whether a line of this time may be missing; lines of the same time as a border's may be."""
        return self.from_ns <= time_ns <= self.to_ns


def parse_gaps(text: bytes, cluster: str) -> list[Hole]:
    """The holes of gap records; other records are passed over. Raises GapsError."""
    holes = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            value: Any = orjson.loads(line)
            if value.get("health") != Health.GAP:
                continue
            theirs, hole = value["cluster"], _hole(value)
        except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError, ValueError) as error:
            raise GapsError(f"line {number}: {_HOW}") from error
        if theirs != cluster:
            wanted = f"`cluster` is {cluster}" if cluster else "no `cluster` is set"
            raise GapsError(
                f"line {number}: the gap is in cluster {theirs}, and {wanted}; give the worker's configuration with -c"
            )
        holes.append(hole)
    if not holes:
        raise GapsError(f"there is no gap record in it; {_HOW}")
    return holes


def holes_of(holes: Sequence[Hole], target: Target) -> list[Hole]:
    """The holes in one target's log."""
    return [hole for hole in holes if hole.target.id == target.id]


def _hole(value: Any) -> Hole:
    return Hole(Target(**value["target"]), _time(value["from"], 0), _time(value["to"], LAST_NS))


def _time(text: str | None, default_ns: int) -> int:
    if text is None:
        return default_ns
    if (time_ns := StampReader().time(text)) is None:
        raise ValueError(text)
    return time_ns
