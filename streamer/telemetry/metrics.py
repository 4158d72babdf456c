"""The metrics of this process: every counter and histogram, each defined once.

Counters of lines come from the committed ledger, once a commit; what is not committed was not counted. Label sets are
small and known: those that are known beforehand start at 0. Pods, hosts and users are never labels. Gauges that are
read at each scrape are in `gauges`; `facts` counts. docs/operations.md explains each metric; a test compares the names.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable
from itertools import product
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from streamer import __version__
from streamer.model import CERTAIN_REASONS, GapReason, Health, Priority, Reason
from streamer.telemetry.build import CORE

PREFIX: Final = "falco_streamer"
REGISTRY: Final = CollectorRegistry()
"""Our own: nothing that a library registers by itself shows up here."""
# A `*_created` series for each counter and histogram doubles their number, and no query uses them.
disable_created_metrics()  # type: ignore[no-untyped-call]

MOST_RULES: Final = 200
"""Rules with a label of their own, the first ones that were seen; Falco ships about a hundred."""
OTHER: Final = "other"

OUTCOMES: Final = (
    "log_line",
    "filtered",
    "deduplicated",
    "limited",
    "published",
    "dead_lettered",
    "dead_letter_limited",
)
OUTCOMES_OF_ALERTS: Final = ("filtered", "deduplicated", "limited", "published")
STAGES: Final = ("read", "commit")
"""The stages of a line's way that add up to it."""
FAILURES: Final = ("failed", "fenced", "batch_refused", "records_refused")
RECONNECTS: Final = ("renewed", "ended", "broken", "out_of_order", "error")
REPORTS: Final = ("syscall event drop", "metrics snapshot", "hot restart failure")
DROPS: Final = ("syscall_events", "outputs_queue")
LANES: Final = ("discovery", "pod", "open", "probe")
_DELAYS_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)
_TRANSACTION_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 12)


def _counter(name: str, text: str, **labels: Iterable[str]) -> Counter:
    """A counter; the series of all known combinations of labels begin at 0."""
    made = Counter(f"{PREFIX}_{name}", text, list(labels), registry=REGISTRY)
    for combination in product(*labels.values()) if labels else ():
        made.labels(*combination)
    return made


def _histogram(name: str, text: str, buckets: Iterable[float], **labels: Iterable[str]) -> Histogram:
    made = Histogram(f"{PREFIX}_{name}", text, list(labels), registry=REGISTRY, buckets=tuple(buckets))
    for values in labels.values():
        for value in values:
            made.labels(value)
    return made


class FilteredAlerts(Collector):
    """Counts what each filter drops, with series of the filters in effect only.

    A transaction that was under way when a filter was removed may count for it later: its series must not come back.
    """

    def __init__(self) -> None:
        self.dropped: dict[str, int] = {}
        """By the name of each filter in effect that drops alerts, since the process began."""

    def keep(self, names: Iterable[str]) -> None:
        """Go over to the filters of these names."""
        self.dropped = {name: self.dropped.get(name, 0) for name in names}

    def count(self, name: str, alerts: int) -> None:
        """Count what a filter has dropped; nothing if it is not in effect any more."""
        if name in self.dropped:
            self.dropped[name] += alerts

    def collect(self) -> Iterable[Metric]:
        """The series."""
        text = "Alerts that a filter dropped, by the filter's name."
        family = CounterMetricFamily(f"{PREFIX}_filtered_alerts", text, labels=["filter"])
        for name, alerts in self.dropped.items():
            family.add_metric([name], alerts)
        yield family


# The account of lines

LINES = _counter("lines_total", "Lines of Falco's logs whose outcome was committed.")
OUTCOMES_OF_LINES = _counter(
    "line_outcomes_total", "Outcomes of lines; each line has exactly one.", outcome=OUTCOMES
)
PUBLISHED = _counter(
    "published_alerts_total",
    "Alerts on their topics, by priority.",
    priority=[priority.label for priority in Priority],
)
RULES = _counter(
    "rule_published_alerts_total",
    "Alerts on their topics, by rule; the first 200 rules, then `other`.",
    rule=[OTHER],
)
FILTERED = FilteredAlerts()
REGISTRY.register(FILTERED)
FILTER_MAX_SHARE = Gauge(
    f"{PREFIX}_filter_max_share_ratio",
    "The largest share of all alerts that a filter is meant to drop (`max_share`), where one is set.",
    ["filter"],
    registry=REGISTRY,
)
FILTER_EXPIRY = Gauge(
    f"{PREFIX}_filter_expiry_timestamp_seconds",
    "When a filter expires (`expires`), where that is set; it stays in the configuration after that.",
    ["filter"],
    registry=REGISTRY,
)
LIMITED = _counter(
    "limited_alerts_total",
    "Alerts that a limit diverted to the overflow topic, by limit.",
    limit=("workload", "target", "topic", "overall"),
)
DEAD_LETTERS = _counter(
    "dead_letters_total", "Lines on the dead-letter topic, by reason.", reason=list(Reason)
)
SUMMARIES = _counter("summaries_total", "Summaries of repeats that were published.")
SUMMARISED = _counter("summarised_alerts_total", "Deduplicated alerts that summaries have reported.")
GAPS = Counter(
    f"{PREFIX}_gaps_total",
    "Gaps that were reported: in a certain one lines are missing, in the others they may be.",
    ["reason", "certain"],
    registry=REGISTRY,
)
for _reason in GapReason:
    for _certain in ("true", "false") if _reason in CERTAIN_REASONS else ("false",):
        GAPS.labels(_reason, _certain)
