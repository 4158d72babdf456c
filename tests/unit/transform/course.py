"""A shard's course under any events, and a judge that holds what is published to the contract of deduplication.

The judge knows the settings and the written alerts only. It identifies what a summary reports by the fields of its
variants, and computes each target's clock a second time.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final, NamedTuple

import orjson

from streamer.config import Settings
from streamer.model import Publication, Record, Target
from streamer.plan import plan_of
from streamer.transform.load import load
from streamer.transform.plan import Plan
from streamer.transform.process import Processor
from streamer.transform.stamp import to_rfc3339
from streamer.transform.state import ShardState
from tests.schemas import check_records
from tests.unit.transform.samples import FALCO, NOW_NS, OTHER, SECOND_NS, START_NS, Feed, alert

GRACE_NS: Final = 10 * SECOND_NS
TARGETS: Final = (FALCO, OTHER)
DEDUPE: Final[Mapping[str, Any]] = {
    "max_variants": 2,
    "group_fields": {"syscall": ["proc.name"]},
    "volatile_fields": ["evt.*"],
}
LIMITS: Final[Mapping[str, Any]] = {"rate_per_minute": 6, "burst": 4}


def planned(cores: int | None = None, **settings: Any) -> Plan:
    """The plan of the defaults with these settings; raises `ValueError` where they are refused."""
    return _plan_of(cores, orjson.dumps(settings))


@cache
def _plan_of(cores: int | None, settings: bytes) -> Plan:
    """Reading settings takes longer than most courses do."""
    required = {"cluster": "prod-eu-1", "kafka": {"bootstrap_servers": ["kafka:9092"]}}
    return plan_of(Settings.model_validate(required | orjson.loads(settings)), cores)


def treated(limits: Mapping[str, Any] | None = None, **dedupe: Any) -> Plan:
    """A plan with few fields in a group and few variants, so that few alerts do much; without limits by default."""
    return planned(cores=1, dedupe={**DEDUPE, **dedupe}, limits=dict(limits or {"enabled": False}))


class Event(NamedTuple):
    """An alert to be written `step_ns` after the one before it in its target's log."""

    target: int
    step_ns: int
    group: str
    variant: str
    priority: str


class Written(NamedTuple):
    """An alert in a target's log."""

    target: Target
    body: bytes
    time_ns: int
    key: tuple[str, ...]
    """Target, priority, group, variant."""
    is_protected: bool
    elapsed_ns: int
    """When it came, by its target's clock."""


class _Counted(NamedTuple):
    written: Written
    real_ns: int
    within_ns: int
    """How long it may stay unreported if it is evidence: by the settings under which it came."""
    is_evidence: bool


class _Clock:
    """A target's clock: it runs on with the lines' times, and lets them step back."""

    def __init__(self) -> None:
        self.line_ns, self.elapsed_ns, self._last_ns = START_NS, 0, 0

    def step(self, step_ns: int) -> None:
        self.line_ns += step_ns
        if self.line_ns >= self._last_ns:
            self.elapsed_ns += self.line_ns - self._last_ns if self._last_ns else 0
            self._last_ns = self.line_ns
        elif self._last_ns - self.line_ns > 10 * SECOND_NS:
            self._last_ns = self.line_ns


