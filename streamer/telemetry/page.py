"""The live page: the worker's status in a browser. It loads nothing else and runs no script.

A thing has the name that it has in /status and in the metrics.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

from streamer.telemetry.status import (
    Check,
    CheckState,
    FilterStatus,
    ShardStatus,
    Status,
    StreamState,
    TargetStatus,
)
from streamer.telemetry.volatile import VolatileFields, visible

REFRESH_SECONDS: Final = 3
MOST_TARGETS: Final = 300
"""Rows of the table of targets; those that are worst come first. /status has all."""
POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
"""The page's Content-Security-Policy: names in it come from the cluster, and none could ever run."""
_SLOW_SECONDS: Final = 10.0
"""A lag from which the page turns yellow."""

_MARKS: Final = {CheckState.OK: "✓", CheckState.FAILING: "✗", CheckState.UNKNOWN: "?"}

_STYLE: Final = """
:root { color-scheme: light dark; font: 15px/1.45 system-ui, sans-serif }
body { max-width: 70rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.3rem } h2 { font-size: 1rem; margin: 1.6rem 0 .3rem }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
th, td { text-align: left; padding: .15rem .8rem .15rem 0; border-bottom: 1px solid #8884; vertical-align: top }
th { font-weight: 600 } .n { text-align: right }
.well { color: #2a9d3a } .slow { color: #c77d00 } .ill { color: #d23 } .unknown { color: #888 }
.big { font-size: 1.6rem; font-weight: 600 } footer { margin: 2rem 0; opacity: .7 }
"""


def page(status: Status) -> str:
    """The whole page. Whatever is shown is escaped."""
    mood, words = _mood(status)
    cluster = escape(status.cluster)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="refresh" content="{REFRESH_SECONDS}">'
        f"<title>{escape(words)}, {cluster}, falco-streamer</title><style>{_STYLE}</style></head><body>"
        f"<h1>falco-streamer, cluster {cluster}</h1>"
        f'<p class="big {mood}">{escape(words)}</p>{_conditions(status)}{_ledger(status)}'
        f"{_filters(status.filters)}{_volatile(status.volatile_fields)}"
        f"{_shards(status.shards)}{_targets(status.targets)}"
        f"<footer>{_viewer(status)}Version {escape(str(status.facts.get('version', '')))}, up "
        f"{_duration(float(status.facts.get('up_seconds', 0)))}. "
        '<a href="status">/status</a> <a href="ledger">/ledger</a> <a href="metrics">/metrics</a> '
        '<a href="readyz?verbose">/readyz?verbose</a></footer></body></html>\n'
    )


def _viewer(status: Status) -> str:
    """A link to the viewer, which shows the alerts; this page has the worker's state only."""
    url = status.facts.get("view_url")
    return f'<a href="{escape(str(url))}">The alerts</a>. ' if url else ""


def _mood(status: Status) -> tuple[str, str]:
    """The class of the headline, and its text."""
    needed, others = _first_of_each(status.checks, needed=True), _first_of_each(status.checks, needed=False)
    if failing := needed.get(CheckState.FAILING):
        return "ill", f"Not ready: {failing}"
    if unknown := needed.get(CheckState.UNKNOWN):
        return "unknown", f"Not ready yet: {unknown}"
    if not status.ledger.balanced:
        return "ill", "The ledger does not balance"
    if failing := others.get(CheckState.FAILING):
        return "slow", f"Running, but failing: {failing}"
    if status.lag_seconds >= _SLOW_SECONDS:
        return "slow", f"Running, lag {_duration(status.lag_seconds)}"
    if unknown := others.get(CheckState.UNKNOWN):
        return "unknown", f"Ready, not checked yet: {unknown}"
    return "well", "All is well"


def _first_of_each(checks: Iterable[Check], *, needed: bool) -> dict[CheckState, str]:
    """The name of the first check in each state, among those that are needed or those that are not."""
    found: dict[CheckState, str] = {}
    for check in checks:
        if check.needed is needed:
            found.setdefault(check.state, check.name)
    return found


def _conditions(status: Status) -> str:
    rows = [
        (
            f"{_MARKS[check.state]} {check.name}",
            f"{check.state}: {check.why}" if check.why else check.state,
        )
        for check in status.checks
    ]
    lag = ("lag", _duration(status.lag_seconds))
    return _table("Conditions", ("condition", "state"), [*rows, lag])


