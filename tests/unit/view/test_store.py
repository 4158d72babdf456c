"""What the viewer keeps of records, and what it answers."""

from __future__ import annotations

import json
import random
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.sink import Message
from streamer.transform.stamp import StampReader
from streamer.view import shape
from streamer.view.query import Query, QueryError, between
from streamer.view.records import spread_evenly
from streamer.view.store import Store
from tests.unit.view.records import NOW_MS, alert, seen, summary

DAY = [("range", "24h")]


def store(*records: Message, **bounds: int) -> Store:
    made = Store(NOW_MS, **bounds)
    made.note(records, NOW_MS, live=False)
    return made


def ids(made: Store, *pairs: tuple[str, str], limit: int = 1000) -> list[str]:
    return [entry.id for entry in made.rows(Query.parse([*DAY, *pairs]), NOW_MS, limit)]


def totals(made: Store, *pairs: tuple[str, str]) -> Any:
    return made.overview(Query.parse([*DAY, *pairs]), NOW_MS).as_dict()["totals"]


def test_rows_are_the_newest_first_in_whatever_order_they_come() -> None:
    records = [alert(f"a{n}", time_ms=NOW_MS - n * 1000) for n in range(50)]
    random.Random(1).shuffle(records)
    made = store(*records)
    assert ids(made) == [f"a{n}" for n in range(50)]
    third = made.rows(Query.parse(DAY), NOW_MS, 3)[-1]
    assert [each.id for each in made.rows(Query.parse(DAY), NOW_MS, 2, third.place)] == ["a3", "a4"]