@dataclass
class Judge:
    """Holds each publication to the contract; `real_ns` is our clock."""

    plan: Plan
    real_ns: int = 0
    longest_ns: int = 0
    fewest_variants: int = 100
    alerts: int = 0
    shown: dict[tuple[str, ...], int] = field(default_factory=dict)
    """By key: when it was shown last, by its target's clock."""
    passed: dict[tuple[str, ...], dict[str, int]] = field(default_factory=lambda: defaultdict(dict))
    """By group: its published variants, and when each was published last."""
    counted: dict[tuple[str, ...], deque[_Counted]] = field(default_factory=lambda: defaultdict(deque))
    elapsed_ns: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.replan(self.plan)

    @property
    def within_ns(self) -> int:
        """How long evidence may stay unreported."""
        return self.plan.dedupe.window_ns[0] + GRACE_NS

    def replan(self, plan: Plan) -> None:
        self.plan = plan
        self.longest_ns = max(self.longest_ns, *plan.dedupe.window_ns)
        given = [each.max_variants for each in plan.dedupe.overrides if each.max_variants is not None]
        self.fewest_variants = min(self.fewest_variants, plan.dedupe.max_variants, *given)

    def take(self, publication: Publication, written: Sequence[Written] = ()) -> None:
        """Judge one transaction; `written` are the alerts that it settles."""
        assert publication.ledger.balanced
        by_body = {item.body: item for item in written}
        whole = set[bytes]()
        for record in publication.records:
            if _kind(record) != "alert":
                continue
            assert record.value in by_body, "published, but not written now"
            assert record.value not in whole, "published twice"
            whole.add(record.value)
            on_topic = record.topic == f"falco.alerts.{by_body[record.value].key[1].lower()}"
            assert on_topic or (record.topic == "falco.overflow" and not by_body[record.value].is_protected)
        for item in written:
            self._outcome(item, item.body in whole)
        self.alerts += len(whole)
        for record in publication.records:
            if _kind(record) == "summary":
                self._summary(record)
        assert publication.ledger.published + publication.ledger.limited == self.alerts
        self._due()

    def _outcome(self, item: Written, is_whole: bool) -> None:
        self.elapsed_ns[item.target.id] = item.elapsed_ns
        group, variant = item.key[:-1], item.key[-1]
        if is_whole:
            self.shown[item.key] = self.passed[group][variant] = item.elapsed_ns
            return
        shown_ns = self.shown.get(item.key)
        is_evidence = shown_ns is None or item.elapsed_ns - shown_ns >= self.longest_ns
        if item.is_protected:
            published_ns = self.passed[group].get(variant, -self.longest_ns)
            assert item.elapsed_ns - published_ns < self.longest_ns, "protected, and not published at once"
        if is_evidence:
            recent = [at for at in self.passed[group].values() if item.elapsed_ns - at < self.longest_ns]
            assert len(recent) > self.fewest_variants, "counted, though few variants were published"
        self.counted[item.key].append(_Counted(item, self.real_ns, self.within_ns, is_evidence))

    def _summary(self, record: Record) -> None:
        """What a summary reports was counted, is reported once, and is as it says."""
        assert record.topic == "falco.summaries"
        value = orjson.loads(record.value)
        summary = value["summary"]
        assert summary["count"] == sum(variant["count"] for variant in summary["variants"]) > 0
        ids = [variant["id"] for variant in summary["variants"]]
        assert len(set(ids)) == len(ids)
        firsts, lasts = list[str](), list[str]()
        for variant in summary["variants"]:
            fields = value["output_fields"] | variant["fields"]
            target = next(t.id for t in TARGETS if t.pod_name.encode() == record.key)
            key = (target, value["priority"], fields["proc.name"], fields["proc.cmdline"])
            queue = self.counted[key]
            assert len(queue) >= variant["count"], "reported more often than it was counted"
            mine = [queue.popleft() for _ in range(variant["count"])]
            self._shown(key, mine[-1].written.elapsed_ns)
            times = [item.written.time_ns for item in mine]
            if times == sorted(times):
                assert variant["first_seen"] == to_rfc3339(times[0])
                assert variant["last_seen"] == to_rfc3339(times[-1])
            firsts.append(variant["first_seen"])
            lasts.append(variant["last_seen"])
        assert summary["first_seen"] <= min(firsts)
        assert summary["last_seen"] >= max(lasts) or summary["last_seen"] in lasts

    def _shown(self, key: tuple[str, ...], elapsed_ns: int) -> None:
        """What a transaction counted after it has reported the same is a repeat of what was shown."""
        shown_ns = self.shown[key] = max(self.shown.get(key, 0), elapsed_ns)
        self.counted[key] = deque(
            item._replace(is_evidence=item.written.elapsed_ns - shown_ns >= self.longest_ns)
            for item in self.counted[key]
        )

    def _due(self) -> None:
        for queue in self.counted.values():
            for item in queue:
                if item.is_evidence:
                    by_lines_ns = self.elapsed_ns[item.written.target.id] - item.written.elapsed_ns
                    assert by_lines_ns < item.within_ns - GRACE_NS, f"late by the lines: {item.written.key}"
                    waited_ns = self.real_ns - item.real_ns
                    assert waited_ns < item.within_ns, f"late by our clock: {item.written.key}"

    def restart(self) -> None:
        """Our clock was set back, and nobody who knew it is left: what waits does so from now on."""
        for queue in self.counted.values():
            queue.extend([queue.popleft()._replace(real_ns=self.real_ns) for _ in range(len(queue))])

    def next_due_ns(self) -> int | None:
        """When evidence must be reported at the latest, by our clock."""
        every = [item for queue in self.counted.values() for item in queue if item.is_evidence]
        return min((item.real_ns + item.within_ns for item in every), default=None)