def _ledger(status: Status) -> str:
    ledger = status.ledger
    outcomes = {
        "published": ledger.published,
        "deduplicated (reported in summaries)": ledger.deduplicated,
        "limited (on the overflow topic)": ledger.limited,
        "filtered": ledger.filtered,
        "log line (Falco's own text)": ledger.log_lines,
        "dead-lettered": ledger.dead_lettered,
        "dead letter limited": ledger.dead_letter_limited,
    }
    rows = ((name, _count(number), _share(number, ledger.lines)) for name, number in outcomes.items())
    balance = "balanced" if ledger.balanced else "OUT OF BALANCE"
    more = (
        f"{_count(ledger.summaries)} summaries, {_count(ledger.health_records)} health records "
        f"({_count(ledger.gaps)} gaps)"
    )
    return _table(
        f"Outcomes of {_count(ledger.lines)} lines: {balance}; also {more}",
        ("outcome", "lines", "share"),
        rows,
        numbers=(1, 2),
    )


def _filters(filters: Sequence[FilterStatus]) -> str:
    if not filters:
        return ""
    rows = (
        (
            one.name,
            f"{one.action}, expired" if one.expired else one.action,
            _count(one.dropped) if one.action == "drop" else "",
            _share(one.dropped, one.alerts) if one.action == "drop" else "",
            "" if one.max_share is None else f"{one.max_share:.1%}",
            one.expires,
            one.reason,
        )
        for one in filters
    )
    head = ("filter", "action", "dropped", "share of all alerts", "max_share", "expires", "reason")
    return _table("Filters, since they took effect in this worker", head, rows, numbers=(2, 3, 4))


def _volatile(found: VolatileFields) -> str:
    if not found.sources:
        return ""
    rows = (
        (visible(one.source), _and_more(", ".join(map(visible, one.fields)), one.more_fields))
        for one in found.sources
    )
    title = _and_more(
        "Fields that differ in nearly every alert, of sources not configured", found.more_sources
    )
    return _table(title, ("source", "fields"), rows)


def _and_more(text: str, more: int) -> str:
    return f"{text}, and {_count(more)} more" if more else text


def _shards(shards: Sequence[ShardStatus]) -> str:
    rows = (
        (
            str(shard.index),
            shard.condition or ("working" if shard.loaded else "loading"),
            _count(shard.sequence),
            _count(shard.ledger.lines),
            _count(shard.open_windows),
            _count(shard.uncommitted_bytes),
            _duration(shard.oldest_line_seconds),
            _duration(shard.unacknowledged_seconds),
        )
        for shard in sorted(shards, key=lambda one: one.index)
    )
    head = (
        "shard",
        "condition",
        "commits",
        "lines",
        "windows",
        "uncommitted bytes",
        "oldest line",
        "unacknowledged",
    )
    return _table(f"{len(shards)} shards of this worker", head, rows, numbers=range(2, 8))


def _targets(targets: Sequence[TargetStatus]) -> str:
    worst = sorted(targets, key=_badness)
    rows = (
        (
            one.target.pod_name,
            one.target.container,
            one.target.node,
            str(one.state),
            _duration(one.unread_seconds),
            _duration(one.behind_seconds),
            _duration(one.quiet_seconds),
            one.cause,
        )
        for one in worst[:MOST_TARGETS]
    )
    more = f", the worst {MOST_TARGETS}" if len(targets) > MOST_TARGETS else ""
    head = ("pod", "container", "node", "state", "unread", "behind", "quiet", "cause")
    return _table(f"{_count(len(targets))} targets{more}", head, rows, numbers=range(4, 7))


def _badness(one: TargetStatus) -> tuple[bool, float, str]:
    open_or_over = one.state in {StreamState.FOLLOWING, StreamState.PENDING, StreamState.ENDED}
    return open_or_over, -max(one.unread_seconds, one.behind_seconds), one.target.pod_name


def _table(
    title: str, head: Sequence[str], rows: Iterable[Sequence[str]], numbers: Iterable[int] = ()
) -> str:
    right = set(numbers)

    def row(cells: Sequence[str], tag: str) -> str:
        shown = (
            f"<{tag}{' class=n' if at in right else ''}>{escape(cell)}</{tag}>"
            for at, cell in enumerate(cells)
        )
        return f"<tr>{''.join(shown)}</tr>"

    return (
        f"<h2>{escape(title)}</h2><table>{row(head, 'th')}{''.join(row(one, 'td') for one in rows)}</table>"
    )


def _count(number: int) -> str:
    return f"{number:,}"


def _share(number: int, whole: int) -> str:
    return f"{number / whole:.1%}" if whole else ""


def _duration(seconds: float) -> str:
    """With one or two digits: readers look for the magnitude."""
    if seconds < 0.05:
        return "0 s"
    if seconds < 10:
        return f"{seconds:.1f} s"
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
