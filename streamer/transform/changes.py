"""A shard's state as a changelog of small keys, committed with the alerts that moved it.

One key for each target's position, bucket, window, and what a window has counted; one for the ledger, one for the
key of the fingerprints (and one for each target that has brought another with it). Only what a transaction changes is
written; what is over leaves a tombstone. Samples and variants' fields, the long parts, are written once.

Every value carries the version of its format: as JSON in the key `v`, or, where nearly each line changes one (windows,
counts and limits), as the first of packed bytes, which cost a tenth.
"""

from __future__ import annotations

import base64
from typing import Any, Final

import orjson

from streamer.model import Change, PositionStatus
from streamer.transform.fingerprint import DIGEST_BYTES, kept
from streamer.transform.journal import Place
from streamer.transform.limit import Bucket, StormBucket
from streamer.transform.repeats import Repeats, Variant
from streamer.transform.share import Share, TargetShares
from streamer.transform.state import FORMAT, ShardState, TargetState
from streamer.transform.volatile import Kind, Kinds
from streamer.transform.window import Window

_PACKED: Final = bytes([FORMAT])


def position_change(tracked: TargetState) -> Change:
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


def target_key_change(tracked: TargetState) -> Change:
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


def drain(state: ShardState, now_ns: int) -> list[Change]:
    """What the stored state does not have yet; from now on it counts as stored. `now_ns` is our clock.

    Changes may be cut off where there are no transactions, and what is left must be readable: what means nothing
    without something else is written after it, and deleted before. Positions come late: lines behind one that was not
    written are read again, as the same records.
    """
    first, found, counts, positions = list[Change](), list[Change](), list[Change](), list[Change]()
    gone = list[Change]()
    for place, what in state.journal.take().items():
        kind, path = place[0], _path(place)
        if what is None:
            # A window that counts again may have other variants: until these are counted, the old counts need theirs.
            of_kind = {"repeats": first, "variant": gone, "position": positions}.get(kind, found)
            of_kind.append(Change(path, None))
        elif isinstance(what, Window):
            windows = state.tracked[place[1]].windows
            if kind == "window":
                found.append(Change(path, _PACKED + windows.settle(what)))
            elif (repeats := what.repeats) is not None:
                if what.is_counted:
                    windows.due_at_latest(what, repeats, what.counted_ns, now_ns)
                    what.is_counted = False
                counts.append(Change(path, _PACKED + repeats.pack()))
        elif kind == "limit":
            assert isinstance(what, StormBucket)
            found.append(Change(path, _PACKED + what.pack()))
        elif isinstance(what, TargetState):
            positions.append(position_change(what))
        else:
            found.append(_change(path, _value(kind, what)))
    state.tidy()
    return first + found + counts + gone + positions


def _path(place: Place) -> str:
    """The key of what is stored at a place."""
    kind, target, name = place
    if not name:
        return f"{kind}/{target}"
    if kind == "bucket":
        return f"{kind}/{target}/{name.decode()}"
    if kind == "variant":
        return f"{kind}/{target}/{name[:DIGEST_BYTES].hex()}/{name[DIGEST_BYTES:].hex()}"
    return f"{kind}/{target}/{name.hex()}"


def _value(kind: str, what: object) -> dict[str, Any]:
    if isinstance(what, Bucket):
        return _bucket(what)
    if isinstance(what, Repeats):
        what.is_stored = True
        return {"alert": what.sample.decode(), "group_id": what.group_id.hex()}
    if isinstance(what, Variant):
        what.is_stored = True
        return {"id": what.id.hex(), "fields": what.fields, "is_new": what.is_new}
    if isinstance(what, TargetShares):
        return {
            "open": _share(what.open),
            "reserved": _share(what.reserved),
            "storm": _limit(what.storm),
        }
    if isinstance(what, Kind):
        return _kind(what)
    assert isinstance(what, Kinds), kind
    return {"reported": list(what.reported)}


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


def _change(key: str, value: dict[str, Any] | None) -> Change:
    return Change(key, None if value is None else kept(orjson.dumps({"v": FORMAT, **value})))
