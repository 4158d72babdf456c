"""A shard's state as a changelog of small keys, committed with the alerts that moved it.

One key for each target's position, bucket, window, and what a window has counted; one for the ledger, one for the
key of the fingerprints (and one for each target that has brought another with it). Only what a transaction changes is
written; what is over leaves a tombstone. Samples and variants' fields, the long parts, are written once.

Every value carries the version of its format: as JSON in the key `v`, or, where nearly each line changes one (windows
and counts), as the first of packed bytes, which cost a tenth.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from typing import Any, Final

import orjson

from streamer.model import Change, PositionStatus
from streamer.transform.limit import Bucket, StormBucket
from streamer.transform.repeats import SAMPLE, Repeats
from streamer.transform.share import Share
from streamer.transform.state import FORMAT, ShardState, Tracked
from streamer.transform.volatile import Kind

_PACKED: Final = bytes([FORMAT])


def position_change(tracked: Tracked) -> Change:
    """A target's position as a change of state."""
    target, position = tracked.target, tracked.position
    value = {
        "target": {
            "namespace": target.namespace,
            "pod": target.pod,
            "uid": target.uid,
            "container": target.container,
            "node": target.node,
        },
        "ring": base64.b64encode(position.ring).decode(),
        "lines": position.lines,
        "last_ns": position.last_ns,
        "elapsed_ns": position.elapsed_ns,
        "newest_ns": position.newest_ns,
        "status": position.status,
        "instance": position.instance,
    }
    if position.status is PositionStatus.RELEASED:
        # A release that does not know this reads it as a target whose pod has left unseen.
        value |= {"status": PositionStatus.ATTACHED, "released": True}
    return _change(f"position/{target.id}", value)


def key_change(state: ShardState) -> Change:
    """The key of the fingerprints as a change of state; written by a shard's first transaction."""
    return _change("key", {"key": state.key.hex()})


def target_key_change(tracked: Tracked) -> Change:
    """The key of one target's fingerprints, which is not its shard's, as a change of state."""
    return _change(f"key/{tracked.target.id}", {"key": tracked.key.hex()})


def moved_change(topic: str, shards: int) -> Change:
    """What is left in a shard whose state was moved: where it is now."""
    return _change("moved", {"topic": topic, "shards": shards})


def ledger_change(state: ShardState) -> Change:
    """The ledger, the sequence number, the owner and whose state it is; written by every transaction."""
    value = {
        "sequence": state.sequence,
        "owner": state.owner,
        "cluster": state.cluster,
        "shards": state.shards,
    }
    return _change("ledger", value | state.ledger.counters())


def take_changes(tracked: Tracked) -> Iterable[Change]:
    """What of a target, beside its position, the stored state does not have yet; from now on it counts as stored."""
    # What was reported and counted again within one transaction is one change, the last.
    return {change.key: change for change in _take_changes(tracked)}.values()


def _take_changes(tracked: Tracked) -> Iterator[Change]:
    name, windows = tracked.target.id, tracked.windows
    for reason in tracked.dirty_dead_letters:
        yield _change(f"bucket/{name}/{reason}", _bucket(tracked.dead_letters[reason]))
    for key in tracked.dirty_limits:
        limit = tracked.limits.get(key)
        yield _change(f"limit/{name}/{key.hex()}", None if limit is None else _limit(limit))
    if tracked.dirty_shares and (shares := tracked.shares) is not None:
        tracked.dirty_shares = False
        value = {
            "open": _share(shares.open),
            "reserved": _share(shares.reserved),
            "storm": _limit(shares.storm),
        }
        yield _change(f"shares/{name}", value)
    for key in tracked.kinds.dirty:
        kind = tracked.kinds.known.get(key)
        yield _change(f"kind/{name}/{key.hex()}", None if kind is None else _kind(kind))
    if tracked.kinds.dirty_reported:
        tracked.kinds.dirty_reported = False
        yield _change(f"volatile/{name}", {"reported": list(tracked.kinds.reported)})
    for group, repeats in windows.reported:
        yield from _reported(f"{name}/{group.hex()}", repeats)
    for group in windows.dirty:
        packed = windows.packed.get(group)
        yield Change(f"window/{name}/{group.hex()}", None if packed is None else _PACKED + packed)
    for group in windows.counted:
        if (counted := windows.repeats.get(group)) is not None:
            path = f"{name}/{group.hex()}"
            if counted.fresh:  # before the counts, which mean nothing without
                yield from _evidence(path, counted)
            yield Change(f"repeats/{path}", _PACKED + counted.pack())
    for dirty in (
        tracked.dirty_dead_letters,
        tracked.dirty_limits,
        tracked.kinds.dirty,
        windows.reported,
        windows.dirty,
        windows.counted,
    ):
        dirty.clear()


