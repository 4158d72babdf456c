"""Deduplication as a whole: what passes, what is counted, and that nothing depends on anything but a target's lines."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.model import Publication, Reason, Record, Target
from streamer.transform.fingerprint import FingerprintPlan, KeyFields
from streamer.transform.limit import Rate
from streamer.transform.load import load
from streamer.transform.plan import Refusal
from streamer.transform.process import Processor
from streamer.transform.state import ShardState
from streamer.transform.treatment import DedupeOverride, DedupePlan, LimitPlan
from tests.unit.transform.samples import FALCO, NOW_NS, OTHER, PLAN, SECOND_NS, START_NS, Feed, alert
from tests.unit.transform.stored import live

THIRD: Final = Target("falco", "falco-third", "11112222-3333-4444-5555-666677778888", "falco", "node-3")
TARGETS: Final = (FALCO, OTHER, THIRD)
MOST_VARIANTS: Final = 2
DEDUPE: Final = DedupePlan(
    window_ns=tuple(seconds * SECOND_NS for seconds in (60, 300, 1800)),
    max_variants=MOST_VARIANTS,
    fingerprint=FingerprintPlan({"syscall": KeyFields(("proc.name",))}, volatile=("evt.time*",)),
)
UNLIMITED: Final = replace(PLAN, dedupe=DEDUPE)
LIMITED: Final = replace(UNLIMITED, limits=LimitPlan(rate=Rate(6, 3)))


DEEP: Final = "stands for deeply nested arrays"


class Line(NamedTuple):
    """An alert to be: the time of its line, its group and its variant."""

    time_ns: int
    group: str
    variant: str
    priority: str = "Notice"

    def body(self) -> bytes:
        fields = {"proc.name": self.group, "proc.cmdline": self.variant, "evt.time": self.time_ns}
        return alert(self.time_ns, output_fields=fields, priority=self.priority)


STEPS_NS: Final = [
    0,
    SECOND_NS,
    -SECOND_NS // 5,
    20 * SECOND_NS,
    61 * SECOND_NS,
    290 * SECOND_NS,
    -11 * SECOND_NS,
    3600 * SECOND_NS,
    -3600 * SECOND_NS,
]


@st.composite
def streams(draw: st.DrawFn, max_size: int = 60) -> list[Line]:
    """A target's alerts: few groups and variants, much repeated; time runs, jumps, and steps back."""
    time_ns = START_NS + draw(st.sampled_from([0, 3600])) * SECOND_NS
    found = list[Line]()
    for step_ns in draw(st.lists(st.sampled_from(STEPS_NS), max_size=max_size)):
        time_ns += step_ns
        group, variant = draw(st.sampled_from("ab")), draw(st.sampled_from("uvwxy"))
        found.append(Line(time_ns, group, variant, draw(st.sampled_from(["Notice", "Notice", "Critical"]))))
    return found


@dataclass
class Expected:
    """The rules once more, as plainly as they can be written."""

    passed: list[Line] = field(default_factory=list)
    counted: list[Line] = field(default_factory=list)

    @staticmethod
    def of(lines: Iterable[Line]) -> Expected:
        found, elapsed, last = Expected(), 0, 0
        windows: dict[tuple[str, str], tuple[int, int, set[str], bool]] = {}
        for line in lines:
            if line.time_ns >= last:
                elapsed, last = elapsed + (line.time_ns - last if last else 0), line.time_ns
            elif last - line.time_ns > 10 * SECOND_NS:
                last = line.time_ns
            key = line.group, line.priority
            start, level, passed, busy = windows.get(key, (0, -1, set[str](), False))
            length = DEDUPE.window_ns[max(level, 0)]
            if level >= 0 and elapsed < start + length:
                is_protected = line.priority == "Critical"
                if line.variant in passed or (not is_protected and len(passed) > MOST_VARIANTS):
                    found.counted.append(line)
                    windows[key] = start, level, passed, True
                    continue
                windows[key] = start, level, passed | {line.variant}, busy
            elif level >= 0 and busy and elapsed < start + 2 * length:
                windows[key] = elapsed, min(level + 1, 2), {line.variant}, False
            else:
                windows[key] = elapsed, 0, {line.variant}, False
            found.passed.append(line)
        return found


