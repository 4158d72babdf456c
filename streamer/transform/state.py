"""A shard's state in memory, and as the changelog of small keys that is committed with its alerts.

One key a target's position, one a bucket, one for the ledger, one for the identity: only what a transaction
changes is written. Every value is JSON and carries the version of its format.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import orjson

from streamer.model import (
    RING_LINES,
    Change,
    DigestRing,
    Instance,
    Ledger,
    Position,
    PositionStatus,
    Reason,
    Target,
)
from streamer.transform.limit import Bucket

FORMAT: Final = 1


class StateUnreadableError(Exception):
    """The stored state cannot be used: damaged, from a newer release, or another cluster's."""


@dataclass(slots=True)
class Tracked:
    """What a shard knows of one target."""

    target: Target
    position: Position
    buckets: dict[Reason, Bucket] = field(default_factory=dict)


@dataclass(slots=True)
class ShardState:
    """All that a shard must know to go on where it was.

    `sequence` counts commits and `owner` names the process and start that made the last one: after a commit of
    unknown outcome they tell whether it happened, and whether somebody else was here.
    """

    cluster: str
    tracked: dict[str, Tracked] = field(default_factory=dict)
    """By `Target.id`."""
    ledger: Ledger = field(default_factory=Ledger)
    sequence: int = 0
    owner: str = ""

    def take(self, target: Target) -> Tracked:
        """What is known of a target; a new one starts at the beginning."""
        if (known := self.tracked.get(target.id)) is None:
            known = self.tracked[target.id] = Tracked(target, Position())
        return known


def position_change(tracked: Tracked) -> Change:
    """A target's position as a change of state."""
    target, position = tracked.target, tracked.position
    value = {
        "v": FORMAT,
        "target": asdict(target),
        "ring": base64.b64encode(position.ring).decode(),
        "lines": position.lines,
        "last_ns": position.last_ns,
        "elapsed_ns": position.elapsed_ns,
        "newest_ns": position.newest_ns,
        "status": position.status,
        "instance": position.instance,
    }
    return Change(f"position/{target.id}", orjson.dumps(value))


def bucket_change(target: Target, reason: Reason, bucket: Bucket) -> Change:
    """A dead-letter bucket as a change of state."""
    return Change(f"bucket/{target.id}/{reason}", orjson.dumps({"v": FORMAT} | asdict(bucket)))


def ledger_change(state: ShardState) -> Change:
    """The ledger, the sequence number and the owner as a change of state; written by every transaction."""
    value = {"v": FORMAT, "sequence": state.sequence, "owner": state.owner, "cluster": state.cluster}
    return Change("ledger", orjson.dumps(value | asdict(state.ledger)))


def forget_changes(tracked: Tracked) -> list[Change]:
    """The tombstones of a target that is gone."""
    identity = tracked.target.id
    return [
        Change(f"position/{identity}", None),
        *(Change(f"bucket/{identity}/{reason}", None) for reason in tracked.buckets),
    ]


def load(cluster: str, items: Iterable[tuple[str, bytes]]) -> ShardState:
    """Rebuild a shard's state from its live keys; raises `StateUnreadableError` rather than guess."""
    state = ShardState(cluster)
    kinds: set[str] = set()
    for key, raw in sorted(items, key=lambda item: item[0].startswith("bucket/")):  # after their targets
        kind, _, name = key.partition("/")
        value = _value(key, raw)
        kinds.add(kind)
        try:
            if kind == "position":
                _load_position(state, name, value)
            elif kind == "bucket":
                _load_bucket(state, name, value)
            elif kind == "ledger":
                _load_ledger(state, value)
            else:
                raise StateUnreadableError(f"state key {key!r} is of a kind this release does not know")
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise StateUnreadableError(f"state key {key!r} is damaged: {error!r}") from error
    if kinds and "ledger" not in kinds:  # every transaction writes it
        raise StateUnreadableError("the state is damaged: it holds no ledger")
    return state


def _value(key: str, raw: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(raw)
        version = value.pop("v")
    except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError) as error:
        raise StateUnreadableError(
            f"state key {key!r} is damaged: it holds no versioned JSON object"
        ) from error
    if version != FORMAT:
        raise StateUnreadableError(
            f"state key {key!r} has format {version!r}, this release reads format {FORMAT}: "
            "run the release that wrote it, or a newer one"
        )
    return dict(value)


def _load_position(state: ShardState, name: str, value: dict[str, Any]) -> None:
    target = Target(**{part: _text(text) for part, text in value["target"].items()})
    if target.id != name:
        raise ValueError(f"it holds the position of {target.id}")
    instance = value["instance"]
    ring = DigestRing(base64.b64decode(_text(value["ring"]), validate=True))
    if len(ring) % DigestRing.WIDTH or ring.lines > RING_LINES:
        raise ValueError(f"a ring of {len(ring)} bytes")
    state.tracked[target.id] = Tracked(
        target,
        Position(
            ring,
            _count(value["lines"]),
            _count(value["last_ns"]),
            _count(value["elapsed_ns"]),
            _count(value["newest_ns"]),
            PositionStatus(value["status"]),
            None
            if instance is None
            else Instance(_text(instance["container_id"]), _count(instance["restart_count"])),
        ),
    )


def _load_bucket(state: ShardState, name: str, value: dict[str, Any]) -> None:
    identity, _, reason = name.rpartition("/")
    tokens = value.pop("tokens")
    if type(tokens) not in {int, float}:
        raise ValueError(f"{tokens!r} is no number of tokens")
    bucket = Bucket(tokens, **{field: _count(number) for field, number in value.items()})
    if identity in state.tracked:  # a bucket whose target is gone is on its way out as well
        state.tracked[identity].buckets[Reason(reason)] = bucket


def _load_ledger(state: ShardState, value: dict[str, Any]) -> None:
    cluster = _text(value.pop("cluster"))
    if cluster != state.cluster:
        raise StateUnreadableError(
            f"this state belongs to cluster {cluster!r}, this worker is set to {state.cluster!r}: "
            "give each cluster its own name (`cluster`) or its own Kafka"
        )
    state.sequence, state.owner = _count(value.pop("sequence")), _text(value.pop("owner"))
    state.ledger = Ledger(**{counter: _count(number) for counter, number in value.items()})


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r} is no count")
    return value


def _text(value: Any) -> str:
    if type(value) is not str:
        raise ValueError(f"{value!r} is no text")
    return value