def forget_changes(tracked: Tracked) -> Iterator[Change]:
    """The tombstones of a target that is gone; what it had counted must have been reported."""
    name, windows = tracked.target.id, tracked.windows
    yield Change(f"position/{name}", None)
    if tracked.key:
        yield Change(f"key/{name}", None)
    yield from (Change(f"bucket/{name}/{reason}", None) for reason in tracked.dead_letters)
    # What is dirty may have been dropped from memory and still be stored.
    yield from (Change(f"limit/{name}/{key.hex()}", None) for key in tracked.limits | tracked.dirty_limits)
    if tracked.shares is not None:
        yield Change(f"shares/{name}", None)
    kinds = tracked.kinds.known | tracked.kinds.dirty
    yield from (Change(f"kind/{name}/{key.hex()}", None) for key in kinds)
    if tracked.kinds.reported:
        yield Change(f"volatile/{name}", None)
    for group, repeats in windows.reported:
        yield from _reported(f"{name}/{group.hex()}", repeats)
    yield from (Change(f"window/{name}/{group.hex()}", None) for group in windows.packed | windows.dirty)


def _bucket(bucket: Bucket) -> dict[str, Any]:
    return {
        "tokens": bucket.tokens,
        "at_ns": bucket.at_ns,
        "held": bucket.held,
        "held_from_ns": bucket.held_from_ns,
        "held_to_ns": bucket.held_to_ns,
    }


def _limit(bucket: StormBucket) -> dict[str, Any]:
    return {
        **_bucket(bucket),
        "limit": bucket.limit,
        "name": bucket.name,
        "workload": bucket.workload,
        "votes": bucket.votes,
        "since_ns": bucket.since_ns,
        "last_ns": bucket.last_ns,
        "due_ns": bucket.due_ns,
        "full_ns": bucket.full_ns,
        "storm": bucket.storm,
    }


def _kind(kind: Kind) -> dict[str, Any]:
    return {
        "rule": kind.rule,
        "source": kind.source,
        "definition": kind.definition.hex(),
        "seen": kind.seen,
        "values": {name: known.hex() for name, known in kind.values.items()},
        "volatile": kind.volatile,
    }


def _share(share: Share) -> dict[str, Any]:
    taken = {tenant.hex(): taken for tenant, taken in share.taken.items()}
    return {"tokens": share.tokens, "at_ns": share.at_ns, "taken": taken}


def _evidence(path: str, repeats: Repeats) -> Iterator[Change]:
    """The variants' fields, and the sample, that are not stored yet."""
    for name in repeats.fresh:
        if name == SAMPLE:
            sample = {"alert": repeats.sample.decode(), "group_id": repeats.group_id.hex()}
            yield _change(f"sample/{path}", sample)
        else:
            variant = repeats.variants[name]
            found = {"id": variant.id.hex(), "fields": variant.fields, "is_new": variant.is_new}
            yield _change(f"variant/{path}/{name.hex()}", found)
    repeats.fresh.clear()


def _reported(path: str, repeats: Repeats) -> Iterator[Change]:
    if SAMPLE in repeats.fresh:  # counted and reported within one transaction: nothing of it is stored
        return
    yield Change(f"repeats/{path}", None)
    yield Change(f"sample/{path}", None)
    for variant in repeats.variants.keys() - repeats.fresh:
        yield Change(f"variant/{path}/{variant.hex()}", None)


def _change(key: str, value: dict[str, Any] | None) -> Change:
    return Change(key, None if value is None else orjson.dumps({"v": FORMAT, **value}))
