"""The counters: one function for each event, and no other code counts it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from operator import sub
from typing import Any, Final

import orjson
from prometheus_client import Histogram

from streamer.model import Alert, Health, Ledger, LogBatch, Publication, Record, RecordKind
from streamer.telemetry import metrics
from streamer.transform.parse import parse
from streamer.transform.stamp import StampReader, body_start

_SECOND_NS: Final = 1_000_000_000
_LOOKED_AT: Final = 8
"""Batches of a commit whose delays are measured: enough for a histogram, and nothing that a storm makes slow."""
_MOST_TARGETS: Final = 10_000

_read_delay, _commit_delay = (metrics.STAGE_DELAYS.labels(stage) for stage in metrics.STAGES)
_stamps = StampReader()
_rules: set[str] = set()
_queue_drops: dict[bytes, int] = {}


def committed(publication: Publication, before: Ledger, seconds: float, batches: Sequence[LogBatch]) -> None:
    """A transaction was committed, after `seconds`: what its lines became, and how long they took.

    `before` is the ledger before it; `batches` are what it was made of.
    """
    metrics.TRANSACTIONS.observe(seconds)
    after = publication.ledger.counters()
    known = before.counters()
    moved = {name: sub(after[name], known[name]) for name in after}
    metrics.LINES.inc(moved["lines"])
    moved["log_line"] = moved["log_lines"]
    for outcome in metrics.OUTCOMES:
        if moved[outcome]:
            metrics.OUTCOMES_OF_LINES.labels(outcome).inc(moved[outcome])
    for name, count in publication.filtered.items():
        metrics.FILTERED.count(name, count)
    metrics.SUMMARIES.inc(moved["summaries"])
    metrics.SUMMARISED.inc(moved["summarised"])
    metrics.FRAGMENTS.inc(moved["fragments"])
    metrics.EVICTIONS.inc(publication.evictions)
    _count_records(publication.records)
    _measure(batches, time.time_ns())


def transaction_failed(kind: str) -> None:
    """A transaction failed; `kind` is one of `metrics.FAILURES`."""
    metrics.FAILED_TRANSACTIONS.labels(kind).inc()


def shard_opened() -> None:
    """A shard was taken over, with a new producer."""
    metrics.OPENED_SHARDS.labels("opened").inc()


def shard_not_opened() -> None:
    """A shard could not be taken over; it will be tried again."""
    metrics.OPENED_SHARDS.labels("failed").inc()


def shard_realigned() -> None:
    """Another worker has written a shard since we last did."""
    metrics.REALIGNED_SHARDS.inc()


def kafka_credentials_renewed() -> None:
    """Passwords or certificates have changed, and new connections are opened with the new ones."""
    metrics.RENEWALS.labels("taken").inc()


def kafka_credentials_not_renewed() -> None:
    """Passwords or certificates cannot be used as they are now; a connection is opened with those before them."""
    metrics.RENEWALS.labels("refused").inc()


def stream_reconnects(reason: str) -> None:
    """A stream is at its end or was replaced; `reason` is one of `metrics.RECONNECTS`."""
    metrics.RECONNECTS_OF_STREAMS.labels(reason).inc()


def api_failed(request: str, status: int) -> None:
    """The Kubernetes API refused a request (`watch` or `log`), or did not answer (status 0)."""
    known = str(status)
    metrics.API_ERRORS.labels(request, known if known in _STATUSES else metrics.OTHER).inc()


def api_requests(lane: str, state: str, change: int) -> None:
    """So many requests more, or fewer, of a lane are in a state (both as in `metrics`)."""
    metrics.API_REQUESTS.labels(lane, state).inc(change)


def api_wait_timed_out(lane: str) -> None:
    """A request gave up waiting for its turn."""
    metrics.API_WAITS_TIMED_OUT.labels(lane).inc()


def api_slowed_down(lane: str) -> None:
    """The API server has asked for fewer requests (429, 503): the lane pauses."""
    metrics.API_SLOWDOWNS.labels(lane).inc()


def slow_nodes(count: int) -> None:
    """So many nodes do not answer requests for logs, or answer late."""
    metrics.SLOW_NODES.set(count)


def config_taken(*, restart_needed: bool) -> None:
    """The configuration's file was read again and is in effect, as far as it can be without a restart."""
    metrics.RELOADS.labels("taken").inc()
    metrics.RESTART_NEEDED.set(restart_needed)
    metrics.RELOADED.set(1)
    metrics.RELOADED_AT.set(time.time())


