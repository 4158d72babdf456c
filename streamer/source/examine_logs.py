"""What `doctor` finds in the logs of Falco's pods: how Falco prints its alerts, and of which sources they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from functools import partial
from typing import Final

from streamer.model import Alert, Finding, Target, Verdict
from streamer.source.api import ApiError, KubernetesApi, LogQuery
from streamer.source.examine_sources import examine_sources
from streamer.source.overload import patiently
from streamer.source.stream import Where, open_log
from streamer.transform.parse import parse
from streamer.transform.plan import Plan
from streamer.transform.stamp import StampReader
from streamer.transform.symptoms import Symptoms, symptoms
from streamer.transform.unconfigured import SourcesSeen

_TAIL_LINES: Final = 300
_LOGS: Final = 20
"""Of how many pods the logs are looked into."""
_NAMED: Final = 3
_SECOND_NS: Final = 1_000_000_000


async def examine_logs(
    api: KubernetesApi, targets: Sequence[Target], max_line_bytes: int, plan: Plan
) -> AsyncIterator[Finding]:
    """What Falco prints: as JSON, as text, held back; one finding of a kind, with the pods that it is about."""
    read: dict[str, Symptoms] = {}
    sources, dropped = SourcesSeen(plan), Counter[str]()
    looked_into = _spread(targets)
    if len(looked_into) < len(targets):
        told = f"{len(looked_into)} of {len(targets)} pods were checked: what follows is about their logs"
        yield Finding("pods.checked", Verdict.FINE, told)
    for target in looked_into:
        name = target.pod_name
        try:
            lines = await patiently(partial(_lines, api, target, max_line_bytes))
        except ApiError as error:
            yield Finding("log", Verdict.FAULT, f"the log of {name} cannot be read: {error}", error.fix)
        else:
            read[name] = symptoms(lines)
            sources.take(lines)
            dropped.update(_dropped(lines, plan))
    text = [name for name, seen in read.items() if seen.prints_text]
    if text:
        yield Finding(
            "falco.json",
            Verdict.FAULT,
            f"Falco prints its alerts as text in {few(text)}",
            "set `falco.json_output: true` in the Falco chart's values (`json_output: true` in falco.yaml)",
        )
    buffered = {name: seen for name, seen in read.items() if seen.buffered}
    if buffered:
        seconds = max(seen.most_late_ns for seen in buffered.values()) / _SECOND_NS
        yield Finding(
            "falco.buffered",
            Verdict.FAULT,
            f"Falco holds alerts back and prints them in clumps, up to {seconds:.0f} s late, in {few([*buffered])}",
            'set `extra.args: ["-U"]` in the Falco chart\'s values (falco --unbuffered); before 0.44 Falco ignores '
            "`buffered_outputs: false`",
        )
    late = {n: s for n, s in read.items() if s.late > s.alerts / 2 and not s.buffered}
    if late:
        seconds = max(seen.most_late_ns for seen in late.values()) / _SECOND_NS
        yield Finding(
            "falco.late",
            Verdict.WARNING,
            f"alerts reach the log up to {seconds:.0f} s after they happened, in {few([*late])}",
            "look for overload on these nodes, and for rules from sources that are late themselves",
        )
    fine = [name for name, seen in read.items() if seen.alerts and name not in {*text, *buffered, *late}]
    if fine:
        yield Finding("falco.json", Verdict.FINE, f"Falco prints JSON, and at once, in {few(fine)}")
    silent = [name for name, seen in read.items() if not seen.alerts and not seen.text_alerts]
    if silent:
        yield Finding(
            "falco.json",
            Verdict.WARNING,
            f"no alert yet in the last lines of {few(silent)}: whether Falco prints JSON there is not known",
            "cause one: kubectl run -it --rm shell --image=busybox -- cat /etc/shadow",
        )
    alerts = sum(seen.alerts for seen in read.values())
    if alerts and dropped.total() == alerts:
        names = ", ".join(f"{name} ({count})" for name, count in dropped.most_common(_NAMED))
        yield Finding(
            "filters",
            Verdict.WARNING,
            f"filters drop all {alerts:,} alerts in the last {_TAIL_LINES} lines of {few([*read])}: {names}",
            "change `filters` or `min_priority`, unless nothing else is expected",
        )
    for finding in examine_sources(sources, f"in the last {_TAIL_LINES} lines of {few([*read])}"):
        yield finding


def _spread(targets: Sequence[Target]) -> list[Target]:
    """So many of them, from the first to the last: neighbours in the list are often alike."""
    count = min(len(targets), _LOGS)
    return [targets[n * len(targets) // count] for n in range(count)]


def _dropped(lines: Iterable[tuple[bytes, int]], plan: Plan) -> Iterator[str]:
    """The filter of each alert that one drops."""
    stamps = StampReader()
    for body, line_ns in lines:
        alert = parse(body, line_ns, stamps)
        if isinstance(alert, Alert) and (name := plan.filters.drops(alert, line_ns)) is not None:
            yield name


async def _lines(api: KubernetesApi, target: Target, max_line_bytes: int) -> list[tuple[bytes, int]]:
    """The last lines of a log: the text behind the timestamp, and that timestamp in ns."""
    lines: list[tuple[bytes, int]] = []
    where, query = Where(target.namespace, target.pod, target.container), LogQuery(tail_lines=_TAIL_LINES)
    with await open_log(api, where, query, max_line_bytes) as stream:
        async for found in stream.pieces():
            lines += [
                (line.partition(b" ")[2], at) for line, at in zip(found.lines, found.times_ns, strict=True)
            ]
    return lines


def few(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
