"""Compares what was written with what can be read in the topics, and with the ledger that was committed.

Nothing of the worker's code is used: what is judged does not judge itself.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson

from tests.chaos.holes import Hole, review_of
from tests.chaos.load import Journal, Kind, Line, TargetLog

_SHOWN = 5  # examples of each violation
_SHOWN_CHARACTERS = 600
_OPEN_END_NS = 120 * 1_000_000_000


class Seen(NamedTuple):
    """A record as a consumer gives it."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


@dataclass
class Verdict:
    """What was found. Anything in `violations` breaks the promise."""

    lines: int = 0
    published: int = 0
    dead_letters: int = 0
    gaps: Counter[str] = field(default_factory=Counter)
    missing: int = 0
    """Lines that never arrived; every one inside a gap, or it is a violation."""
    ledger: dict[str, int] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)

    def blame(self, what: str, examples: Sequence[object]) -> None:
        """Note a violation with its number and some examples."""
        if examples:
            shown = "; ".join(str(example)[:_SHOWN_CHARACTERS] for example in examples[:_SHOWN])
            self.violations.append(f"{len(examples)} {what}: {shown}")


def judge(name: str, journal: Journal, records: Iterable[Seen], state: Iterable[Seen]) -> Verdict:
    """Give the verdict on a run of the cluster called `name`; `records` in the order of each partition."""
    return _Judge(name, journal).decide(list(records), list(state))


