"""Rebuild a shard's state from its live keys, and refuse rather than guess."""

from __future__ import annotations

import base64
import struct
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import fields
from typing import Any, Final

import orjson

from streamer.model import (
    RING_LINES,
    Alert,
    DigestRing,
    Instance,
    Ledger,
    Position,
    PositionStatus,
    Reason,
    Target,
)
from streamer.transform.fingerprint import DIGEST_BYTES
from streamer.transform.limit import Bucket, StormBucket
from streamer.transform.parse import parse
from streamer.transform.repeats import Repeats
from streamer.transform.share import Share, TargetShares
from streamer.transform.stamp import StampReader
from streamer.transform.state import FORMAT, ShardState, StateNotOursError, StateUnreadableError
from streamer.transform.volatile import Kind
from streamer.transform.window import Window

Value = dict[str, Any]


def load(cluster: str, items: Iterable[tuple[str, bytes]], shards: int = 0) -> ShardState:
    """The state that was stored; raises `StateUnreadableError`.

    With `shards`, it must be one of so many.
    """
    state = ShardState(cluster)
    by_kind: dict[str, list[tuple[str, bytes]]] = defaultdict(list)
    for key, raw in items:
        by_kind[key.partition("/")[0]].append((key, raw))
    found = _Found()
    for kind, loader in _LOADERS.items():  # in this order: what belongs to a target comes after it
        for key, raw in by_kind[kind]:
            value = packed_of(key, raw) if kind in PACKED else value_of(key, raw)
            try:
                loader(state, key.partition("/")[2], value, found)
            except (AttributeError, KeyError, TypeError, ValueError, IndexError, struct.error) as error:
                raise StateUnreadableError(f"state key {key!r} is damaged: {error!r}") from error
    if unknown := by_kind.keys() - _LOADERS.keys():
        raise StateUnreadableError(f"state keys of a kind this release does not know: {sorted(unknown)}")
    if any(by_kind.values()) and not by_kind["ledger"]:  # every transaction writes it
        raise StateUnreadableError("the state is damaged: it holds no ledger")
    if shards and state.shards not in {0, shards}:
        raise StateNotOursError(
            f"this state is divided into {state.shards} shards, but kafka.shards is {shards}: set it back, or move the "
            f"state by `falco-streamer state reshard --to {shards}`"
        )
    stamps = StampReader()
    for path, repeats in found.repeats.items():
        if path not in found.windows or not repeats.sample:
            raise StateUnreadableError(
                f"the state is damaged: {_named('repeats', path)} without its window or sample"
            )
        if not isinstance(parse(repeats.sample, 0, stamps), Alert):
            raise StateUnreadableError(f"state key '{_named('sample', path)}' is damaged: it holds no alert")
        if not all(variant.id for variant in repeats.variants.values()):
            raise StateUnreadableError(
                f"the state is damaged: {_named('repeats', path)} without one of its variants"
            )
        found.windows[path].repeats = repeats
    for identity, tracked in state.tracked.items():
        tracked.windows.restore(found.of_target[identity])
    return state


class _Found:
    """Windows and what they have counted, by target and group, until all of it is there."""

    def __init__(self) -> None:
        self.windows: dict[tuple[str, bytes], Window] = {}
        self.repeats: dict[tuple[str, bytes], Repeats] = {}
        self.of_target: dict[str, list[Window]] = defaultdict(list)


def _named(kind: str, path: tuple[str, bytes]) -> str:
    return f"{kind}/{path[0]}/{path[1].hex()}"


def packed_of(key: str, raw: bytes) -> bytes:
    """The packed fields that are stored under a key; raises `StateUnreadableError`."""
    if raw[:1] != bytes([FORMAT]):
        raise _of_another_release(key, raw[0] if raw else None)
    return raw[1:]


def value_of(key: str, raw: bytes) -> Value:
    """The JSON object that is stored under a key; raises `StateUnreadableError`."""
    try:
        value = orjson.loads(raw)
        version = value.pop("v")
    except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError) as error:
        raise StateUnreadableError(
            f"state key {key!r} is damaged: it holds no versioned JSON object"
        ) from error
    if version != FORMAT:
        raise _of_another_release(key, version)
    return dict(value)