@given(st.lists(st.integers(0, 200), max_size=120), st.integers(10, 40))
def test_the_ring_keeps_the_last_records_by_time(ages: list[int], most: int) -> None:
    made = store(most_records=most)
    for number, age in enumerate(ages):
        made.note([alert(f"a{number}", time_ms=NOW_MS - age * 1000)], NOW_MS, live=False)
    newest = sorted(ages)
    kept = sorted(NOW_MS - entry.time_ms for entry in made.ring.newest_first())
    assert len(kept) <= most
    assert len(kept) >= min(len(ages), most - most // 10)
    assert [age // 1000 for age in kept] == newest[: len(kept)]
    assert totals(made)["published"] == len(ages)


def test_the_ring_is_bounded_in_bytes() -> None:
    made = store(most_bytes=1 << 20)
    for number in range(30):
        made.note([alert(f"a{number}", proc__cmdline="x" * 100_000)], NOW_MS, live=False)
    assert made.ring.bytes <= 1 << 20
    assert ids(made)[0] == "a29"
    assert made.ring.find("a0") is None


def test_repeats_are_on_the_row_of_their_head() -> None:
    made = store(
        alert("a1"),
        summary("a1", [("v1", 3, "sh -c one"), ("v2", 2, "sh -c two")], identity="s1"),
        summary("a1", [("v1", 4, "sh -c one")], identity="s2", time_ms=NOW_MS + 1),
    )
    assert ids(made) == ["a1"]
    entry = made.ring.find("a1")
    assert entry is not None
    found = shape.details(made.ring, entry, StampReader())
    assert found["repeats"] == 9
    assert [(each["id"], each["count"]) for each in found["variants"]] == [("v1", 7), ("v2", 2)]
    assert found["variants"][0]["fields"] == [["proc.cmdline", "sh -c one"]]
    assert totals(made) == {"published": 1, "overflow": 0, "repeated": 9}
    assert ids(made, ("q", "two")) == ["a1"], "the text is in a summary on this row"
    assert ids(made, ("q", "three")) == []


def test_repeats_whose_head_is_not_kept_have_a_row_of_their_own() -> None:
    made = store(
        summary("gone", [("v1", 3, "one")], identity="s1"),
        summary("gone", [("v1", 4, "one")], identity="s2", time_ms=NOW_MS + 1),
    )
    assert ids(made) == ["s1"]
    assert shape.row(made.ring, made.rows(Query.parse(DAY), NOW_MS, 1)[0])["repeats"] == 7
    made.note([alert("gone", time_ms=NOW_MS - 60_000)], NOW_MS, live=False)
    assert ids(made) == ["gone"]


@pytest.mark.parametrize(
    ("pair", "expected"),
    [
        (("priority", "critical"), ["a2"]),
        (("not.priority", "critical"), ["a1", "a3"]),
        (("cluster", "other"), ["a3"]),
        (("rule", "Write"), ["a2"]),
        (("namespace", "bank"), ["a2"]),
        (("node", "node-9"), ["a3"]),
        (("tag", "T1098"), ["a2"]),
        (("q", "HAPPENED"), ["a1", "a2", "a3"]),
        (("q", '"write happened" bank'), ["a2"]),
        (("q", "node-9"), ["a3"]),
        (("q", 'a"b'), ["a3"]),
        (("where", 'proc.name = "nc"'), ["a2"]),
        (("where", 'proc.name != "nc"'), ["a1", "a3"]),
    ],
)
def test_a_filter_is_about_rows_and_counts_alike(pair: tuple[str, str], expected: list[str]) -> None:
    made = store(
        alert("a1"),
        alert("a2", "Write", "Critical", k8s__ns__name="bank", proc__name="nc", tags=("T1098",)),
        alert("a3", cluster="other", node="node-9", proc__cmdline='echo a"b'),
    )
    assert sorted(ids(made, pair)) == expected
    assert totals(made, pair)["published"] == len(expected)


def test_overflow_is_counted_apart() -> None:
    made = store(alert("a1"), alert("a2", limited_by="workload"))
    assert totals(made) == {"published": 1, "overflow": 1, "repeated": 0}
    assert {entry.id: entry.kind.name for entry in made.ring.newest_first()} == {
        "a1": "PUBLISHED",
        "a2": "OVERFLOW",
    }


@given(st.integers(0, 10_000), st.integers(0, 4_000), st.integers(1, 60))
def test_repeats_are_spread_over_the_time_in_which_they_happened(count: int, seconds: int, step: int) -> None:
    found: dict[int, int] = {}
    spread_evenly(found, 1000, 1000 + seconds, count, step)
    assert sum(found.values()) == count
    assert all(1000 <= second <= 1000 + seconds for second in found)
    assert all(number > 0 for number in found.values())
    assert len(found) <= seconds // step + 1


@given(st.integers(0, 2**32), st.integers(1, 2**27))
def test_a_span_between_two_moments_covers_both(first: int, seconds: int) -> None:
    span = between(first, first + seconds)
    start = span.start(0)
    assert start <= first
    assert start + span.seconds >= min(first + seconds, start + 180 * span.bar_seconds)
    assert start % span.bar_seconds == 0
    assert span.seconds // span.bar_seconds <= 180


@pytest.mark.parametrize(
    ("pairs", "why"),
    [
        ([("priority", "high")], "`high` is not a priority"),
        ([("priority", "info")], "`info` is not a priority"),
        ([("where", "proc.name")], "where: column"),
        ([("range", "1y")], "`1y` is not a range"),
        ([("from", "9"), ("to", "1")], "`from` is before `to`"),
        ([("from", "x"), ("to", "1")], "seconds since the epoch"),
        ([("rule", "x" * 3000)], "more than 2000 characters"),
        ([("rule", str(n)) for n in range(101)], "more than 100 values"),
    ],
)
def test_a_query_that_cannot_be_understood_says_why(pairs: list[tuple[str, str]], why: str) -> None:
    with pytest.raises(QueryError, match=why):
        Query.parse(pairs)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
KEYS = (
    "rule",
    "priority",
    "output",
    "output_fields",
    "tags",
    "time",
    "summary",
    "health",
    "target",
    "coverage",
)
INNER = ("count", "variants", "head_id", "pod", "uid", "n_drops", "k8s.ns.name", "fields", "id", "last_seen")


@st.composite
def odd_values(draw: st.DrawFn) -> bytes:
    """What a record may hold, with known keys and unknown values."""
    known = {
        "rule": "Shell",
        "priority": "Warning",
        "health": draw(st.sampled_from(["gap", "storm", "coverage"])),
    }
    inner = JSON | st.dictionaries(
        st.sampled_from(INNER), JSON | st.lists(st.dictionaries(st.sampled_from(INNER), JSON))
    )
    made = {**known, **draw(st.dictionaries(st.sampled_from(KEYS), inner, max_size=6))}
    return json.dumps(made).encode(errors="surrogatepass")


@given(
    st.binary(max_size=200) | odd_values(), st.sampled_from(["alert", "summary", "health", "dead-letter", ""])
)
def test_nothing_that_a_topic_may_hold_stops_it(value: bytes, kind: str) -> None:
    made = store(seen(value, kind))
    for entry in made.rows(Query.parse([*DAY, ("not.rule", "a")]), NOW_MS, 10):
        orjson.dumps(shape.details(made.ring, entry, StampReader()))
    orjson.dumps([verdict.as_dict() for verdict in made.verdicts(NOW_MS)])
    orjson.dumps(shape.coverage(made.health.clusters.values(), NOW_MS))
    orjson.dumps(shape.marks(made.health.clusters.values(), 0, NOW_MS))
    orjson.dumps(made.overview(Query.parse([*DAY, ("q", "a")]), NOW_MS).as_dict())


def test_details_have_exact_numbers_and_all_that_kafka_has() -> None:
    made = store(alert("a1", proc__exe_ino=18446744073709551615, deep=[{"a": [1]}], text="\x1b[31m\u202e<b>"))
    entry = made.ring.find("a1")
    assert entry is not None
    found = shape.details(made.ring, entry, StampReader())
    fields = dict(found["fields"])
    assert fields["proc.exe_ino"] == "18446744073709551615"
    assert fields["deep"] == '[{"a":[1]}]'
    assert fields["text"] == "\x1b[31m\u202e<b>"
    assert dict(found["headers"])["ce_id"] == "a1"
    assert found["value"].encode() == entry.value
    assert found["recipes"]["tap"].startswith("falco-streamer tap --since 1h --where 'rule = \"Shell\"'")


def test_changes_are_given_to_those_who_follow_and_who_is_behind_learns_of_it() -> None:
    made = store(alert("a1"))
    version = made.version
    made.note([alert("a2"), summary("a1", [("v", 2, "x")])], NOW_MS, live=True)
    changes = made.since(version)
    assert changes is not None
    assert [change.entry.id for change in changes] == ["a2", "s1"]
    made.note([alert(f"b{n}") for n in range(5_000)], NOW_MS, live=True)
    assert made.since(version) is None