def config_refused() -> None:
    """The configuration's file was read again and refused; what was before it stays in effect."""
    metrics.RELOADS.labels("refused").inc()
    metrics.RELOADED.set(0)


def warned(level: str) -> None:
    """Something was worth a `warning` or `error`, whether it was written or left out as a repeat."""
    metrics.MESSAGES.labels(level).inc()


def loop_stalled() -> None:
    """The event loop stood still."""
    metrics.STALLS.inc()


_STATUSES: Final = frozenset({"0", "400", "401", "403", "404", "410", "429", "500", "503"})


def _count_records(records: Sequence[Record]) -> None:
    # One pass over a storm's records, at the speed of Counter.
    with_values = False
    for shared, count in Counter([record.shared for record in records]).items():
        headers = shared.texts()
        match shared.kind:
            case RecordKind.ALERT if "limited_by" in headers:
                metrics.LIMITED.labels(headers["limited_by"]).inc(count)
            case RecordKind.ALERT:
                metrics.PUBLISHED.labels(headers["priority"]).inc(count)
                metrics.RULES.labels(_rule(headers["rule"])).inc(count)
            case RecordKind.DEAD_LETTER:
                metrics.DEAD_LETTERS.labels(headers["reason"]).inc(count)
            case RecordKind.HEALTH:
                metrics.HEALTH_RECORDS.labels(headers["health"]).inc(count)
                with_values = with_values or headers["health"] in {Health.GAP, Health.FALCO_REPORT}
    if with_values:
        for record in records:
            if record.shared.kind is RecordKind.HEALTH:
                _count_value(record)


def _count_value(record: Record) -> None:
    """Count what only the value of a health record says."""
    headers = record.shared.texts()
    match headers["health"]:
        case Health.GAP:
            certain = "true" if orjson.loads(record.value)["certain"] else "false"
            metrics.GAPS.labels(headers["reason"], certain).inc()
        case Health.FALCO_REPORT:
            _count_report(record.key, orjson.loads(record.value))


def _count_report(target: bytes, report: dict[str, Any]) -> None:
    name = report["rule"].partition(": ")[2]
    metrics.REPORTS_OF_FALCO.labels(name if name in metrics.REPORTS else metrics.OTHER).inc()
    counters = report["counters"]
    if name == "syscall event drop":  # since its last report
        metrics.DROPS_OF_FALCO.labels("syscall_events").inc(_number(counters.get("n_drops")))
    if (total := _number(counters.get("falco.outputs_queue_num_drops"))) or target in _queue_drops:
        # Since Falco's start. What it says first may have been counted by the worker before us.
        known = _queue_drops.get(target, total)
        metrics.DROPS_OF_FALCO.labels("outputs_queue").inc(total - known if total >= known else total)
        if len(_queue_drops) < _MOST_TARGETS or target in _queue_drops:
            _queue_drops[target] = total


def _number(value: Any) -> int:
    """A counter of Falco's, which may be text; 0 where it is none."""
    try:
        return max(0, int(value))
    except (TypeError, ValueError, OverflowError):
        return 0


def _rule(name: str) -> str:
    if name in _rules:
        return name
    if len(_rules) >= metrics.MOST_RULES:
        return metrics.OTHER
    _rules.add(name)
    return name


def _measure(batches: Sequence[LogBatch], now_ns: int) -> None:
    """Measure the delays of some batches, each by its last line."""
    step = max(1, len(batches) // _LOOKED_AT)
    for batch in batches[::step][:_LOOKED_AT]:
        if not batch.times_ns or not batch.read_ns:
            continue
        line_ns = batch.times_ns[-1]
        _observe(_read_delay, batch.read_ns - line_ns)
        _observe(_commit_delay, now_ns - batch.read_ns)
        _observe(metrics.DELIVERY_DELAY, now_ns - line_ns)
        line = batch.lines[-1]
        alert = parse(line[body_start(line) :], line_ns, _stamps)
        if type(alert) is Alert and alert.time:
            _observe(metrics.FALCO_DELAY, line_ns - alert.time_ns)


def _observe(delay: Histogram, nanoseconds: int) -> None:
    """Observe a delay. Clocks of nodes differ a little: a negative delay counts as 0."""
    delay.observe(max(0, nanoseconds) / _SECOND_NS)
