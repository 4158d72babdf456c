"""A shard's state as a changelog of small keys, committed with the alerts that moved it.

One key for each target's position, bucket, window, and what a window has counted; one for the ledger, one for the
key of the fingerprints. Only what a transaction changes is written; what is over leaves a tombstone. Every value is
JSON and carries the version of its format. Samples and texts, the long parts, are written once.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

import orjson

from streamer.model import Change
from streamer.transform.state import FORMAT, ShardState, Tracked
from streamer.transform.window import Repeats, Window

SAMPLE = b""
"""Stands for the sample among the names of variants that the state holds."""


def position_change(tracked: Tracked) -> Change:
    """A target's position as a change of state."""
    target, position = tracked.target, tracked.position
    value = {
        "target": asdict(target),
        "ring": base64.b64encode(position.ring).decode(),
        "lines": position.lines,
        "last_ns": position.last_ns,
        "elapsed_ns": position.elapsed_ns,
        "newest_ns": position.newest_ns,
        "status": position.status,
        "instance": position.instance,
    }
    return _change(f"position/{target.id}", value)


def key_change(state: ShardState) -> Change:
    """The key of the fingerprints as a change of state; written by a shard's first transaction."""
    return _change("key", {"key": state.key.hex()})


def ledger_change(state: ShardState) -> Change:
    """The ledger, the sequence number and the owner as a change of state; written by every transaction."""
    value = {"sequence": state.sequence, "owner": state.owner, "cluster": state.cluster}
    return _change("ledger", value | asdict(state.ledger))


def take_changes(tracked: Tracked) -> Iterable[Change]:
    """What of a target, beside its position, the stored state does not have yet; from now on it counts as stored."""
    # What was told and counted anew within one transaction is one change, the last.
    return {change.key: change for change in _take_changes(tracked)}.values()


def _take_changes(tracked: Tracked) -> Iterator[Change]:
    name = tracked.target.id
    for reason in tracked.dirty_dead_letters:
        bucket = tracked.dead_letters[reason]
        yield _change(f"bucket/{name}/{reason}", asdict(bucket))
    for key in tracked.dirty_limits:
        limit = tracked.limits.get(key)
        yield _change(f"limit/{name}/{key.hex()}", None if limit is None else asdict(limit))
    tracked.dirty_dead_letters.clear()
    tracked.dirty_limits.clear()
    windows = tracked.windows
    for group, repeats in windows.told:
        yield from _told(name, group, repeats)
    windows.told.clear()
    for group in windows.dirty:
        path = f"{name}/{group.hex()}"
        window = windows.get(group)
        yield _change(f"window/{path}", None if window is None else _window(window))
        if (counted := windows.repeats.get(group)) is not None:
            yield from _counted(path, counted)
    windows.dirty.clear()


def forget_changes(tracked: Tracked) -> Iterator[Change]:
    """The tombstones of a target that is gone; what it had counted must have been told."""
    name, windows = tracked.target.id, tracked.windows
    yield Change(f"position/{name}", None)
    yield from (Change(f"bucket/{name}/{reason}", None) for reason in tracked.dead_letters)
    # What is dirty may have been dropped from memory and still be stored.
    yield from (Change(f"limit/{name}/{key.hex()}", None) for key in tracked.limits | tracked.dirty_limits)
    for group, repeats in windows.told:
        yield from _told(name, group, repeats)
    yield from (Change(f"window/{name}/{group.hex()}", None) for group in windows.packed | windows.dirty)


def _window(window: Window) -> dict[str, Any]:
    return window._asdict() | {"head": window.head.hex(), "passed": window.passed.hex()}


def _counted(path: str, repeats: Repeats) -> Iterator[Change]:
    """What a window has counted; its texts and the sample only if they are new."""
    value = {
        "count": repeats.count,
        "first_ns": repeats.first_ns,
        "last_ns": repeats.last_ns,
        "due_ns": repeats.due_ns,
        "variants": {variant.hex(): count for variant, count in repeats.variants.items()},
    }
    yield _change(f"repeats/{path}", value)
    if len(repeats.stored) == len(repeats.texts) + 1:
        return
    if SAMPLE not in repeats.stored:
        yield _change(f"sample/{path}", {"alert": repeats.sample.decode()})
        repeats.stored.add(SAMPLE)
    for variant, text in repeats.texts.items():
        if variant not in repeats.stored:
            yield _change(f"variant/{path}/{variant.hex()}", {"text": text})
            repeats.stored.add(variant)


def _told(name: str, group: bytes, repeats: Repeats) -> Iterator[Change]:
    if repeats.stored:
        path = f"{name}/{group.hex()}"
        yield Change(f"repeats/{path}", None)
        for variant in repeats.stored:
            yield Change(f"variant/{path}/{variant.hex()}" if variant else f"sample/{path}", None)


def _change(key: str, value: dict[str, Any] | None) -> Change:
    return Change(key, None if value is None else orjson.dumps({"v": FORMAT} | value))
