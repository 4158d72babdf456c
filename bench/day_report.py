"""What the settings make of a realistic day: `python -m bench.day_report` writes it into docs/deduplication.md."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import orjson

from bench import mix
from bench.day import COUNTS, NODES, SHELL, START_NS, Line, lines, storm
from streamer.config import load
from streamer.config.alert_fields import SOURCES
from streamer.model import DigestRing, Ledger, LogBatch, Record, Target
from streamer.plan import plan_of
from streamer.transform.align import advance
from streamer.transform.process import Processor
from streamer.transform.stamp import to_rfc3339
from streamer.transform.state import ShardState

DOCUMENT: Final = Path(__file__).parents[1] / "docs" / "deduplication.md"
SETTINGS_HOURS: Final = (8, 9)
"""The part of the day that is lived through once for each setting."""
_MINUTE_NS: Final = 60 * 10**9
_KEY: Final = bytes(range(16))
"""Of the fingerprints: any key decides alike, and this one always shows the same hashes."""
VARIATIONS: Final = (
    ("all defaults", ()),
    ("`dedupe.enabled: false`", ("dedupe.enabled=false",)),
    ("`dedupe.normalisers: []`", ("dedupe.normalisers=[]",)),
    ("`dedupe.max_variants: 0`", ("dedupe.max_variants=0",)),
    ("`dedupe.max_variants: 100`", ("dedupe.max_variants=100",)),
    ("`dedupe.window_seconds: [60]`", ("dedupe.window_seconds=[60]",)),
    ("`dedupe.window_seconds: [300, 1800]`", ("dedupe.window_seconds=[300, 1800]",)),
)


BEFORE: Final = {
    "realistic day": (4_252, 1_519, "", ""),
    "skewed mix": (5_002, 550, "22 of 60", "28 min, as text"),
}
"""What was published of each, and by when planted command lines could be seen, before evidence had a deadline."""


@dataclass
class Outcome:
    """What became of a day, by rule."""

    ledger: Ledger
    published: Counter[str] = field(default_factory=Counter)
    counted: Counter[str] = field(default_factory=Counter)
    summaries: Counter[str] = field(default_factory=Counter)
    overflow: Counter[str] = field(default_factory=Counter)
    health: Counter[str] = field(default_factory=Counter)
    records: list[Record] = field(default_factory=list)
    times_ns: list[int] = field(default_factory=list)
    """When each of the records was made."""

    def take(self, records: Iterable[Record], now_ns: int) -> None:
        """Count records."""
        for record in records:
            self.records.append(record)
            self.times_ns.append(now_ns)
            headers = {name: value.decode() for name, value in record.headers}
            if headers["kind"] == "health":
                self.health[headers["health"]] += 1
            elif headers["kind"] == "summary":
                self.summaries[headers["rule"]] += 1
                self.counted[headers["rule"]] += orjson.loads(record.value)["summary"]["count"]
            else:
                topics = self.overflow if "limited_by" in headers else self.published
                topics[headers["rule"]] += 1


def live(day: Sequence[Line | mix.Line], flags: Sequence[str] = (), commit_ns: int = _MINUTE_NS) -> Outcome:
    """Let the core live through a day, with the defaults but for `flags`: 14 Falco pods, a commit every `commit_ns`."""
    processor = Processor(plan_of(load(None, flags, {}, require=()), cores=1), ShardState("local"), _KEY)
    outcome = Outcome(processor.state.ledger)
    targets = [
        Target("falco", f"falco-{n + 1}", f"uid-{n + 1}", "falco", f"node-{n + 1}") for n in range(NODES)
    ]
    rings = [DigestRing()] * NODES
    for number, at_once in groupby(day, lambda line: (line.time_ns - START_NS) // commit_ns):
        batches = []
        for node, group in groupby(sorted(at_once, key=lambda line: line.node), lambda line: line.node):
            read = list(group)
            raw = [to_rfc3339(line.time_ns).encode() + b" " + line.body for line in read]
            rings[node] = advance(rings[node], raw, {})
            times_ns = [line.time_ns for line in read]
            batches.append(LogBatch(targets[node], raw, times_ns, rings[node], sum(map(len, raw))))
        now_ns = START_NS + (number + 1) * commit_ns
        outcome.take(processor.process(batches, now_ns).records, now_ns)
        if (due := processor.publish_due(now_ns)) is not None:
            outcome.take(due.records, now_ns)
    if (rest := processor.publish_due(now_ns + _MINUTE_NS, everything=True)) is not None:
        outcome.take(rest.records, now_ns)
    outcome.ledger = processor.state.ledger
    assert outcome.ledger.deduplicated == outcome.counted.total()
    return outcome


def by_rule(outcome: Outcome, counts: Mapping[str, int]) -> str:
    """A table with a row for each rule, and one for all if there are several."""
    head = ("rule", "alerts", "published", "counted", "summaries", "overflow", "records for 100 alerts")
    columns = (outcome.published, outcome.counted, outcome.summaries, outcome.overflow)
    rows = [(f"`{rule}`", [count, *(column[rule] for column in columns)]) for rule, count in counts.items()]
    if len(rows) > 1:
        rows.append(("all", [sum(counts.values()), *(column.total() for column in columns)]))
    return _table(
        head, [(name, *row, f"{100 * (row[1] + row[3] + row[4]) / row[0]:.1f}") for name, row in rows]
    )


def by_setting(day: Sequence[Line]) -> str:
    """A table with a row for each setting that is not as the defaults have it."""
    rows = []
    for name, flags in VARIATIONS:
        found = live(day, flags)
        columns = (found.published, found.counted, found.summaries, found.overflow)
        rows.append((name, *(column.total() for column in columns)))
    return _table(("setting", "published", "counted", "summaries", "overflow"), rows)


def noise(day: Outcome) -> str:
    """A table of what is published of the realistic day and of the skewed mix, before and after evidence was first."""
    log = mix.lines()
    mixed = live(log, commit_ns=10**9)
    at_once, delays = _planted(log, mixed)
    assert len(delays) == mix.PLANTED, "a planted command line is nowhere"
    planted = (f"{at_once} of {mix.PLANTED}", f"{max(delays) / 10**9:.0f} s, as a field")
    rows = []
    for name, outcome, seen in (("realistic day", day, ("", "")), ("skewed mix", mixed, planted)):
        after = (outcome.published.total(), outcome.summaries.total(), *seen)
        for when, (published, summaries, *rest) in (("before", BEFORE[name]), ("now", after)):
            records, before = published + summaries, sum(BEFORE[name][:2])
            more = f"{100 * (records / before - 1):+.1f} %" if when == "now" else ""
            rows.append((f"{name}, {when}", published, summaries, records, more, *rest))
    head = ("", "published", "summaries", "records", "more", "planted: at once", "the last one after")
    return _table(head, rows)


def _planted(log: Sequence[mix.Line], outcome: Outcome) -> tuple[int, list[int]]:
    """How many of the planted command lines were published, and after how many ns each could be queried."""
    seen: dict[str, tuple[int, bool]] = {}
    for record, now_ns in zip(outcome.records, outcome.times_ns, strict=True):
        value = orjson.loads(record.value)
        variants = value.get("summary", {}).get("variants", [{"fields": {}}])
        for fields in (value["output_fields"] | variant["fields"] for variant in variants):
            seen.setdefault(fields["proc.cmdline"], (now_ns, "summary" not in value))
    found = [(seen[line.planted], line.time_ns) for line in log if line.planted in seen]
    return sum(whole for (_, whole), _ in found), [now_ns - time_ns for (now_ns, _), time_ns in found]


def example(outcome: Outcome) -> str:
    """A summary, as people can read it."""
    records = [record for record in outcome.records if ("kind", b"summary") in record.headers]
    values = [orjson.loads(record.value) for record in records]
    value = next(
        value for value in values if "curl" in value["output"] and len(value["summary"]["variants"]) < 5
    )
    return f"```json\n{orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()}\n```"


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    body = [[f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row] for row in rows]
    every = [head, ["---", *["---:"] * (len(head) - 1)], *body]
    return "\n".join(f"| {' | '.join(row)} |" for row in every)


def sources() -> str:
    """A table of what is known of each source."""
    rows = [
        (f"`{name}`", source.plugin, *(_names(names) for names in (source.group, source.workload)))
        for name, source in SOURCES.items()
    ]
    head = ("source", "names as in", "group", "workload, with the rule")
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))


def _names(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def blocks() -> dict[str, str]:
    """What stands in the document between `<!-- begin NAME -->` and `<!-- end NAME -->`."""
    day = lines()
    outcome, stormy = live(day), live(storm())
    begin_ns, end_ns = (START_NS + hour * 60 * _MINUTE_NS for hour in SETTINGS_HOURS)
    return {
        "day": by_rule(outcome, COUNTS),
        "storm": by_rule(stormy, {SHELL: stormy.ledger.alerts}),
        "noise": noise(outcome),
        "sources": sources(),
        "settings": by_setting([line for line in day if begin_ns <= line.time_ns < end_ns]),
        "summary": example(live(mix.lines())),
    }


def written(document: str, found: Mapping[str, str]) -> str:
    """The document with its blocks as they are to be."""
    for name, text in found.items():
        marks = f"(<!-- begin {name} -->\n).*?(\n<!-- end {name} -->)"
        document, count = re.subn(marks, lambda m, text=text: m[1] + text + m[2], document, flags=re.DOTALL)  # type: ignore[misc]
        assert count == 1, name
    return document


if __name__ == "__main__":
    DOCUMENT.write_text(written(DOCUMENT.read_text(encoding="utf-8"), blocks()), encoding="utf-8")
