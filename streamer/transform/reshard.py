"""The state of a cluster divided again: every stored key goes to the shard that its pod belongs to from now on.

Nothing is reported, ended or forgotten by that: keys move as they are. Only what belongs to a whole shard is new:

- The ledgers: their sum stays, and each balances. What a target has counted and not reported moves with it; the rest
  stays under the number that it had, as far as there is one.
- The key of the fingerprints: a shard goes on with that of the shard which had its number, and a target that comes from
  elsewhere brings the one that its windows and limits were made with.
- The sequence number: it goes on from the highest, so that no shard ever repeats one that it, or its targets, had.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from streamer.model import Change, Ledger
from streamer.transform.changes import key_change, ledger_change, moved_change, target_key_change
from streamer.transform.load import load
from streamer.transform.state import ShardState, TargetState

Shards = Mapping[int, Mapping[str, bytes]]
"""The live keys of each shard with their values."""

_MADE_ANEW: Final = frozenset({"ledger", "key"})


def reshard(
    cluster: str, before: Shards, count: int, shard_of: Callable[[str], int], owner: str
) -> dict[int, dict[str, bytes]]:
    """The state in `count` shards; `shard_of` says where a pod's uid belongs then, `owner` who writes it.

    Raises `StateUnreadableError`: what cannot be read is not moved.
    """
    after: dict[int, dict[str, bytes]] = {shard: {} for shard in range(count)}
    if not any(before.values()):
        return after
    made = {shard: ShardState(cluster, owner=owner, shards=count) for shard in range(count)}
    for shard, stored in sorted(before.items()):
        state, heir = load(cluster, stored.items()), made[shard % count]
        heir.key = heir.key or state.key
        heir.ledger += state.ledger
        for shard_made in made.values():
            shard_made.sequence = max(shard_made.sequence, state.sequence + 1)
        rest = state.ledger.deduplicated
        for tracked in state.tracked.values():
            tracked.key = tracked.key or state.key
            home = made[shard_of(tracked.target.uid)]
            home.tracked[tracked.target.id] = tracked
            # An inexact ledger (at_least_once) may have counted less: what is not there cannot move.
            untold = min(rest, tracked.windows.counted)
            rest -= untold
            home.ledger += _counted(untold)
            heir.ledger += _counted(-untold)
        for key, raw in stored.items():
            if key.partition("/")[0] not in _MADE_ANEW:
                after[shard_of(_uid(key))][key] = raw
    for shard, state in made.items():
        changes = [ledger_change(state), *([key_change(state)] if state.key else [])]
        changes += [target_key_change(one) for one in state.tracked.values() if _has_own_key(one, state)]
        after[shard].update(_values(changes))
    return after


def moved_away(before: Mapping[str, bytes], topic: str, shards: int) -> list[Change]:
    """What a shard's old place is to hold: nothing but where its state is now."""
    return [*(Change(key, None) for key in before), moved_change(topic, shards)]


def _uid(key: str) -> str:
    """Whose pod a key is about: all such keys are `kind/namespace/pod/uid/container…`."""
    return key.split("/")[3]


def _has_own_key(tracked: TargetState, state: ShardState) -> bool:
    return tracked.key != state.key and bool(len(tracked.windows) or tracked.limits)


def _counted(alerts: int) -> Ledger:
    return Ledger(lines=alerts, alerts=alerts, deduplicated=alerts)


def _values(changes: Iterable[Change]) -> dict[str, bytes]:
    return {key: value for key, value in changes if value is not None}
