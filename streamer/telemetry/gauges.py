"""The gauges: read from the worker's status at each scrape, so that none can be stale."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from streamer.model import Coverage
from streamer.telemetry.metrics import PREFIX, REGISTRY
from streamer.telemetry.status import Status, StreamState

_PLAIN: Final[dict[str, tuple[str, Callable[[Status], float]]]] = {
    "lag_seconds": (
        "How far the worker is behind, or blind, where it is worst: the one number to watch.",
        lambda status: status.lag_seconds,
    ),
    "backlog_seconds": (
        "How old the oldest line is that is read, or waits to be read, and is not committed.",
        lambda status: status.backlog_seconds,
    ),
    "blind_seconds": (
        "For how long the worker as a whole could see nothing: it is not ready, no watch is open, or no pod matches.",
        lambda status: status.blind_seconds,
    ),
    "ready": (
        "1 while every needed condition is ok, 0 while one fails or is unknown, also after /readyz has passed once.",
        lambda status: status.ready,
    ),
    "ledger_balanced": (
        "1 while every committed line has exactly one outcome.",
        lambda status: status.ledger.balanced,
    ),
    "kafka_oldest_unacknowledged_seconds": (
        "How long the oldest transaction of all shards has been waiting for Kafka's acknowledgement.",
        lambda status: max((shard.unacknowledged_seconds for shard in status.shards), default=0.0),
    ),
    "refused_pods": (
        "Pods that match the selectors, but not the owner or service account that is set: they are not followed.",
        lambda status: status.refused_pods,
    ),
    "uncommitted_bytes": (
        "Bytes of lines that are read and not yet committed.",
        lambda status: sum(shard.uncommitted_bytes for shard in status.shards),
    ),
    "open_windows": (
        "Windows of deduplication that are open.",
        lambda status: sum(shard.open_windows for shard in status.shards),
    ),
    "evidence_bytes": (
        "Memory for what was deduplicated and is not yet reported in summaries.",
        lambda status: sum(shard.evidence_bytes for shard in status.shards),
    ),
    "storms": (
        "Limits that have been exceeded for long.",
        lambda status: sum(shard.storms for shard in status.shards),
    ),
}


class StatusCollector(Collector):
    """Asks for the worker's status once a scrape."""

    def __init__(self, status: Callable[[], Status]) -> None:
        self._status = status

    def collect(self) -> Iterable[Metric]:
        """All gauges of one moment."""
        status = self._status()
        for name, (text, value) in _PLAIN.items():
            yield GaugeMetricFamily(f"{PREFIX}_{name}", text, value=float(value(status)))
        shards = Counter("loaded" if shard.loaded else "loading" for shard in status.shards)
        yield _labelled(
            "shards", "Shards that this worker owns, by state.", "state", ("loaded", "loading"), shards
        )
        targets = Counter(str(target.state) for target in status.targets)
        yield _labelled(
            "targets", "Targets that this worker follows, by state.", "state", StreamState, targets
        )
        covered = sum((Counter(shard.coverage) for shard in status.shards), Counter[Coverage]())
        text = "Targets by coverage, as the coverage records on the health topic report it."
        counts = Counter({str(coverage): number for coverage, number in covered.items()})
        yield _labelled("target_coverage", text, "coverage", Coverage, counts)

    def describe(self) -> Iterable[Metric]:
        """Nothing: what there is does not depend on the worker, and it may not be asked yet."""
        return ()


@contextmanager
def shown(status: Callable[[], Status]) -> Iterator[None]:
    """Show a worker's gauges while the context lasts."""
    collector = StatusCollector(status)
    REGISTRY.register(collector)
    try:
        yield
    finally:
        REGISTRY.unregister(collector)


def _labelled(name: str, text: str, label: str, known: Iterable[str], counts: Counter[str]) -> Metric:
    family = GaugeMetricFamily(f"{PREFIX}_{name}", text, labels=[label])
    for value in known:
        family.add_metric([value], counts[value])
    return family