class Run:
    """A processor, its stored state, and all that it has published."""

    def __init__(self, plan: Any = UNLIMITED) -> None:
        self.plan = plan
        self.live: dict[str, bytes] = {}
        self.processor = Processor(plan, ShardState("prod-eu-1", owner="me"), b"k" * 16)
        self.records = list[Record]()
        self.feeds = {target: Feed(target) for target in TARGETS}

    def lines(self, target: Target, lines: Sequence[Line], now_ns: int = NOW_NS) -> None:
        batch = self.feeds[target].batch(*[(line.time_ns, line.body()) for line in lines])
        self.commit(self.processor.process([batch], now_ns))

    def commit(self, publication: Publication | None) -> None:
        if publication is None:
            return
        assert publication.ledger.balanced
        keys = [change.key for change in publication.changes]
        assert len(set(keys)) == len(keys), "two changes of one key in one transaction"
        for key, value in publication.changes:
            if value is None:
                self.live.pop(key, None)
            else:
                self.live[key] = value
        self.records += publication.records
        ledger = publication.ledger
        assert ledger.deduplicated == ledger.summarised + self.open
        assert ledger.summarised == sum(value["summary"]["count"] for value in self.values("summary"))

    @property
    def open(self) -> int:
        """What is counted and not yet told."""
        return sum(known.windows.counted for known in self.processor.state.tracked.values())

    def crash(self) -> None:
        """Lose the memory; what was committed is loaded."""
        state = load("prod-eu-1", self.live.items())
        assert state == self.processor.state
        self.processor = Processor(self.plan, state, b"another key, lost")

    def end(self) -> None:
        self.commit(self.processor.publish_due(NOW_NS, everything=True))

    def values(self, kind: str, target: Target | None = None) -> list[dict[str, Any]]:
        return [
            orjson.loads(record.value)
            for record in self.records
            if dict(record.headers)["kind"].decode() == kind
            and (target is None or record.key == target.pod_name.encode())
        ]

    def variants(self, target: Target | None = None) -> list[dict[str, Any]]:
        """The fields of each variant in the summaries, in their order."""
        return [
            value["output_fields"] | variant["fields"]
            for value in self.values("summary", target)
            for variant in value["summary"]["variants"]
        ]

    def passed(self, target: Target = FALCO, topic: str = "falco.alerts") -> list[bytes]:
        """The alerts that reached their topics, or another one."""
        return [
            record.value
            for record in self.records
            if record.topic.startswith(topic)
            and dict(record.headers)["kind"] == b"alert"
            and record.key == target.pod_name.encode()
        ]

    def counted(self, target: Target = FALCO) -> Counter[tuple[str, str]]:
        """How often each group was counted, by group and priority."""
        found = Counter[tuple[str, str]]()
        for value in self.values("summary", target):
            fields = value["output_fields"] | value["summary"]["variants"][0]["fields"]
            group = fields["proc.name"], value["priority"]
            found[group] += value["summary"]["count"]
            assert value["summary"]["count"] == sum(v["count"] for v in value["summary"]["variants"])
        return found


def bodies(lines: Iterable[Line]) -> list[bytes]:
    return [line.body() for line in lines]


def groups(lines: Iterable[Line]) -> Counter[tuple[str, str]]:
    return Counter((line.group, line.priority) for line in lines)


@given(streams())
def test_passes_and_counts_what_the_rules_say(lines: list[Line]) -> None:
    run, expected = Run(), Expected.of(lines)
    run.lines(FALCO, lines)
    run.end()
    assert run.passed() == bodies(expected.passed)
    assert run.counted() == groups(expected.counted)
    assert run.processor.state.ledger.deduplicated == len(expected.counted)


