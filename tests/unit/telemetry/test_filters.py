"""What the status page and the log say of filters."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from structlog.testing import capture_logs

from streamer.config import Settings
from streamer.config.filters import FilterRule
from streamer.telemetry import metrics
from streamer.telemetry.filters import FilterWatch
from streamer.telemetry.metrics import REGISTRY
from tests.unit.flow.virtual_time import in_virtual_time

EPOCH = 1_790_000_000.0
"""2026-09-21T14:13:20Z, where the tests begin."""


def filters(*given: dict[str, Any]) -> tuple[FilterRule, ...]:
    rules = [{"action": "drop", "match": 'rule = "x"', "reason": "r"} | one for one in given]
    return Settings.model_validate({"filters": rules}).filters


def count(name: str, dropped: int, published: int) -> None:
    metrics.FILTERED.count(name, dropped)
    metrics.OUTCOMES_OF_LINES.labels("filtered").inc(dropped)
    metrics.OUTCOMES_OF_LINES.labels("published").inc(published)
    metrics.OUTCOMES_OF_LINES.labels("log_line").inc(1000)


def sample(name: str, label: str) -> float | None:
    return REGISTRY.get_sample_value(f"falco_streamer_{name}", {"filter": label})


def test_a_filter_has_its_share_of_all_alerts_since_it_took_effect() -> None:
    watch = FilterWatch()
    watch.take(filters({}))
    count("filters[0]", 7, 7)
    watch.take(filters({}, {"action": "keep"}, {"name": "argo", "max_share": 0.2}))
    count("filters[0]", 1, 2)
    count("argo", 3, 4)
    first, kept, argo = watch.status()
    assert (first.name, first.dropped, first.alerts, first.share) == ("filters[0]", 1, 10, 0.1)
    assert (kept.name, kept.action, kept.dropped) == ("filters[1]", "keep", 0)
    assert (argo.dropped, argo.max_share, argo.as_dict()["share"]) == (3, 0.2, 0.3)
    watch.take(filters({"name": "argo"}))
    assert [(one.name, one.dropped, one.alerts, one.share) for one in watch.status()] == [("argo", 0, 0, 0.0)]


def test_the_metrics_have_the_time_at_which_a_filter_expires() -> None:
    watch, name = FilterWatch(), "filter_expiry_timestamp_seconds"
    watch.take(filters({"name": "one", "expires": "1970-01-02T00:00:00Z"}, {"name": "two"}))
    assert (sample(name, "one"), sample(name, "two")) == (86_400, None)
    watch.take(filters({"name": "one"}))
    assert sample(name, "one") is None


def test_there_are_series_of_the_filters_in_effect_and_of_no_others() -> None:
    watch = FilterWatch()
    watch.take(
        filters({"name": "one", "max_share": 0.5}, {"name": "two"}, {"name": "kept", "action": "keep"})
    )
    assert (sample("filtered_alerts_total", "one"), sample("filter_max_share_ratio", "one")) == (0, 0.5)
    assert (sample("filtered_alerts_total", "two"), sample("filter_max_share_ratio", "two")) == (0, None)
    assert sample("filtered_alerts_total", "kept") is None
    count("two", 2, 0)
    watch.take(filters({"name": "two", "max_share": 0.1}))
    assert (sample("filtered_alerts_total", "one"), sample("filter_max_share_ratio", "one")) == (None, None)
    assert (sample("filtered_alerts_total", "two"), sample("filter_max_share_ratio", "two")) == (2, 0.1)
    count("one", 3, 0)  # of a transaction that was under way when the filter was removed
    assert sample("filtered_alerts_total", "one") is None
    watch.take(filters({"name": "one"}))
    assert sample("filtered_alerts_total", "one") == 0


@in_virtual_time
async def test_an_expired_filter_is_logged_once_at_the_start_and_when_it_expires() -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    watch = FilterWatch(lambda: EPOCH + loop.time() - began)
    over = {"name": "over", "expires": "2026-09-21T14:13:19Z", "reason": "the old days"}
    soon = {"name": "soon", "expires": "2026-09-21T15:00:00Z"}
    watch.take(filters(over, soon, {"name": "late", "expires": "2027-01-01T00:00:00Z"}, {"name": "never"}))

    def names(logs: list[Any]) -> list[str]:
        return [entry["filter"] for entry in logs if entry["event"] == "filter_expired"]

    with capture_logs() as logs:
        async with watch.reporting():
            await asyncio.sleep(0)
            assert names(logs) == ["over"]
            assert logs[0]["reason"] == "the old days"
            assert [one.expired for one in watch.status()] == [True, False, False, False]
            await asyncio.sleep(46 * 60 + 39)
            assert names(logs) == ["over"]
            await asyncio.sleep(2)
            assert names(logs) == ["over", "soon"]
            await asyncio.sleep(600)
            assert names(logs) == ["over", "soon"]
            watch.take(filters(over, {"name": "reloaded", "expires": "2026-01-01T00:00:00Z"}))
            await asyncio.sleep(0.1)
            assert names(logs) == ["over", "soon", "reloaded"]


@pytest.mark.parametrize("name", ["", "a b", "x" * 64, "filters[0]", "a\nb"])
def test_a_name_is_fit_for_a_label(name: str) -> None:
    with pytest.raises(ValueError, match="1 to 63 letters"):
        filters({"name": name})


@pytest.mark.parametrize("share", [0, -0.1, 1.01, "much"])
def test_a_share_is_a_part_of_the_whole(share: object) -> None:
    with pytest.raises(ValueError, match="max_share"):
        filters({"max_share": share})
    with pytest.raises(ValueError, match="only a filter that drops"):
        filters({"max_share": 0.5, "action": "keep"})
