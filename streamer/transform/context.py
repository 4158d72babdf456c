"""What all steps of a shard's core share: the plan, the state, and what is made of them once."""

from __future__ import annotations

from streamer.model import Target
from streamer.transform.dedupe import Deduplicator
from streamer.transform.encode import TargetEncoder
from streamer.transform.limiter import Limiter
from streamer.transform.plan import Plan
from streamer.transform.stamp import StampReader
from streamer.transform.state import ShardState, TargetState
from streamer.transform.treatment import Treatments


class Context:
    """Created whenever the state is loaded."""

    def __init__(self, plan: Plan, state: ShardState) -> None:
        self.plan = plan
        self.state = state
        self.stamps = StampReader()
        self._treatments: dict[bytes, Treatments] = {}
        self.deduplicator = Deduplicator(plan.dedupe, state)
        self.limiter = Limiter(plan.limits, state)
        self._encoders: dict[str, TargetEncoder] = {}

    def treatments_of(self, tracked: TargetState) -> Treatments:
        """How a target's alerts are treated; those with one key of fingerprints share all that was worked out."""
        key = tracked.key or self.state.key
        if (known := self._treatments.get(key)) is None:
            known = self._treatments[key] = Treatments(self.plan.dedupe, self.plan.limits, key)
        return known

    def forget_kinds(self) -> None:
        """Forget what was learned of sources that this plan has configured."""
        for tracked in self.state.tracked.values():
            tracked.keep_kinds(self.treatments_of(tracked).definition)

    def encoder(self, target: Target) -> TargetEncoder:
        """The encoder of a target's records."""
        if (encoder := self._encoders.get(target.id)) is None:
            encoder = self._encoders[target.id] = TargetEncoder(
                self.plan.cluster, target, annotate=self.plan.annotate, fields=self.plan.fields
            )
        return encoder

    def forget(self, target: Target) -> None:
        """A target is gone, with all that was known of it."""
        if (tracked := self.state.tracked.get(target.id)) is not None:
            self.limiter.forget(tracked)
            self.state.forget(target)
            self._encoders.pop(target.id, None)