@settings(max_examples=60)
@given(st.data(), st.sampled_from([UNLIMITED, LIMITED]))
def test_depends_on_nothing_but_a_targets_own_lines(data: st.DataObject, plan: Any) -> None:
    """Three targets, clocks an hour apart, any interleaving, chunking and crashes, our own clock an hour off."""
    mine = {target: data.draw(streams(25)) for target in TARGETS}
    alone = {}
    for target, lines in mine.items():
        alone[target] = Run(plan)
        alone[target].lines(target, lines)
        alone[target].end()
    together, left = Run(plan), {target: list(lines) for target, lines in mine.items()}
    while any(left.values()):
        target = data.draw(st.sampled_from([target for target, lines in left.items() if lines]))
        size = data.draw(st.integers(1, 8))
        now_ns = NOW_NS + data.draw(st.sampled_from([-3600, 0, 3600])) * SECOND_NS
        together.lines(target, left[target][:size], now_ns)
        del left[target][:size]
        match data.draw(st.sampled_from(["go on", "go on", "crash", "tell"])):
            case "crash":
                together.crash()
            case "tell":
                together.commit(together.processor.publish_due(now_ns))
    together.end()
    for target in TARGETS:
        assert together.passed(target) == alone[target].passed(target)
        assert together.passed(target, "falco.overflow") == alone[target].passed(target, "falco.overflow")
        assert together.counted(target) == alone[target].counted(target)
    assert len({record.id for record in together.records}) == len(together.records)


@given(streams())
def test_a_limit_diverts_whole_alerts_and_never_hides_a_first_one(lines: list[Line]) -> None:
    run = Run(LIMITED)
    run.lines(FALCO, lines)
    run.end()
    passed, diverted = run.passed(), run.passed(FALCO, "falco.overflow")
    ledger = run.processor.state.ledger
    assert (ledger.published, ledger.limited) == (len(passed), len(diverted))
    seen = {line.body() for line in lines}
    assert set(passed) | set(diverted) <= seen
    assert not any(b'"Critical"' in body for body in diverted)
    firsts: dict[tuple[str, str], bytes] = {}
    for line in lines:
        firsts.setdefault((line.group, line.priority), line.body())
    assert set(firsts.values()) <= set(passed) | set(diverted)


@given(streams())
def test_what_is_gone_leaves_no_key_and_no_count(lines: list[Line]) -> None:
    run = Run(LIMITED)
    run.lines(FALCO, lines)
    run.lines(OTHER, lines[:3])
    run.commit(run.processor.forget([FALCO], NOW_NS))
    assert not [key for key in run.live if FALCO.id in key]
    run.commit(run.processor.forget([OTHER], NOW_NS))
    assert set(run.live) == {"key", "ledger"}
    assert run.open == 0
    usage = run.processor.state.usage
    assert (usage.windows, usage.counting, usage.window_bytes, usage.evidence_bytes) == (0, 0, 0, 0)


@given(st.data())
def test_changes_of_which_only_a_beginning_is_written_lose_nothing(data: st.DataObject) -> None:
    """Without transactions, changes that are too many for one batch may be cut off anywhere: lines are read again."""
    run = Run(LIMITED)
    run.lines(FALCO, data.draw(streams(20)))
    before = dict(run.live)
    batches = [
        run.feeds[target].batch(*[(line.time_ns, line.body()) for line in data.draw(streams(20))])
        for target in (FALCO, OTHER)
    ]
    changes = run.processor.process(batches, NOW_NS).changes
    written = changes[: data.draw(st.integers(0, len(changes) - 1))]
    state = load("prod-eu-1", live(written, before).items())
    assert state.sequence == 1
    everything_else = {change.key for change in changes if not change.key.startswith(("position/", "ledger"))}
    if not everything_else <= {change.key for change in written}:
        assert not [change.key for change in written if change.key.startswith("position/")]


