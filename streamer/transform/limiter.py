"""Limits: who floods a rule, a topic or everything has its excess diverted to the overflow topic, whole.

A target's own limits run on the target's clock and are part of the state. Those of topics and of everything protect
Kafka: they run on our clock, live in memory, and promise nothing across a restart.
"""

from __future__ import annotations

from itertools import islice
from typing import Final

from streamer.model import Alert
from streamer.transform.limit import Rate, StormBucket
from streamer.transform.state import ShardState, Tracked
from streamer.transform.treatment import DEFAULT_RATE, LimitPlan, Treatment

_NEVER: Final = 1 << 63


class Limiter:
    """Keeps the buckets of a shard's alerts."""

    def __init__(self, plan: LimitPlan, state: ShardState) -> None:
        self._plan = plan
        self._state = state
        self._buckets = sum(len(tracked.limits) for tracked in state.tracked.values())
        self._topics: dict[str, StormBucket] = {}
        self.dropped_storms: list[StormBucket] = []
        """The buckets that were dropped in mid storm; they are to be settled."""
        self._overall = _full(plan.overall or DEFAULT_RATE, 0, "overall", "")
        self.next_due_ns = min(
            (b.due_ns for tracked in state.tracked.values() for b in tracked.limits.values() if b.held),
            default=_NEVER,
        )

    def admit(
        self,
        tracked: Tracked,
        treatment: Treatment,
        alert: Alert,
        topic: str,
        elapsed_ns: int,
        now_ns: int,
    ) -> tuple[StormBucket, int] | None:
        """None if the alert passes; else the bucket that is empty, and that bucket's clock."""
        key = treatment.limit_key_of(alert)
        bucket = tracked.limits.pop(key, None)
        if bucket is None:
            self._make_room(tracked, elapsed_ns)
            bucket = _full(treatment.rate, elapsed_ns, "rule", alert.rule[:256])
            self._buckets += 1
        tracked.limits[key] = bucket
        tracked.dirty_limits[key] = None
        if not bucket.admit(treatment.rate, elapsed_ns):
            return bucket, elapsed_ns
        if self._plan.per_topic is not None and (rate := self._plan.per_topic.get(topic)) is not None:
            bucket = self._topics.setdefault(topic, _full(rate, now_ns, "topic", topic))
            if not bucket.admit(rate, now_ns):
                return bucket, now_ns
        if self._plan.overall is not None and not self._overall.admit(self._plan.overall, now_ns):
            return self._overall, now_ns
        return None

    def divert(self, bucket: StormBucket, clock_ns: int, line_ns: int, now_ns: int) -> bool:
        """Count an alert that goes to the overflow topic; True if a storm begins with it."""
        begins = bucket.divert(clock_ns, line_ns, now_ns)
        self.next_due_ns = min(self.next_due_ns, bucket.due_ns)
        return begins

    def calm(self, until_ns: int) -> list[tuple[Tracked | None, bytes, StormBucket]]:
        """The buckets that have diverted something, but nothing for a while; they are to be settled."""
        if self.next_due_ns > until_ns:
            return []
        found: list[tuple[Tracked | None, bytes, StormBucket]] = []
        every: list[tuple[Tracked | None, bytes, StormBucket]] = [
            (tracked, key, bucket)
            for tracked in self._state.tracked.values()
            for key, bucket in tracked.limits.items()
        ]
        every += [(None, b"", bucket) for bucket in (*self._topics.values(), self._overall)]
        self.next_due_ns = _NEVER
        for entry in every:
            bucket = entry[2]
            if bucket.held and bucket.due_ns <= until_ns:
                found.append(entry)
            elif bucket.held:
                self.next_due_ns = min(self.next_due_ns, bucket.due_ns)
        return found

    def storms(self) -> int:
        """How many limits have been exceeded for long."""
        ours = sum(b.storm for tracked in self._state.tracked.values() for b in tracked.limits.values())
        return ours + sum(bucket.storm for bucket in (*self._topics.values(), self._overall))

    def forget(self, tracked: Tracked) -> None:
        """A target is gone, its buckets with it."""
        self._buckets -= len(tracked.limits)

    def _make_room(self, tracked: Tracked, elapsed_ns: int) -> None:
        """Drop buckets where there are too many: idle ones of this target, or those not used for longest."""
        if self._buckets < self._plan.max_buckets:
            return
        limits = tracked.limits
        idle = [key for key, bucket in limits.items() if bucket.is_idle(elapsed_ns)]
        if not idle:
            idle = list(islice(limits, max(1, len(limits) // 16)))
        for key in idle:
            if (bucket := limits.pop(key)).storm:
                self.dropped_storms.append(bucket)
            tracked.dirty_limits[key] = None
        self._buckets -= len(idle)


def _full(rate: Rate, clock_ns: int, limit: str, name: str) -> StormBucket:
    return StormBucket(float(rate.burst), clock_ns, limit=limit, name=name)