def _of_another_release(key: str, version: object) -> StateUnreadableError:
    return StateUnreadableError(
        f"state key {key!r} has format {version!r}, this release reads format {FORMAT}: "
        "run the release that wrote it, or a newer one"
    )


def _load_position(state: ShardState, name: str, value: Value, _: object) -> None:
    target = Target(**{part: _text(text) for part, text in value["target"].items()})
    if target.id != name:
        raise ValueError(f"it holds the position of {target.id}")
    instance = value["instance"]
    ring = DigestRing(base64.b64decode(_text(value["ring"]), validate=True))
    if len(ring) % DigestRing.WIDTH or ring.lines > RING_LINES:
        raise ValueError(f"a ring of {len(ring)} bytes")
    state.take(target).position = Position(
        ring,
        _count(value["lines"]),
        _count(value["last_ns"]),
        _count(value["elapsed_ns"]),
        _count(value["newest_ns"]),
        _status(value),
        None
        if instance is None
        else Instance(_text(instance["container_id"]), _count(instance["restart_count"])),
    )


def _status(value: Value) -> PositionStatus:
    status = PositionStatus(value["status"])
    return PositionStatus.RELEASED if _flag(value.get("released", False)) else status


def _load_bucket(state: ShardState, name: str, value: Value, _: object) -> None:
    identity, _, reason = name.rpartition("/")
    bucket = Bucket(_number(value.pop("tokens")), **{field: _count(count) for field, count in value.items()})
    if (tracked := state.tracked.get(identity)) is not None:  # else it is on its way out, with its target
        tracked.dead_letters[Reason(reason)] = bucket


def _load_limit(state: ShardState, name: str, packed: bytes, _: object) -> None:
    identity, _, key = name.rpartition("/")
    bucket = StormBucket.unpack(packed)
    if (tracked := state.tracked.get(identity)) is not None:
        tracked.limits[_digest(key)] = bucket


def _storm_bucket(value: Value) -> StormBucket:
    return StormBucket(
        tokens=_number(value.pop("tokens")),
        limit=_text(value.pop("limit")),
        name=_text(value.pop("name")),
        workload={_text(name): _text(text) for name, text in value.pop("workload").items()},
        storm=_flag(value.pop("storm")),
        **{field: _count(count) for field, count in value.items()},
    )


def _load_shares(state: ShardState, name: str, value: Value, _: object) -> None:
    shares = TargetShares(_share(value["open"]), _share(value["reserved"]), _storm_bucket(value["storm"]))
    if (tracked := state.tracked.get(name)) is not None:
        tracked.shares = shares


def _share(value: Value) -> Share:
    taken = {_digest(tenant): _number(taken) for tenant, taken in value["taken"].items()}
    return Share(_count(value["tokens"]), _count(value["at_ns"]), taken)


def _load_kind(state: ShardState, name: str, value: Value, _: object) -> None:
    identity, _, key = name.rpartition("/")
    kind = Kind(
        _text(value["rule"]),
        _text(value["source"]),
        _digest(value["definition"]),
        _count(value["seen"]),
        {_text(field): bytes.fromhex(_text(known)) for field, known in value["values"].items()},
        tuple(map(_text, value["volatile"])),
    )
    if (tracked := state.tracked.get(identity)) is not None:
        tracked.kinds.known[_digest(key)] = kind


def _load_volatile(state: ShardState, name: str, value: Value, _: object) -> None:
    reported = {(_text(source), _text(field)): None for source, field in value["reported"]}
    if (tracked := state.tracked.get(name)) is not None:
        tracked.kinds.reported = reported


def _load_window(state: ShardState, name: str, packed: bytes, found: _Found) -> None:
    identity, _, group = name.rpartition("/")
    window = Window.read(_digest(group), packed)
    if identity in state.tracked:
        found.windows[identity, window.group] = window
        found.of_target[identity].append(window)