def test_no_beginning_of_changes_leaves_what_was_counted_without_its_variants() -> None:
    """A window ends and the group's next one counts another variant, in one transaction."""
    run = Run()
    run.lines(FALCO, [Line(START_NS, "a", "u")] * 2)
    before = dict(run.live)
    later = [Line(START_NS + 61 * SECOND_NS, "a", "v")] * 3
    changes = run.processor.process(
        [run.feeds[FALCO].batch(*[(line.time_ns, line.body()) for line in later])], NOW_NS
    ).changes
    for written in range(len(changes)):
        assert load("prod-eu-1", live(changes[:written], before).items()).sequence == 1


class TestByOurClock:
    LINES: Final = [Line(START_NS + n * SECOND_NS, "a", "u") for n in range(10)]

    def test_a_silent_window_is_told_within_ten_seconds_of_its_end(self) -> None:
        run = Run()
        run.lines(FALCO, self.LINES)
        assert (
            run.processor.publish_due(NOW_NS + 59 * SECOND_NS) is None
        )  # the last line stood at its ninth second
        run.commit(run.processor.publish_due(NOW_NS + 60 * SECOND_NS))
        [value] = run.values("summary")
        assert value["summary"]["count"] == 9
        assert (value["summary"]["reason"], value["summary"]["final"]) == ("silence", False)
        assert run.processor.publish_due(NOW_NS + 10_000 * SECOND_NS) is None

    def test_a_restart_does_not_put_it_off(self) -> None:
        run = Run()
        run.lines(FALCO, self.LINES)
        run.crash()
        run.commit(run.processor.publish_due(NOW_NS + 69 * SECOND_NS))
        assert run.counted() == Counter({("a", "Notice"): 9})

    def test_what_comes_after_it_is_another_part(self) -> None:
        run = Run()
        run.lines(FALCO, self.LINES)
        run.commit(run.processor.publish_due(NOW_NS + 69 * SECOND_NS))
        run.lines(FALCO, [Line(START_NS + 30 * SECOND_NS, "a", "u")])
        run.lines(FALCO, [Line(START_NS + 61 * SECOND_NS, "b", "u")])
        first, second = (value["summary"] for value in run.values("summary"))
        assert (first["part"], second["part"], second["count"], second["final"]) == (1, 2, 1, True)
        assert first["head_id"] == second["head_id"] == run.records[0].id


class TestMemory:
    def test_too_many_windows_are_told_of_and_forgotten(self) -> None:
        run = Run(replace(UNLIMITED, dedupe=replace(DEDUPE, max_windows=50)))
        for n in range(300):
            run.lines(FALCO, [Line(START_NS, f"group {n}", "u"), Line(START_NS, f"group {n}", "u")])
            assert len(run.processor.state.tracked[FALCO.id].windows) <= 50
        run.end()
        assert sum(run.counted().values()) == 300
        assert len(run.passed()) == 300

    def test_a_flood_on_one_target_forgets_nothing_of_another(self) -> None:
        run = Run(replace(UNLIMITED, dedupe=replace(DEDUPE, max_windows=50)))
        run.lines(OTHER, [Line(START_NS, "kept", "u")])
        run.lines(FALCO, [Line(START_NS, f"group {n}", "u") for n in range(300)])
        run.lines(OTHER, [Line(START_NS, "kept", "u")])
        assert len(run.passed(OTHER)) == 1

    def test_samples_and_texts_have_a_budget(self) -> None:
        budget = 20_000
        run = Run(replace(UNLIMITED, dedupe=replace(DEDUPE, max_evidence_bytes=budget)))
        for n in range(400):
            run.lines(FALCO, [Line(START_NS, f"group {n % 7}", f"{n:0300}")])
            assert run.processor.state.usage.evidence_bytes <= budget
        run.end()
        assert sum(run.counted().values()) == 400 - 7 * (1 + MOST_VARIANTS)

    def test_many_variants_are_reported_in_parts_with_their_fields(self) -> None:
        run = Run()
        run.lines(FALCO, [Line(START_NS, "a", f"command {n}") for n in range(1200)])
        run.end()
        shown = [fields["proc.cmdline"] for fields in run.variants()]
        assert sorted(shown) == sorted(f"command {n}" for n in range(MOST_VARIANTS + 1, 1200))
        assert [value["summary"]["reason"] for value in run.values("summary")] == ["variants"] * 2 + ["end"]


