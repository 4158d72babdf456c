"""A state as a shard stores it, with a record of every kind: made by the processor, from lines of two pods."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from streamer.model import Change, Instance, LogBatch, PositionStatus
from streamer.shard.assign import shard_of
from streamer.transform.fingerprint import FingerprintPlan, KeyFields
from streamer.transform.limit import Rate
from streamer.transform.process import Processor
from streamer.transform.state import ShardState
from streamer.transform.treatment import DedupePlan, LimitPlan, TargetLimit
from tests.unit.transform.samples import FALCO, NOW_NS, OTHER, PLAN, SECOND_NS, START_NS, Feed, alert

TREATED = replace(
    PLAN,
    shards=2,
    dedupe=DedupePlan(
        max_variants=1, fingerprint=FingerprintPlan(other=KeyFields(("container.id",)), learns=True)
    ),
    limits=LimitPlan(rate=Rate(per_minute=1, burst=5), target=TargetLimit(Rate(60, 100), Rate(10, 10))),
)


def stored(shards: int = 2, cluster: str = PLAN.cluster) -> dict[int, dict[str, bytes]]:
    """What each shard has stored, by key."""
    found: dict[int, dict[str, bytes]] = {}
    for shard in range(shards):
        state = ShardState(cluster, owner=f"owner-{shard}")
        processor, changes = (
            Processor(replace(TREATED, cluster=cluster, shards=shards), state, bytes([shard]) * 16),
            list[Change](),
        )
        for batch in batches():
            if shard_of(batch.target.uid, shards) == shard:
                changes += processor.process([batch], NOW_NS).changes
        found[shard] = live(changes)
    return found


def live(changes: Iterable[Change], before: dict[str, bytes] | None = None) -> dict[str, bytes]:
    """What a compacted partition holds after these changes."""
    found = dict(before or {})
    for key, value in changes:
        if value is None:
            found.pop(key, None)
        else:
            found[key] = value
    return found


def batches() -> list[LogBatch]:
    """The lines of two pods: one of a busy life, one that was read to its end."""
    busy, ended = Feed(FALCO), Feed(OTHER)
    at_ns = iter(range(START_NS, START_NS + 10**12, SECOND_NS))
    alerts = [
        *[alert(next(at_ns)) for _ in range(3)],  # two variants pass, one is counted
        *[alert(next(at_ns), output_fields=fields("web", f"cat /etc/{n}")) for n in range(3)],
        *[alert(next(at_ns), rule="Other", output_fields=fields(f"c{n}", "id")) for n in range(20)],
    ]
    lines = list(zip(range(START_NS, START_NS + 10**12, SECOND_NS), alerts, strict=False))
    lines += [(lines[-1][0], b"10:00:25.000000000: Notice Falco prints text")] * 5  # two are held back
    later = START_NS + 70 * SECOND_NS  # the first window is over
    instance = Instance("containerd://6f1c", 1)
    return [
        replace(busy.batch(*lines), instance=instance),
        busy.batch((later, alert(later, rule="Third")), (later, alert(later, rule="Third"))),
        replace(ended.batch((START_NS, alert())), status=PositionStatus.DONE),
    ]


def fields(container: str, command: str) -> dict[str, str]:
    return {"container.id": container, "proc.cmdline": command}
