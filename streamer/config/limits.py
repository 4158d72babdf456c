"""Settings: what passes only so often, and goes to the overflow topic beyond that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal, get_args

from pydantic import Field, field_validator

from streamer.config.alert_fields import WORKLOAD_FIELDS
from streamer.config.faults import Fault, FaultsError
from streamer.config.section import (
    FieldsBySource,
    Flag,
    Names,
    NotEmpty,
    Number,
    Section,
    TakesCommas,
    Whole,
)

PriorityName = Literal[
    "emergency", "alert", "critical", "error", "warning", "notice", "informational", "debug"
]
RatePerMinute = Annotated[Number, Field(gt=0, le=60_000_000)]
Burst = Annotated[Whole, Field(ge=1, le=10_000_000)]

_ALWAYS: Final = get_args(PriorityName)[:3]


class RateLimit(Section):
    """A rate, and how much passes at once before it takes hold."""

    rate_per_minute: RatePerMinute = Field(description="How many pass per minute in the long run.")
    burst: Burst = Field(description="How many pass at once before the rate takes hold.")


class LimitOverride(Section):
    """Another rate for some rules."""

    rules: Annotated[Names, NotEmpty] = Field(
        json_schema_extra={"minItems": 1}, description="Globs over the rule's name, such as `Packet socket*`."
    )
    rate_per_minute: RatePerMinute = Field(description="How many of them pass per minute in the long run.")
    burst: Burst = Field(description="How many of them pass at once before the rate takes hold.")


class TargetLimit(RateLimit):
    """What all alerts of one target may take together."""

    enabled: Flag = Field(
        default=True,
        description="Whether there is one. A flood that comes from many pods meets no other limit.",
    )
    rate_per_minute: RatePerMinute = Field(
        default=120, description="How many pass per minute in the long run, of all workloads of one target."
    )
    burst: Burst = Field(
        default=800,
        description="How many pass at once before the rate takes hold. Namespaces (or what comes first in `by`) share "
        "it fairly: one alone takes half of it, and a further one always finds some left.",
    )
    reserved_share: Annotated[Number, Field(ge=0, le=1)] = Field(
        default=0.25,
        description="Which part of both is kept for the first alerts of groups of which nothing is known.",
    )


class Limits(Section):
    """What passes only so often; what is more goes to the overflow topic, whole."""

    enabled: Flag = Field(
        default=True, description="Whether alerts are limited. Only what deduplication let pass is counted."
    )
    protected: Annotated[tuple[PriorityName, ...], TakesCommas] = Field(
        default=_ALWAYS,
        description="Priorities that the limits of workloads and targets never divert. Emergency, Alert and Critical "
        "cannot be left out, and Falco's own reports (`Falco internal: …`) are protected at any priority, from all "
        "limits.",
    )
    by: FieldsBySource = Field(
        default=dict(WORKLOAD_FIELDS),
        description="What makes a workload, each of which has a limit of its own on each target (Falco pod): rule, "
        "priority, source or keys of output_fields. By Falco's source, laid over the defaults shown; `other` is for "
        "sources without an entry. The first key of output_fields is the tenant, which shares the target's limit.",
    )
    rate_per_minute: RatePerMinute = Field(
        default=60,
        description="How many pass per minute in the long run: one a second is more than people read, and room for a "
        "fleet of 1,000 nodes.",
    )
    burst: Burst = Field(
        default=300,
        description="How many pass at once before the rate takes hold: a rollout or a package installation passes, a "
        "storm does not.",
    )
    overrides: tuple[LimitOverride, ...] = Field(
        default=(),
        examples=[[{"rules": ["Packet socket*"], "rate_per_minute": 6, "burst": 20}]],
        description="Other rates for some rules; the first one that matches a rule has it.",
    )
    target: TargetLimit = Field(
        default_factory=TargetLimit,
        description="The limit for all workloads of one target (Falco pod) together.",
    )
    max_buckets: Whole = Field(
        default=200_000,
        ge=1,
        le=100_000_000,
        description="How many limits are counted at a time, in the whole cluster: about 300 bytes each. Beyond, the "
        "one not used for longest is forgotten.",
    )
    per_topic: RateLimit | None = Field(
        default=None,
        description="A limit for each topic of alerts, in the whole cluster, such as {rate_per_minute: 60000, burst: "
        "10000}. It protects Kafka and its consumers: it binds protected priorities as well, and runs on the "
        "worker's clock, so that a replay may decide otherwise. Null: none.",
    )
    overall: RateLimit | None = Field(
        default=None, description="As per_topic, for all alerts of the cluster together. Null: none."
    )

    @field_validator("by")
    @classmethod
    def _over_defaults(cls, given: Mapping[str, tuple[str, ...]]) -> Mapping[str, tuple[str, ...]]:
        return {**WORKLOAD_FIELDS, **given}

    @field_validator("protected")
    @classmethod
    def _always(cls, protected: tuple[str, ...]) -> tuple[str, ...]:
        missing = [name for name in _ALWAYS if name not in protected]
        if missing:
            names = ", ".join(f"`{name}`" for name in missing)
            raise FaultsError([Fault((), f"emergency, alert and critical are never limited: add {names}")])
        return protected