class TestKeys:
    def passes(self, one: dict[str, Any], other: dict[str, Any], **plan: Any) -> int:
        run = Run(replace(UNLIMITED, dedupe=replace(DEDUPE, max_variants=0, **plan)))
        feed = Feed()
        bodies = [alert(START_NS, output_fields=fields) for fields in (one, other)]
        nested = b"[" * 300 + b"]" * 300  # deeper than orjson writes, not deeper than it reads
        lines = [(START_NS, body.replace(b'"%b"' % DEEP.encode(), nested)) for body in bodies]
        run.commit(run.processor.process([feed.batch(*lines)], NOW_NS))
        return len(run.passed())

    def test_of_the_group_decide(self) -> None:
        assert self.passes({"proc.name": "sh"}, {"proc.name": "sh", "evt.time": 1}) == 1
        assert self.passes({"proc.name": "sh"}, {"proc.name": "bash"}) == 2
        assert self.passes({"proc.name": None}, {"proc.name": "sh"}) == 2
        assert self.passes({"user.name": "a"}, {"user.name": "a", "proc.name": None}) == 2

    def test_may_hold_any_value(self) -> None:
        values = [None, True, 1, 1.5, 2**64 - 1, "", "x" * 1_000_000, ["a"], {"a": 1}]
        for value in values:
            assert self.passes({"proc.name": value}, {"proc.name": value}) == 1
            assert self.passes({"proc.name": value}, {"proc.name": "sh"}) == 2

    def test_that_cannot_be_compared_let_alerts_pass(self) -> None:
        assert self.passes({"proc.name": DEEP}, {"proc.name": DEEP}) == 2
        assert self.passes({}, {}) == 2

    def test_may_be_taken_from_an_override(self) -> None:
        override = DedupeOverride(("Terminal *",), fields=KeyFields(("container.id",)))
        assert self.passes({"proc.name": "sh"}, {"proc.name": "ash"}, overrides=(override,)) == 1
        off = DedupeOverride(("Terminal *",), enabled=False)
        assert self.passes({"proc.name": "sh"}, {"proc.name": "sh"}, overrides=(off,)) == 2


def test_falcos_own_reports_are_never_suppressed_and_reach_the_operators() -> None:
    run, feed = Run(LIMITED), Feed()
    drop = alert(
        rule="Falco internal: syscall event drop",
        priority="Debug",
        source="internal",
        output_fields={"n_drops": "7", "n_evts": "100"},
    )
    quiet = alert(rule="Falco internal: metrics snapshot", output_fields={"scap.n_drops": 0})
    run.commit(
        run.processor.process([feed.batch(*[(START_NS, drop)] * 20, *[(START_NS, quiet)] * 20)], NOW_NS)
    )
    assert len(run.passed()) == 40
    reports = run.values("health")
    assert len(reports) == 20
    assert reports[0]["counters"] == {"n_drops": "7", "n_evts": "100"}


def test_a_report_of_falcos_is_small_whatever_the_alert_holds() -> None:
    """A topic that refuses it would refuse it each time: nothing smaller could take its place."""
    run, feed = Run(), Feed()
    fields = {f"counter {n}": n for n in range(5000)} | {"text": "x" * 500_000}
    large = alert(rule="Falco internal: syscall event drop", output_fields=fields)
    run.commit(run.processor.process([feed.batch((START_NS, large))], NOW_NS))
    assert run.passed() == [large]
    [report] = run.values("health")
    assert report["counters"]["counter 0"] == 0
    assert len(orjson.dumps(report)) < 65_536