class Course:
    """A processor, its stored state and the judge of what it publishes."""

    def __init__(self, plan: Plan | None = None, key: bytes = b"k" * 16) -> None:
        self.plan = plan = plan or treated()
        self.live: dict[str, bytes] = {}
        self.records: list[Record] = []
        self.judge = Judge(plan)
        self._clocks = {target.id: _Clock() for target in TARGETS}
        self._feeds = {target.id: Feed(target) for target in TARGETS}
        self._serial = 0
        self._is_committed = True
        self._set_back_ns = 0
        self._key = key
        self._processor = Processor(plan, ShardState("prod-eu-1", owner="first"), key)

    def write(
        self, events: Sequence[Event], *, batches: int = 1, crash: bool = False, padding: int = 0
    ) -> None:
        """One transaction: the events of a target in so many batches; with `crash` it is tried twice."""
        written = [self._written(event, padding) for event in events]
        made = []
        for target in TARGETS:
            mine = [item for item in written if item.target == target]
            size = max(1, -(-len(mine) // batches))
            for at in range(0, len(mine), size):
                lines = [(item.time_ns, item.body) for item in mine[at : at + size]]
                made.append(self._feeds[target.id].batch(*lines))
        if crash:
            self._processor.process(made, self._now_ns)
            self._is_committed = False
            self.take_over()
        self._commit(self._processor.process(made, self._now_ns), written)

    def wait(self, seconds: float) -> None:
        """Let our clock run; what is due is asked for whenever evidence must be out."""
        until_ns = self.judge.real_ns + round(seconds * SECOND_NS)
        while (due_ns := self.judge.next_due_ns()) is not None and due_ns <= until_ns:
            self.judge.real_ns = due_ns - 1
            self._commit(self._processor.publish_due(self._now_ns))
            self.judge.real_ns = due_ns
            self.judge._due()
        self.judge.real_ns = until_ns
        self._commit(self._processor.publish_due(self._now_ns))

    def tick(self, seconds: int) -> None:
        """The same, second by second, as a shard asks."""
        for _ in range(seconds):
            self.judge.real_ns += SECOND_NS
            self._commit(self._processor.publish_due(self._now_ns))
            self.judge._due()

    def set_clock_back(self, seconds: int, *, crash: bool) -> None:
        """Somebody sets our clock, while the worker runs or while it does not."""
        self._set_back_ns += seconds * SECOND_NS
        if crash:
            self.take_over()
            self.judge.restart()
        self._commit(
            self._processor.publish_due(self._now_ns)
        )  # it is asked each second, so it notices at once

    def take_over(self) -> None:
        """Another worker loads what is stored; it would bring a key of its own, but the stored one counts."""
        key = b"another worker's" if self.live else self._key
        state = load("prod-eu-1", self.live.items())
        if self.live and self._is_committed:
            assert state == self._processor.state, "memory and what is stored differ"
        self._processor = Processor(self.plan, state, key)
        self._is_committed = True

    def reload(self, plan: Plan) -> None:
        """Other settings, in mid course."""
        while (made := self._processor.publish_redefined(plan, self._now_ns, most_bytes=1000)) is not None:
            self._commit(made)
        self.plan = plan
        self._processor.replan(plan)
        self.judge.replan(plan)

    def end(self) -> None:
        """Wait until all evidence must be out, then report the rest; every alert has one outcome by then."""
        self.wait(self.judge.longest_ns / SECOND_NS)
        self._commit(self._processor.publish_due(self._now_ns, everything=True))
        ledger = self._processor.state.ledger
        assert ledger.deduplicated == ledger.summarised
        assert not any(self.judge.counted.values()), "counted, and in no summary"
        check_records(self.records)
        assert load("prod-eu-1", self.live.items()).ledger == ledger

    @property
    def processor(self) -> Processor:
        """The core as it is now."""
        return self._processor

    def values(self, kind: str) -> list[Any]:
        """The values of all records of a kind."""
        return [orjson.loads(record.value) for record in self.records if _kind(record) == kind]

    @property
    def _now_ns(self) -> int:
        return NOW_NS + self.judge.real_ns - self._set_back_ns

    def _written(self, event: Event, padding: int) -> Written:
        target = TARGETS[event.target]
        clock = self._clocks[target.id]
        clock.step(event.step_ns)
        self._serial += 1
        fields = {"evt.num": self._serial, "proc.name": event.group, "proc.cmdline": event.variant}
        if padding:
            fields["proc.env"] = "x" * padding
        body = alert(clock.line_ns, output_fields=fields, priority=event.priority)
        key = (target.id, event.priority, event.group, event.variant)
        is_protected = event.priority in {"Emergency", "Alert", "Critical"}
        return Written(target, body, clock.line_ns, key, is_protected, clock.elapsed_ns)

    def _commit(self, publication: Publication | None, written: Sequence[Written] = ()) -> None:
        if publication is None:
            return
        for name, value in publication.changes:
            if value is None:
                self.live.pop(name, None)
            else:
                self.live[name] = value
        self.records += publication.records
        self.judge.take(publication, written)


def outcomes(records: Iterable[Record]) -> Counter[tuple[bytes, str]]:
    """How many records of each kind each target has."""
    return Counter((record.key, _kind(record)) for record in records)


def _kind(record: Record) -> str:
    return dict(record.headers)["kind"].decode()
