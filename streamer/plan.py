"""From the settings to what the core needs of them."""

from __future__ import annotations

from streamer.config import Settings
from streamer.transform.limit import Rate
from streamer.transform.process import Plan
from streamer.transform.route import Route, Router


def plan_of(settings: Settings) -> Plan:
    """The core's plan. The settings are valid, so this cannot fail."""
    names = settings.topic_names
    routes = [
        Route(
            topic,
            rules=tuple(route.match.rules),
            tags=frozenset(route.match.tags),
            sources=frozenset(route.match.sources),
            namespaces=frozenset(route.match.namespaces),
        )
        for topic, route in zip(names.routes, settings.routes, strict=True)
    ]
    return Plan(
        cluster=settings.cluster,
        router=Router(names.by_priority(), routes),
        dead_letter_topic=names.dead_letter,
        notices_topic=names.notices,
        dead_letters=Rate(settings.dead_letters.rate_per_minute, settings.dead_letters.burst),
        annotate=settings.records.annotate,
    )
