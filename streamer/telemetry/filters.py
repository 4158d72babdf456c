"""What the filters drop: their metrics, their rows on the status page, and a line in the log when one expires."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final

import structlog

from streamer.config.filters import FilterRule, names_of
from streamer.telemetry import metrics
from streamer.telemetry.background import in_background
from streamer.telemetry.status import FilterStatus

_LOOK_SECONDS: Final = 60.0
"""The clock may be set: it is looked at this often at least."""

log = structlog.get_logger()


class FilterWatch:
    """The filters in effect, and what they have dropped since they took effect in this process.

    `wall_seconds` is the time since the epoch. Alerts are compared with `expires` by the times of their lines, so a
    filter that has expired by the wall clock may still match what is read late.
    """

    def __init__(self, wall_seconds: Callable[[], float] = time.time) -> None:
        self._wall_seconds = wall_seconds
        self._filters: dict[str, FilterRule] = {}
        self._dropped_before: dict[str, int] = {}
        self._alerts_before = 0
        self._reported: set[tuple[str, FilterRule]] = set()
        self._changed = asyncio.Event()

    def take(self, filters: Sequence[FilterRule]) -> None:
        """Go over to these filters. Where any of them has changed, what all have dropped is counted from now on."""
        taken = dict(zip(names_of(filters), filters, strict=True))
        if taken == self._filters:
            return
        metrics.FILTERED.keep(name for name, rule in taken.items() if rule.action == "drop")
        metrics.FILTER_MAX_SHARE.clear()
        metrics.FILTER_EXPIRY.clear()
        for name, rule in taken.items():
            if rule.max_share is not None:
                metrics.FILTER_MAX_SHARE.labels(name).set(rule.max_share)
            if rule.expires is not None:
                metrics.FILTER_EXPIRY.labels(name).set(rule.expires.timestamp())
        self._filters = taken
        self._dropped_before = dict(metrics.FILTERED.dropped)
        self._alerts_before = _alerts()
        self._changed.set()

    def status(self) -> list[FilterStatus]:
        """Each filter, in their order."""
        now_seconds = self._wall_seconds()
        dropped, alerts = metrics.FILTERED.dropped, _alerts() - self._alerts_before
        return [
            FilterStatus(
                name=name,
                action=rule.action,
                reason=rule.reason,
                dropped=dropped.get(name, 0) - self._dropped_before.get(name, 0),
                alerts=alerts,
                max_share=rule.max_share,
                expires="" if rule.expires is None else rule.expires.isoformat(),
                expired=_has_expired(rule, now_seconds),
            )
            for name, rule in self._filters.items()
        ]

    @asynccontextmanager
    async def reporting(self) -> AsyncIterator[None]:
        """Log each filter that has expired, once, while the context lasts."""
        async with in_background(self._report(), "report expired filters"):
            yield

    async def _report(self) -> None:
        while True:
            self._changed.clear()
            now_seconds = self._wall_seconds()
            for name, rule in self._filters.items():
                if _has_expired(rule, now_seconds) and (name, rule) not in self._reported:
                    self._reported.add((name, rule))
                    assert rule.expires is not None
                    log.warning(
                        "filter_expired",
                        filter=name,
                        expired_at=rule.expires.isoformat(),
                        reason=rule.reason,
                        fix="remove the filter, or give it another `expires`",
                    )
            ends = [rule.expires.timestamp() - now_seconds for rule in self._filters.values() if rule.expires]
            with suppress(TimeoutError):
                async with asyncio.timeout(min([_LOOK_SECONDS, *(end for end in ends if end > 0)])):
                    await self._changed.wait()


def _has_expired(rule: FilterRule, now_seconds: float) -> bool:
    return rule.expires is not None and rule.expires.timestamp() <= now_seconds


def _alerts() -> int:
    """How many alerts were committed since the process began."""
    samples = next(iter(metrics.OUTCOMES_OF_LINES.collect())).samples
    return sum(
        int(one.value)
        for one in samples
        if one.name.endswith("_total") and one.labels["outcome"] in metrics.OUTCOMES_OF_ALERTS
    )
