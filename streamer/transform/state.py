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

from streamer.model import Change, DigestRing, Instance, Ledger, Position, PositionStatus, Reason, Target
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
    buckets: list[tuple[str, dict[str, Any]]] = []
    for key, raw in items:
        kind, _, name = key.partition("/")
        value = _value(key, raw)
        try:
            if kind == "position":
                _load_position(state, value)
            elif kind == "bucket":
                buckets.append((name, value))
            elif kind == "ledger":
                _load_ledger(state, value)
            else:
                raise StateUnreadableError(f"state key {key!r} is of a kind this release does not know")
        except (KeyError, TypeError, ValueError) as error:
            raise StateUnreadableError(f"state key {key!r} is damaged: {error!r}") from error
    for name, value in buckets:
        identity, _, reason = name.rpartition("/")
        if identity in state.tracked:  # a bucket whose target is gone is on its way out as well
            state.tracked[identity].buckets[Reason(reason)] = Bucket(**value)
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


def _load_position(state: ShardState, value: dict[str, Any]) -> None:
    target = Target(**value["target"])
    instance = value["instance"]
    ring = DigestRing(base64.b64decode(value["ring"], validate=True))
    if len(ring) % DigestRing.WIDTH:
        raise ValueError(f"a ring of {len(ring)} bytes")
    state.tracked[target.id] = Tracked(
        target,
        Position(
            ring,
            value["lines"],
            value["last_ns"],
            value["elapsed_ns"],
            value["newest_ns"],
            PositionStatus(value["status"]),
            None if instance is None else Instance(**instance),
        ),
    )


def _load_ledger(state: ShardState, value: dict[str, Any]) -> None:
    state.sequence, state.owner, cluster = value.pop("sequence"), value.pop("owner"), value.pop("cluster")
    if cluster != state.cluster:
        raise StateUnreadableError(
            f"this state belongs to cluster {cluster!r}, this worker is set to {state.cluster!r}: "
            "give each cluster its own name (`cluster`) or its own Kafka"
        )
    state.ledger = Ledger(**value)
