"""From the settings to what the core needs of them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

from streamer.config import Settings
from streamer.config.alert_fields import OTHER
from streamer.config.dedupe import DedupeOverride as OverrideSettings
from streamer.config.filters import FilterRule, names_of
from streamer.config.limits import RateLimit
from streamer.config.limits import TargetLimit as TargetLimitSettings
from streamer.model import Priority
from streamer.transform.filter import Filter, FilterAction, Filters
from streamer.transform.fingerprint import FingerprintPlan, KeyFields
from streamer.transform.limit import Rate
from streamer.transform.matcher import Matcher
from streamer.transform.plan import Plan
from streamer.transform.route import Route, Router
from streamer.transform.treatment import DedupeOverride, DedupePlan, LimitOverride, LimitPlan, TargetLimit

_SECOND_NS: Final = 1_000_000_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def plan_of(settings: Settings, cores: int | None = None) -> Plan:
    """The plan of one of `cores` cores that share the cluster's targets; not given, one for each shard.

    The settings are valid, so this cannot fail.
    """
    names = settings.topic_names
    cores = settings.kafka.shards if cores is None else cores
    return Plan(
        cluster=settings.cluster,
        router=_router(settings),
        dead_letter_topic=names.dead_letter,
        health_topic=names.health,
        overflow_topic=names.overflow,
        summaries_topic=names.summaries,
        dead_letters=Rate(settings.dead_letters.rate_per_minute, settings.dead_letters.burst),
        filters=filters(settings),
        dedupe=dedupe_plan(settings, cores),
        limits=limit_plan(settings, cores),
        annotate=settings.records.annotate,
        fields=settings.records.fields,
        shards=settings.kafka.shards,
    )


def filters(settings: Settings) -> Filters:
    """What is dropped."""
    rules = settings.every_filter
    return Filters([_filter(name, rule) for name, rule in zip(names_of(rules), rules, strict=True)])


def dedupe_plan(settings: Settings, cores: int) -> DedupePlan:
    """What passes once, for one of `cores` cores that share the cluster's targets."""
    dedupe = settings.dedupe
    return DedupePlan(
        enabled=dedupe.enabled,
        window_ns=_windows_ns(dedupe.window_seconds),
        max_variants=dedupe.max_variants,
        max_windows=_share(dedupe.max_windows, cores),
        max_evidence_bytes=_share(dedupe.max_evidence_bytes, cores),
        fingerprint=_fingerprint_plan(settings),
        overrides=tuple(map(_dedupe_override, dedupe.overrides)),
    )


def limit_plan(settings: Settings, cores: int) -> LimitPlan:
    """What passes only so often, for one of `cores` cores that share the cluster's targets."""
    limits, names = settings.limits, settings.topic_names
    per_topic = limits.per_topic
    return LimitPlan(
        enabled=limits.enabled,
        protected=frozenset(Priority[name.upper()] for name in limits.protected),
        by={source: names for source, names in limits.by.items() if source != OTHER},
        by_other=limits.by[OTHER],
        rate=Rate(limits.rate_per_minute, limits.burst),
        overrides=tuple(
            LimitOverride(item.rules, Rate(item.rate_per_minute, item.burst)) for item in limits.overrides
        ),
        target=_target_limit(limits.target) if limits.target.enabled else None,
        max_buckets=_share(limits.max_buckets, cores),
        per_topic=None
        if per_topic is None
        else {topic: _rate(per_topic, cores) for topic in {*names.by_priority().values(), *names.routes}},
        overall=None if limits.overall is None else _rate(limits.overall, cores),
    )


def _target_limit(limit: TargetLimitSettings) -> TargetLimit:
    """The two parts of a target's limit; of what is reserved, one at least, unless nothing is."""
    share = limit.reserved_share
    reserved = Rate(limit.rate_per_minute * share, round(limit.burst * share))
    open_ = Rate(limit.rate_per_minute * (1 - share), limit.burst - reserved.burst)
    return TargetLimit(open_, reserved)


def _router(settings: Settings) -> Router:
    names = settings.topic_names
    routes = [
        Route(topic, tuple(map(Matcher.parse, route.match)))
        for topic, route in zip(names.routes, settings.routes, strict=True)
    ]
    return Router(names.by_priority(), routes)


def _filter(name: str, rule: FilterRule) -> Filter:
    expires_ns = None
    if rule.expires is not None:
        expires_ns = (rule.expires - _EPOCH) // timedelta(microseconds=1) * 1000
    return Filter(name, FilterAction(rule.action), tuple(map(Matcher.parse, rule.match)), expires_ns)


def _fingerprint_plan(settings: Settings) -> FingerprintPlan:
    dedupe = settings.dedupe
    groups, variants = dedupe.group_fields, dedupe.variant_fields

    def keys(source: str) -> KeyFields:
        return KeyFields(groups.get(source, groups[OTHER]), variants.get(source, variants[OTHER]))

    return FingerprintPlan(
        fields={source: keys(source) for source in {*groups, *variants} - {OTHER}},
        other=keys(OTHER),
        learns=True,
        volatile=dedupe.volatile_fields,
        normalisers=dedupe.normalisers,
    )


def _dedupe_override(item: OverrideSettings) -> DedupeOverride:
    fields = None
    if item.group_fields is not None and item.variant_fields is not None:
        fields = KeyFields(item.group_fields, item.variant_fields)
    window_ns = None if item.window_seconds is None else _windows_ns(item.window_seconds)
    return DedupeOverride(item.rules, item.enabled, window_ns, item.max_variants, fields)


def _windows_ns(seconds: Iterable[float]) -> tuple[int, ...]:
    return tuple(round(length * _SECOND_NS) for length in seconds)


def _share(whole: int, cores: int) -> int:
    return max(1, whole // cores)


def _rate(limit: RateLimit, cores: int) -> Rate:
    return Rate(limit.rate_per_minute / cores, _share(limit.burst, cores))
