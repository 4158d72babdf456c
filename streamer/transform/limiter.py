"""Limits: who floods has the excess diverted to the overflow topic, whole.

A workload's limits and those of its target run on the target's clock and are part of the state. Those of topics and of
everything protect Kafka: they bind every priority, live in memory, and promise nothing across a restart.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Final

from streamer.model import Alert
from streamer.transform.limit import CALM_AFTER_NS, Rate, StormBucket
from streamer.transform.share import Share, TargetShares
from streamer.transform.stamp import NEVER
from streamer.transform.state import ShardState, TargetState
from streamer.transform.treatment import DEFAULT_RATE, LimitPlan, Treatment

_LOOKED_AT: Final = 4
"""How many buckets, not used for longest, are looked at for each new one: pods come and go, and leave idle ones."""


class Limiter:
    """Keeps the buckets of a shard's alerts."""

    def __init__(self, plan: LimitPlan, state: ShardState) -> None:
        self._plan = plan
        self._state = state
        self._buckets = sum(len(tracked.limits) for tracked in state.tracked.values())
        self._topics: dict[str, StormBucket] = {}
        self._clock = _OurClock()
        self.dropped_storms: list[StormBucket] = []
        """The buckets that were dropped in mid storm; they are to be settled."""
        self._overall = _full(plan.overall or DEFAULT_RATE, 0, "overall", "")
        self.next_due_ns = min(
            (bucket.due_ns for _, _, bucket in self._every() if bucket.held),
            default=NEVER,
        )

    def admit(
        self,
        tracked: TargetState,
        treatment: Treatment,
        alert: Alert,
        topic: str,
        is_first: bool,
        elapsed_ns: int,
        now_ns: int,
    ) -> tuple[StormBucket, int] | None:
        """None if the alert passes; else the bucket of the limit that is exceeded, and that bucket's clock.

        `is_first` says that nothing is known of the alert's group.
        """
        if treatment.limited:
            keys = treatment.workload.keys(alert)
            bucket = tracked.use_limit(keys.workload) or self._begin(
                tracked, treatment, alert, keys.workload, elapsed_ns
            )
            if not bucket.admit(treatment.rate, elapsed_ns):
                bucket.workload = bucket.workload or treatment.workload.workload_texts(alert)
                return bucket, elapsed_ns
            if (limit := self._plan.target) is not None:
                if (shares := tracked.shares) is None:
                    shares = TargetShares(
                        Share(limit.open.burst, elapsed_ns), Share(limit.reserved.burst, elapsed_ns)
                    )
                tracked.note_shares(shares)
                if not shares.open.admit(limit.open, keys.tenant, elapsed_ns) and not (
                    is_first and shares.reserved.admit(limit.reserved, keys.tenant, elapsed_ns)
                ):
                    shares.storm.blame(treatment.workload.tenant_texts(alert))
                    return shares.storm, elapsed_ns
        if self._plan.per_topic is None and self._plan.overall is None:
            return None
        return self._of_kafka(topic, now_ns)

    def _begin(
        self, tracked: TargetState, treatment: Treatment, alert: Alert, key: bytes, elapsed_ns: int
    ) -> StormBucket:
        """The bucket of a workload that has none."""
        self._make_room(tracked, elapsed_ns)
        bucket = _full(treatment.rate, elapsed_ns, "workload", alert.rule[:256])
        self._buckets += 1
        tracked.put_limit(key, bucket)
        return bucket

    def _of_kafka(self, topic: str, now_ns: int) -> tuple[StormBucket, int] | None:
        plan = self._plan
        clock_ns = self._clock.advance(now_ns)
        if plan.per_topic is not None and (rate := plan.per_topic.get(topic)) is not None:
            bucket = self._topics.setdefault(topic, _full(rate, clock_ns, "topic", topic))
            if not bucket.admit(rate, clock_ns):
                return bucket, clock_ns
        if plan.overall is not None and not self._overall.admit(plan.overall, clock_ns):
            return self._overall, clock_ns
        return None

    def divert(self, bucket: StormBucket, clock_ns: int, line_ns: int, now_ns: int) -> bool:
        """Count an alert that goes to the overflow topic; True if a storm begins with it."""
        begins = bucket.divert(clock_ns, line_ns, now_ns)
        self.next_due_ns = min(self.next_due_ns, bucket.due_ns)
        return begins

    def calm(self, until_ns: int) -> list[tuple[TargetState | None, bytes, StormBucket]]:
        """The buckets that have diverted something, but nothing for a while; they are to be settled."""
        latest_ns = until_ns + CALM_AFTER_NS  # what is due later was counted before our clock stepped back
        if until_ns < self.next_due_ns <= latest_ns or self.next_due_ns == NEVER:
            return []
        found: list[tuple[TargetState | None, bytes, StormBucket]] = []
        self.next_due_ns = NEVER
        for entry in self._every():
            bucket = entry[2]
            bucket.due_ns = min(bucket.due_ns, latest_ns)
            if bucket.held and bucket.due_ns <= until_ns:
                found.append(entry)
            elif bucket.held:
                self.next_due_ns = min(self.next_due_ns, bucket.due_ns)
        return found

    def storms(self) -> int:
        """How many limits have been exceeded for long."""
        return sum(bucket.storm for _, _, bucket in self._every())

    def _every(self) -> Iterator[tuple[TargetState | None, bytes, StormBucket]]:
        for tracked in self._state.tracked.values():
            yield from ((tracked, key, bucket) for key, bucket in tracked.limits.items())
            if tracked.shares is not None:
                yield tracked, b"", tracked.shares.storm
        yield from ((None, b"", bucket) for bucket in (*self._topics.values(), self._overall))

    def forget(self, tracked: TargetState) -> None:
        """A target is gone, its buckets with it."""
        self._buckets -= len(tracked.limits)

    def _make_room(self, tracked: TargetState, elapsed_ns: int) -> None:
        """Drop idle buckets; where there are too many, those of this target that were not used for longest."""
        limits = tracked.limits
        drop = [key for key in islice(limits, _LOOKED_AT) if limits[key].is_idle(elapsed_ns)]
        if not drop and self._buckets >= self._plan.max_buckets:
            drop = [key for key, bucket in limits.items() if bucket.is_idle(elapsed_ns)]
            drop = drop or list(islice(limits, max(1, len(limits) // 16)))
        for key in drop:
            if (bucket := tracked.drop_limit(key)).storm:
                self.dropped_storms.append(bucket)
        self._buckets -= len(drop)


class _OurClock:
    """Our clock, made monotonic: a step back counts as no time."""

    __slots__ = ("_elapsed_ns", "_last_ns")

    def __init__(self) -> None:
        self._elapsed_ns = self._last_ns = 0

    def advance(self, now_ns: int) -> int:
        if self._last_ns:
            self._elapsed_ns += max(0, now_ns - self._last_ns)
        self._last_ns = now_ns
        return self._elapsed_ns


def _full(rate: Rate, clock_ns: int, limit: str, name: str) -> StormBucket:
    return StormBucket(float(rate.burst), clock_ns, limit=limit, name=name)
