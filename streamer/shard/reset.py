"""Forgetting by hand: what was counted of a target and not reported is reported first, as for a pod that is gone."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterable
from typing import Final, NamedTuple

from streamer.flow.publishing import BatchRefused, Publisher, PublishFailed, RecordsRefused, Refusals
from streamer.model import Change, Publication
from streamer.transform.load import load
from streamer.transform.plan import Plan
from streamer.transform.process import Processor
from streamer.transform.state import StateNotOursError, StateUnreadableError

_TRIES: Final = 6
"""As a shard does: a batch that is refused, its records one by one, and then the letters that take their place."""
_LASTING: Final = frozenset({"ledger", "key"})
"""What belongs to a shard and to none of its targets."""


class Forgotten(NamedTuple):
    """What a reset has done to one shard."""

    keys: int
    """Stored keys that are gone."""
    records: int
    """Summaries and health records that were published."""


async def reset(publisher: Publisher, plan: Plan, targets: Collection[str] | None, now_ns: int) -> Forgotten:
    """Forget targets of one shard, by `Target.id`; None: all that is stored of any, read or not.

    The shard is taken over, so that nobody else can commit to it meanwhile, and its ledger goes on. A state that cannot
    be read loses its ledger too. Raises `PublishError`, after which it may be done or not and can be tried again;
    `StateUnreadableError` where targets are named in a shard that cannot be read, `StateNotOursError`.
    """
    refused, isolate = Refusals(), frozenset[str]()
    for _ in range(_TRIES):
        stored = await publisher.open()
        publication = _forget(plan, stored, targets, now_ns, refused)
        if not publication.changes:
            return Forgotten(0, 0)
        try:
            await publisher.publish(publication, isolate=isolate)
        except BatchRefused as error:
            isolate |= error.topics
        except RecordsRefused as error:
            refused.add(error)
        else:
            gone = {key for key, value in publication.changes if value is None} & {key for key, _ in stored}
            return Forgotten(len(gone), len(publication.records))
    raise PublishFailed(
        "Kafka refuses the summaries of what was counted: see max.message.bytes of the topics"
    )


def _forget(
    plan: Plan,
    stored: Iterable[tuple[str, bytes]],
    targets: Collection[str] | None,
    now_ns: int,
    refused: Refusals,
) -> Publication:
    stored = list(stored)
    try:
        state = load(plan.cluster, stored, plan.shards)
    except StateNotOursError:
        raise
    except StateUnreadableError:
        if targets is not None:
            raise
        return Publication(changes=[Change(key, None) for key, _ in stored])
    if not stored:
        return Publication()
    state.owner = secrets.token_hex(8)  # who was frozen in its commit must not take ours for its own
    gone = [one.target for name, one in state.tracked.items() if targets is None or name in targets]
    publication = Processor(plan, state).forget(gone, now_ns, refused)
    if targets is None:
        done = {change.key for change in publication.changes} | _LASTING
        publication.changes += [Change(key, None) for key, _ in stored if key not in done]
    return publication