class _Judge:
    def __init__(self, name: str, journal: Journal) -> None:
        self._name = name
        self._journal = journal
        self._verdict = Verdict(lines=sum(1 for _ in journal.lines()))
        self._outcomes: Counter[bytes] = Counter()
        self._holes: dict[str, list[Hole]] = defaultdict(list)
        self._held = 0  # dead letters that were counted instead of published

    def decide(self, records: list[Seen], state: list[Seen]) -> Verdict:
        by_kind: dict[str, list[Seen]] = defaultdict(list)
        for record in records:
            by_kind[dict(record.headers).get("kind", b"?").decode()].append(record)
        self._verdict.blame(
            "records of unknown kind", sorted(by_kind.keys() - {"alert", "dead-letter", "health"})
        )
        self._alerts(by_kind["alert"])
        self._letters(by_kind["dead-letter"])
        self._health(by_kind["health"])
        ids = Counter(dict(record.headers).get("ce_id") for record in records)
        self._verdict.blame("ids that are not unique", [one for one, count in ids.items() if count > 1])
        self._missing()
        self._ledger(state, by_kind)
        return self._verdict

    def _alerts(self, records: list[Seen]) -> None:
        unknown, misplaced, disordered = [], [], []
        last: dict[tuple[str, str], int] = {}
        for record in records:
            line = self._journal.by_body.get(record.value or b"")
            if line is None or line.kind is not Kind.ALERT:
                unknown.append(_where(record))
                continue
            self._outcomes[line.body] += 1
            priority = str(orjson.loads(line.body)["priority"]).lower()
            if (
                record.topic != f"{self._name}.alerts.{priority}"
                or record.key != self._journal.targets[line.uid].key
            ):
                misplaced.append(_where(record))
            if line.number <= last.get((line.uid, record.topic), -1):
                disordered.append(f"{_line(line)} at {_where(record)}")
            last[line.uid, record.topic] = line.number
        self._verdict.published = len(records)
        self._verdict.blame("alerts that nobody wrote", unknown)
        self._verdict.blame("alerts in another topic or under another key", misplaced)
        self._verdict.blame("alerts out of order", disordered)
        doubled = [body for body, count in self._outcomes.items() if count > 1]
        self._verdict.blame("alerts doubled", [_line(self._journal.by_body[body]) for body in doubled])

    def _letters(self, records: list[Seen]) -> None:
        letters: Counter[bytes] = Counter()
        for record in records:
            letters[str(orjson.loads(record.value or b"{}")["line"]).encode()] += 1
        written = {line.body for line in self._journal.lines() if line.kind is Kind.BROKEN}
        self._verdict.dead_letters = len(records)
        self._verdict.blame("dead letters of lines that were not broken", sorted(letters.keys() - written))
        self._verdict.blame("dead letters doubled", [body for body, count in letters.items() if count > 1])
        self._outcomes += letters

    def _health(self, records: list[Seen]) -> None:
        values = [orjson.loads(record.value or b"{}") for record in records]
        self._gaps([value for value in values if value["health"] == "gap"])
        self._held += sum(value["count"] for value in values if value["health"] == "dead_letters_limited")

    def _gaps(self, values: list[dict[str, Any]]) -> None:
        for value in values:
            hole = Hole(
                value["target"]["uid"],
                value["certain"],
                value["reason"],
                value["detail"],
                _nanoseconds(value["from"]),
                _nanoseconds(value["to"]),
                value["evidence"],
            )
            self._holes[hole.uid].append(self._closed(hole))
            self._verdict.gaps[f"{hole.reason}, {'certain' if hole.certain else 'possible'}"] += 1
        self._verdict.blame(
            "gaps of unknown targets", sorted(self._holes.keys() - self._journal.targets.keys())
        )

    def _closed(self, hole: Hole) -> Hole:
        """A gap without an end was reported when no later line was there: the next that did arrive is its end.

        Only of a pod that is gone all that follows may be missing; else what comes much later is not part of it.
        """
        if hole.to_ns is not None or (target := self._journal.targets.get(hole.uid)) is None:
            return hole
        low = hole.from_ns if hole.from_ns is not None else -1
        arrived = [line.at_ns for line in target.lines if line.at_ns > low and self._outcomes[line.body]]
        if hole.reason == "pod_gone" and not arrived:
            return hole
        latest = [] if hole.reason == "pod_gone" else [low + _OPEN_END_NS]
        return hole._replace(to_ns=min([*arrived, *latest]), open_ended=True)

    def _missing(self) -> None:
        """Every line that did not arrive lies in a gap; every gap has its reason."""
        outside: list[str] = []
        for target in self._journal.targets.values():
            holes = self._holes.get(target.uid, [])
            missing = [
                line for line in target.lines if line.kind is Kind.ALERT and not self._outcomes[line.body]
            ]
            self._verdict.missing += len(missing)
            outside += [_line(line) for line in missing if not _covered(line, holes)]
            self._certain(target, holes, missing)
            self._evidence(target, holes)
        self._verdict.blame("alerts lost outside any gap", outside)

    def _evidence(self, target: TargetLog, holes: list[Hole]) -> None:
        """Nothing that a gap states contradicts the journal, and a possible one has a reason there."""
        unfounded, contradicted, crossed = [], [], []
        for hole in holes:
            review = review_of(hole, target)
            if review.refuted:
                contradicted.append(f"{target.pod}: {hole}: {', '.join(review.refuted)}")
            elif not hole.certain and not review.is_founded:
                unfounded.append(f"{target.pod}: {hole}: {', '.join(review.unfounded) or 'no evidence'}")
            inside = (line for line in target.lines if self._outcomes[line.body] and hole.covers(line.at_ns))
            if (line := next(inside, None)) is not None:
                crossed.append(f"{target.pod}: {hole}: {_line(line)}")
        self._verdict.blame("possible gaps without a reason", unfounded)
        self._verdict.blame("gaps that contradict the journal", contradicted)
        self._verdict.blame("gaps with lines in them that arrived", crossed)

    def _certain(self, target: TargetLog, holes: list[Hole], missing: list[Line]) -> None:
        certain = [hole for hole in holes if hole.certain]
        if len(certain) != target.holes:
            self._verdict.violations.append(
                f"{target.pod} ({target.uid}) has {len(certain)} certain gaps for {target.holes} certain holes: "
                + "; ".join(map(str, certain[:_SHOWN]))
            )
        empty = [hole for hole in certain if not any(_covered(line, [hole]) for line in missing)]
        self._verdict.blame("certain gaps in which nothing is missing", empty)

    def _ledger(self, state: list[Seen], by_kind: dict[str, list[Seen]]) -> None:
        """The committed ledger against a recount from what was written and what can be read."""
        live: dict[tuple[int, bytes], dict[str, Any] | None] = {}
        for record in state:
            live[record.partition, record.key or b""] = orjson.loads(record.value) if record.value else None
        values = [(key, value) for (_, key), value in live.items() if value is not None]
        ledgers = [value for key, value in values if key == b"ledger"]
        counters = {name for each in ledgers for name, count in each.items() if type(count) is int}
        found = {name: sum(each[name] for each in ledgers) for name in counters}
        self._verdict.ledger = found
        if not ledgers:
            self._verdict.violations.append("there is no ledger in the state topic")
            return
        for each in ledgers:
            self._balance(each)
        held_still = sum(value["held"] for key, value in values if key.startswith(b"bucket/"))
        recount = {
            "alerts": len(by_kind["alert"]),
            "published": len(by_kind["alert"]),
            "dead_lettered": len(by_kind["dead-letter"]),
            "dead_letter_limited": self._held + held_still,
            "gaps": self._verdict.gaps.total(),
            "health_records": len(by_kind["health"]),
        }
        wrong = [
            f"{name} is {found[name]}, counted {count}"
            for name, count in recount.items()
            if found[name] != count
        ]
        least, most = self._recount()
        wrong += [
            f"{name} is {found[name]}, counted {least[name]}" + f" to {most[name]}" * (most != least)
            for name in least
            if not least[name] <= found[name] <= most[name]
        ]
        self._verdict.blame("counters of the ledger that are wrong", wrong)
        self._positions([value for key, value in values if key.startswith(b"position/")])

    def _balance(self, ledger: dict[str, int]) -> None:
        outcomes = ledger["alerts"] + ledger["log_lines"] + ledger["invalid"]
        alerts = ledger["filtered"] + ledger["deduplicated"] + ledger["limited"] + ledger["published"]
        invalid = ledger["dead_lettered"] + ledger["dead_letter_limited"]
        if (ledger["lines"], ledger["alerts"], ledger["invalid"]) != (outcomes, alerts, invalid):
            self._verdict.violations.append(f"a shard's ledger does not balance: {ledger}")

    def _recount(self) -> tuple[dict[str, int], dict[str, int]]:
        """What can be said of lines that leave no record: those outside gaps were read, those inside were not.

        The least and the most: the two differ by the lines around the end of a gap that names none.
        """
        reads = [self._read(target) for target in self._journal.targets.values()]
        least, most = (
            {
                "lines": kinds.total(),
                "alerts": kinds[Kind.ALERT],
                "log_lines": kinds[Kind.TEXT],
                "invalid": kinds[Kind.BROKEN],
            }
            for kinds in (sum(bounds, Counter[Kind]()) for bounds in zip(*reads, strict=True))
        )
        return least, most

    def _read(self, target: TargetLog) -> tuple[Counter[Kind], Counter[Kind]]:
        """How many lines of each kind were read, at least and at most."""
        holes = self._holes.get(target.uid, [])
        outside = Counter(line.kind for line in target.lines if not _covered(line, holes))
        unsure = Counter(
            line.kind
            for line in target.lines
            if line.kind is not Kind.ALERT
            and _covered(line, holes)
            and not _covered(line, [hole for hole in holes if not hole.open_ended])
        )
        return outside, outside + unsure

    def _positions(self, positions: list[dict[str, Any]]) -> None:
        wrong = []
        for position in positions:
            if (target := self._journal.targets.get(position["target"]["uid"])) is None:
                wrong.append(f"{position['target']} is unknown")
                continue
            least, most = (read.total() for read in self._read(target))
            if not least <= position["lines"] <= most:
                wrong.append(
                    f"{target.pod} is at line {position['lines']}, {least}"
                    + f" to {most}" * (most != least)
                    + " could be read"
                )
        self._verdict.blame("positions that are wrong", wrong)


def _covered(line: Line, holes: Iterable[Hole]) -> bool:
    return any(hole.covers(line.at_ns) for hole in holes)


def _nanoseconds(text: str | None) -> int | None:
    if text is None:
        return None
    whole, _, fraction = text.removesuffix("Z").partition(".")
    seconds = int(dt.datetime.fromisoformat(f"{whole}+00:00").timestamp())
    return seconds * 1_000_000_000 + int(fraction.ljust(9, "0") or 0)


def _where(record: Seen) -> str:
    return f"{record.topic}/{record.partition}@{record.offset}"


def _line(line: Line) -> str:
    at = dt.datetime.fromtimestamp(line.at_ns / 1e9, dt.UTC)
    return f"{line.uid}/{line.number} of {at:%H:%M:%S.%f}"