def _load_repeats(state: ShardState, name: str, packed: bytes, found: _Found) -> None:
    identity, _, group = name.rpartition("/")
    repeats = Repeats.unpack(packed)
    if identity in state.tracked:
        repeats.number = len(found.repeats)
        found.repeats[identity, _digest(group)] = repeats


def _load_sample(_: ShardState, name: str, value: Value, found: _Found) -> None:
    identity, _slash, group = name.rpartition("/")
    if (repeats := found.repeats.get((identity, _digest(group)))) is not None:
        repeats.sample = _text(value["alert"]).encode()
        repeats.group_id = _digest(value["group_id"])
        repeats.evidence_bytes += len(repeats.sample)


def _load_variant(_: ShardState, name: str, value: Value, found: _Found) -> None:
    identity, group, digest = name.rsplit("/", 2)
    repeats = found.repeats.get((identity, _digest(group)))
    if repeats is not None and (variant := repeats.variants.get(_digest(digest))) is not None:
        variant.id, variant.is_new = _digest(value["id"]), _flag(value["is_new"])
        variant.fields = _object(value["fields"])
        repeats.evidence_bytes += len(orjson.dumps(variant.fields))


def _load_key(state: ShardState, name: str, value: Value, _: object) -> None:
    key = _digest(value["key"])
    if not name:
        state.key = key
    elif (tracked := state.tracked.get(name)) is not None:
        tracked.key = key


def _load_moved(_: ShardState, __: str, value: Value, ___: object) -> None:
    topic, shards = _text(value["topic"]), _count(value["shards"])
    raise StateNotOursError(
        f"this state was moved to the topic {topic} with {shards} shards: set topics.state: {topic} and "
        f"kafka.shards: {shards}"
    )


def _load_ledger(state: ShardState, _: str, value: Value, __: object) -> None:
    cluster = _text(value.pop("cluster"))
    if cluster != state.cluster:
        raise StateNotOursError(
            f"this state belongs to cluster {cluster!r}, this worker is set to {state.cluster!r}: "
            "give each cluster its own name (`cluster`) or its own Kafka"
        )
    state.shards = _count(value.pop("shards"))
    state.sequence, state.owner = _count(value.pop("sequence")), _text(value.pop("owner"))
    if unknown := value.keys() - {field.name for field in fields(Ledger)}:
        raise ValueError(f"counters this release does not know: {sorted(unknown)}")
    state.ledger = Ledger(**{counter: _count(number) for counter, number in value.items()})


_LOADERS: Final[dict[str, Callable[[ShardState, str, Any, Any], None]]] = {
    "moved": _load_moved,
    "ledger": _load_ledger,
    "position": _load_position,
    "key": _load_key,
    "bucket": _load_bucket,
    "limit": _load_limit,
    "shares": _load_shares,
    "kind": _load_kind,
    "volatile": _load_volatile,
    "window": _load_window,
    "repeats": _load_repeats,
    "sample": _load_sample,
    "variant": _load_variant,
}
PACKED: Final = frozenset({"window", "repeats", "limit"})
"""What stands in packed bytes; the rest is JSON."""


# The messages do not quote the value: it may be an alert's, and they are logged.


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{type(value).__name__} in place of a count")
    return value


def _number(value: Any) -> float:
    if type(value) not in {int, float}:
        raise ValueError(f"{type(value).__name__} in place of a number")
    return float(value)


def _flag(value: Any) -> bool:
    if type(value) is not bool:
        raise ValueError(f"{type(value).__name__} in place of a flag")
    return value


def _object(value: Any) -> Value:
    if type(value) is not dict:
        raise ValueError(f"{type(value).__name__} in place of an object")
    return value


def _text(value: Any) -> str:
    if type(value) is not str:
        raise ValueError(f"{type(value).__name__} in place of text")
    return value


def _digest(value: Any) -> bytes:
    digest = bytes.fromhex(_text(value))
    if len(digest) != DIGEST_BYTES:
        raise ValueError(f"{type(value).__name__} in place of a digest")
    return digest