def test_a_storm_is_said_at_its_start_and_at_its_end() -> None:
    run = Run(LIMITED)
    flood = [Line(START_NS + n * SECOND_NS // 10, f"group {n}", "u") for n in range(300)]
    run.lines(FALCO, flood)
    assert [(value["health"], value["state"]) for value in run.values("health")] == [("storm", "started")]
    run.crash()
    assert run.processor.publish_due(NOW_NS + 59 * SECOND_NS) is None
    run.commit(run.processor.publish_due(NOW_NS + 60 * SECOND_NS))
    started, ended = run.values("health")
    assert (ended["state"], ended["name"]) == ("ended", "Terminal shell in container")
    assert ended["count"] == len(run.passed(FALCO, "falco.overflow")) > started["count"] > 0
    assert len(run.passed()) + ended["count"] == 300


@pytest.mark.parametrize("limit_bytes", [60_000, 5_000, 1_500])
def test_a_summary_that_kafka_finds_too_large_is_told_in_pieces_and_loses_nothing(limit_bytes: int) -> None:
    lines = [Line(START_NS, "a", f"{n:0200}") for n in range(400)]
    refused = dict[str, Refusal]()
    while True:
        run = Run()
        run.lines(FALCO, lines)
        publication = run.processor.publish_due(NOW_NS + 69 * SECOND_NS, refused)
        assert publication is not None
        large = [record.id for record in publication.records if len(record.value) > limit_bytes]
        if not large:
            break
        assert not refused.keys() & set(large), "tried again as it was"
        refused |= {identity: Refusal((Reason.RECORD_TOO_LARGE,)) for identity in large}
    run.commit(publication)
    told = [value["summary"] for value in run.values("summary")]
    shown = Counter(fields["proc.cmdline"] for fields in run.variants())
    assert shown == Counter(line.variant for line in lines[1 + MOST_VARIANTS :])
    assert [one["piece"] for one in told] == list(range(1, len(told) + 1))
    assert {one["pieces"] for one in told} == {len(told)}


def test_counts_are_kept_for_each_target() -> None:
    by_target: dict[Target, int] = defaultdict(int)
    run = Run()
    for target in TARGETS:
        run.lines(target, TestByOurClock.LINES)
        by_target[target] = 9
    run.end()
    assert {target: sum(run.counted(target).values()) for target in TARGETS} == by_target


class TestWhatCannotBeTold:
    """An alert is counted only if a summary can show what tells it from others, whole."""

    def test_is_not_counted_before_its_like_has_passed(self) -> None:
        run = Run()
        few = [Line(START_NS, "a", f"variant {n}") for n in range(1 + MOST_VARIANTS)]
        long = [Line(START_NS, "a", f"{n}" + "x" * 9000) for n in range(3)]
        run.lines(FALCO, [*few, *long, *long])
        assert run.passed() == bodies([*few, *long])

    def test_is_shown_whole(self) -> None:
        run = Run()
        few = [Line(START_NS, "a", f"variant {n}") for n in range(1 + MOST_VARIANTS)]
        padded = [Line(START_NS, "a", "p" * 3000 + f"{n}" + "q" * 3000 + f" the end {n}") for n in range(3)]
        run.lines(FALCO, [*few, *padded])
        run.end()
        [value] = run.values("summary")
        shown = orjson.dumps(value).decode()
        assert all(f"the end {n}" in shown for n in range(3))

    def test_a_summary_is_small_though_what_is_counted_is_long_outside_of_its_fields(self) -> None:
        run, feed = Run(), Feed()
        for changed in {"tags": ["x" * 300_000]}, {"hostname": "x" * 300_000}, {"rule": "x" * 300_000}:
            long = alert(START_NS, **changed)
            run.commit(run.processor.process([feed.batch((START_NS, long), (START_NS, long))], NOW_NS))
        run.end()
        assert [value["summary"]["count"] for value in run.values("summary")] == [1, 1, 1]
        assert all(len(orjson.dumps(value)) < 32_768 for value in run.values("summary"))
        assert all(len(value) < 65_536 for value in run.live.values())

    def test_many_long_variants_are_told_in_parts_that_kafka_takes(self) -> None:
        run = Run()
        run.lines(FALCO, [Line(START_NS, "a", f"{n}" + "\x01" * 600 + f"{n}") for n in range(600)])
        run.end()
        assert max(len(record.value) for record in run.records) < 300_000
        assert sum(run.counted().values()) == 600 - 1 - MOST_VARIANTS


def test_a_window_ends_on_time_though_others_before_it_were_evicted() -> None:
    run = Run(replace(UNLIMITED, dedupe=replace(DEDUPE, max_windows=4)))
    at = [(0, "a"), (1, "b"), (2, "c"), (3, "d"), (4, "e"), (5, "b"), (6, "a"), (62, "b")]
    run.lines(FALCO, [Line(START_NS + seconds * SECOND_NS, group, "u") for seconds, group in at])
    assert len(run.passed()) == 7
    assert [value["summary"]["reason"] for value in run.values("summary")] == ["window_end"]


def test_evicted_windows_leave_nothing_behind_where_the_clock_stands_still() -> None:
    run = Run(replace(UNLIMITED, dedupe=replace(DEDUPE, max_windows=50)))
    for n in range(0, 3000, 100):
        run.lines(FALCO, [Line(START_NS, f"group {m}", "u") for m in range(n, n + 100)])
    assert len(run.processor.state.tracked[FALCO.id].windows._ends) < 400


def test_summaries_of_windows_that_began_at_one_time_have_ids_of_their_own() -> None:
    """A group comes back, after its window was evicted, while the target's clock stands still."""
    run = Run(replace(UNLIMITED, dedupe=replace(DEDUPE, max_windows=1)))
    at_ns = [START_NS - n for n in range(6)]  # no two lines are alike, and time goes on with none
    groups_in_turn = ["a", "a", "b", "a", "a", "b"]
    run.lines(
        FALCO, [Line(time_ns, group, "u") for time_ns, group in zip(at_ns, groups_in_turn, strict=True)]
    )
    assert [value["summary"]["count"] for value in run.values("summary")] == [1, 1]
    assert len({record.id for record in run.records}) == len(run.records) == 6


def test_a_line_that_comes_late_in_our_clock_is_told_ten_seconds_after_its_own_windows_end() -> None:
    """A catch-up: an hour of lines within a second, then silence."""
    run = Run()
    run.lines(FALCO, [Line(START_NS + n * SECOND_NS, "a", "u") for n in range(59)])
    run.commit(run.processor.publish_due(NOW_NS + 11 * SECOND_NS))
    assert sum(run.counted().values()) == 58


@pytest.mark.parametrize(
    ("limits", "name"),
    [
        (LimitPlan(rate=Rate(6000, 1000), per_topic={"falco.alerts.notice": Rate(60, 5)}), "topic"),
        (LimitPlan(rate=Rate(6000, 1000), overall=Rate(60, 5)), "overall"),
    ],
)
def test_a_limit_that_spans_targets_runs_on_our_clock(limits: LimitPlan, name: str) -> None:
    run = Run(replace(UNLIMITED, limits=limits))
    for second in range(4):
        for target in TARGETS:
            lines = [Line(START_NS, f"group {second} {n}", "u") for n in range(2)]
            run.lines(target, lines, NOW_NS + second * SECOND_NS)
    passed = sum(len(run.passed(target)) for target in TARGETS)
    diverted = [record for record in run.records if record.topic == "falco.overflow"]
    assert (passed, len(diverted)) == (5 + 3, 24 - 8)
    assert {dict(record.headers)["limited_by"] for record in diverted} == {name.encode()}