HEALTH_RECORDS = _counter("health_records_total", "Health records that were published.", health=list(Health))
FRAGMENTS = _counter("fragments_total", "Pieces without a timestamp that came with logs; they are not lines.")
EVICTIONS = _counter(
    "evicted_windows_total",
    "Deduplication windows that were reported early because there were more than `dedupe.max_windows`.",
)

# Falco's own reports

REPORTS_OF_FALCO = _counter(
    "falco_reports_total",
    "Reports of Falco that it lost events or is otherwise not well.",
    report=(*REPORTS, OTHER),
)
DROPS_OF_FALCO = _counter(
    "falco_drops_total", "What Falco says it lost: alerts that were never written.", where=DROPS
)

# Time

FALCO_DELAY = _histogram(
    "falco_output_delay_seconds",
    "How long after an event Falco wrote its alert to the log, for a few lines of each commit.",
    _DELAYS_SECONDS,
)
DELIVERY_DELAY = _histogram(
    "delivery_delay_seconds",
    "How long a line took from Falco's log to the commit in Kafka, for a few lines of each commit.",
    _DELAYS_SECONDS,
)
STAGE_DELAYS = _histogram(
    "delivery_stage_delay_seconds",
    "How long the same lines took until they were read, and from then on until the commit.",
    _DELAYS_SECONDS,
    stage=STAGES,
)
TRANSACTIONS = _histogram(
    "transaction_duration_seconds", "How long committed transactions took.", _TRANSACTION_SECONDS
)

# Kafka

FAILED_TRANSACTIONS = _counter(
    "failed_transactions_total", "Transactions that failed; each is retried.", kind=FAILURES
)
OPENED_SHARDS = _counter(
    "shard_opens_total",
    "Shards taken over, each with a new producer; more than once a shard means a producer was renewed.",
    result=("opened", "failed"),
)
REALIGNED_SHARDS = _counter(
    "shard_realignments_total",
    "Shards that another worker had written meanwhile; they resume where it stopped.",
)

RENEWALS = _counter(
    "kafka_credential_renewals_total",
    "Changes of passwords and certificates for Kafka: taken, or refused at a new connection, which kept the old ones.",
    result=("taken", "refused"),
)

# Kubernetes

RECONNECTS_OF_STREAMS = _counter(
    "stream_reconnects_total", "Log streams that ended or were replaced, by reason.", reason=RECONNECTS
)
API_ERRORS = _counter(
    "api_errors_total",
    "Requests that the Kubernetes API refused or did not answer, by request and HTTP status (0: no answer).",
    request=("watch", "log"),
    status=("0", "400", "401", "403", "404", "410", "429", "500", "503", OTHER),
)
API_REQUESTS = Gauge(
    f"{PREFIX}_api_requests",
    "Requests to the Kubernetes API that are under way, or wait for their turn, by lane.",
    ["lane", "state"],
    registry=REGISTRY,
)
for _lane in LANES:
    for _state in ("under_way", "waiting"):
        API_REQUESTS.labels(_lane, _state)
API_WAITS_TIMED_OUT = _counter(
    "api_waits_timed_out_total", "Requests that gave up waiting for their turn, by lane.", lane=LANES
)
API_SLOWDOWNS = _counter(
    "api_slowdowns_total", "Pauses of a lane after the API server answered 429 or 503.", lane=LANES
)
SLOW_NODES = Gauge(
    f"{PREFIX}_slow_nodes",
    "Nodes that do not answer requests for logs, or answer late: these wait for slots of their own.",
    registry=REGISTRY,
)

# This process

RELOADS = _counter(
    "config_reloads_total",
    "Times that the configuration's file was read again: taken, also where it says the same, or refused.",
    result=("taken", "refused"),
)
RELOADED = Gauge(
    f"{PREFIX}_config_last_reload_successful",
    "1 if the configuration's file, as it was when it last changed, is in effect; 0 if it was refused.",
    registry=REGISTRY,
)
RELOADED.set(1)
RELOADED_AT = Gauge(
    f"{PREFIX}_config_last_reload_success_timestamp_seconds",
    "When the configuration was last read and taken.",
    registry=REGISTRY,
)
RELOADED_AT.set_to_current_time()
RESTART_NEEDED = Gauge(
    f"{PREFIX}_config_restart_needed",
    "1 if the configuration's file has changed in keys that only a restart takes over.",
    registry=REGISTRY,
)
MESSAGES = _counter(
    "log_messages_total",
    "Warnings and errors, including those that the log suppressed as repeats.",
    level=("warning", "error"),
)
STALLS = _counter(
    "loop_stalls_total", "Times that the event loop was blocked for longer than the watchdog allows."
)
BUILD = Gauge(
    f"{PREFIX}_build_info",
    "The release that runs; always 1.",
    ["version", "python", "core"],
    registry=REGISTRY,
)
BUILD.labels(__version__, platform.python_version(), CORE).set(1)
ProcessCollector(registry=REGISTRY)
