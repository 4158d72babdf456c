"""What is written where when the state moves to a topic with another number of shards."""

from __future__ import annotations

import secrets
from functools import partial

from streamer.model import Change
from streamer.shard.assign import shard_of
from streamer.transform.reshard import Shards, moved_away, reshard
from streamer.transform.state import StateNotOursError


def changes_of_move(
    cluster: str, source: tuple[str, Shards], destination: tuple[str, Shards]
) -> dict[str, dict[int, list[Change]]]:
    """The changes by topic and shard; of each topic its name and what it holds.

    A state that was moved away from the destination before may come back. Raises `StateUnreadableError`, and
    `StateNotOursError` where the destination holds anything else.
    """
    (old, before), (new, there) = source, destination
    if taken := sum(len(held.keys() - {"moved"}) for held in there.values()):
        raise StateNotOursError(
            f"the topic {new} holds a state of its own, {taken} keys: name another with --topic, or delete it"
        )
    after = reshard(cluster, before, len(there), partial(shard_of, shards=len(there)), secrets.token_hex(8))
    arriving = {
        shard: [*(Change(key, None) for key in there[shard]), *(Change(*item) for item in held.items())]
        for shard, held in after.items()
    }
    leaving = {shard: moved_away(held, new, len(there)) for shard, held in before.items()}
    return {new: arriving, old: leaving}
