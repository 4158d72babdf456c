"""The counts add up, whatever comes and however time passes, within their bounds."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from streamer.model import Priority
from streamer.view.counts import FINE_FOR_SECONDS, OTHER, Cube
from streamer.view.overview import Overview
from streamer.view.query import Query
from streamer.view.records import KINDS, Kind, Series

NOW_S = 1_795_172_400
DAY_S = 86_400


def series(rule: str = "Shell", namespace: str = "shop", priority: Priority = Priority.WARNING) -> Series:
    return Series("prod", priority, rule, namespace, "node-1", "shop/web", "syscall", ("T1059",))


def total(cube: Cube) -> int:
    return sum(count for _, held in cube.cells(0, 2**40) for count in held.values())


@given(
    st.lists(
        st.tuples(
            st.integers(0, 2 * DAY_S),
            st.integers(0, 5),
            st.sampled_from(Kind),
            st.integers(1, 1000),
            st.integers(0, 600),
        ),
        max_size=60,
    )
)
def test_an_overview_that_grows_is_the_one_that_is_made_anew(
    events: list[tuple[int, int, Kind, int, int]],
) -> None:
    now_s = NOW_S
    cube = Cube(now_s, keep_seconds=DAY_S)
    query = Query.parse([("range", "15m"), ("not.rule", "rule-3")])
    grown = Overview(query, cube, now_s)
    for age, rule, kind, count, pause in events:
        cells = cube.add(cube.number(series(f"rule-{rule}")), kind, [(now_s - age, count)], now_s)
        grown.add(cells)
        now_s += pause
        cube.advance(now_s)
        grown.advance(now_s)
        # Merged into minutes, what is older than half an hour is in no bar of 15 s any more.
        made = Overview(query, cube, now_s)
        made.fill()
        assert grown.as_dict() == made.as_dict()


@given(
    st.lists(st.tuples(st.integers(0, DAY_S - 3600), st.integers(1, 9)), max_size=80), st.integers(0, 3000)
)
def test_no_alert_is_lost_when_slots_are_merged(events: list[tuple[int, int]], pause: int) -> None:
    cube = Cube(NOW_S, keep_seconds=DAY_S)
    number = cube.number(series())
    for age, count in events:
        cube.add(number, Kind.PUBLISHED, [(NOW_S - age, count)], NOW_S)
    cube.advance(NOW_S + pause)
    assert total(cube) == sum(count for _, count in events)
    assert all(slot % 60 == 0 for slot, _ in cube.cells(0, NOW_S + pause - FINE_FOR_SECONDS - 60))


def test_a_stretch_of_the_past_has_bars_that_are_as_wide_as_its_slots() -> None:
    cube = Cube(NOW_S)
    for start_s, width in ((NOW_S - 7200, 60), (NOW_S - 900, 15)):
        query = Query.parse([("from", str(start_s)), ("to", str(start_s + 600))])
        assert Overview(query, cube, NOW_S).as_dict()["bar_seconds"] == width


def test_what_is_too_old_is_forgotten() -> None:
    cube = Cube(NOW_S, keep_seconds=3600)
    number = cube.number(series())
    cube.add(number, Kind.PUBLISHED, [(NOW_S - 3500, 3), (NOW_S, 4)], NOW_S)
    cube.advance(NOW_S + 300)
    assert total(cube) == 4
    assert cube.since_s == NOW_S - 3300


def test_more_cells_than_there_may_be_cost_the_oldest() -> None:
    cube = Cube(NOW_S, keep_seconds=DAY_S, most_cells=100)
    number = cube.number(series())
    for minute in range(200):
        cube.add(number, Kind.PUBLISHED, [(NOW_S - DAY_S + 60 * minute, 1)], NOW_S)
    cube.advance(NOW_S)
    assert cube.cell_count <= 100
    assert cube.since_s > NOW_S - DAY_S
    assert total(cube) == cube.cell_count
    assert min(slot for slot, _ in cube.cells(0, 2**40)) >= cube.since_s


def test_names_beyond_the_bound_are_counted_as_others() -> None:
    cube = Cube(NOW_S, most_values=10, most_series=50)
    for number in range(1_000):
        cube.add(cube.number(series(namespace=f"ns-{number}")), Kind.PUBLISHED, [(NOW_S, 1)], NOW_S)
    assert total(cube) == 1_000
    assert len(cube.series) == 11
    overview = Overview(Query.parse([]), cube, NOW_S)
    overview.fill()
    top = overview.as_dict()["top"]["namespace"][0]
    assert (top["value"], top["published"]) == (OTHER, 990)
    for number in range(1_000):
        cube.add(
            cube.number(series(rule=f"rule-{number % 9}", priority=Priority(number % 8))),
            Kind.REPEATED,
            [(NOW_S, 1)],
            NOW_S,
        )
    assert len(cube.series) <= 51 + len(Priority)
    assert total(cube) == 2_000


def test_names_that_are_not_used_any_more_make_room() -> None:
    cube = Cube(NOW_S, keep_seconds=3600, most_values=10)
    for number in range(20):
        cube.add(cube.number(series(namespace=f"old-{number}")), Kind.PUBLISHED, [(NOW_S - 3000, 1)], NOW_S)
    kept = cube.number(series(namespace="old-1"))
    cube.add(kept, Kind.PUBLISHED, [(NOW_S, 5)], NOW_S)
    overview = Overview(Query.parse([("range", "24h")]), cube, NOW_S)
    cube.number(series(namespace="old-19"))
    later_s = NOW_S + 1200
    cube.advance(later_s)
    assert overview.outdated
    cube.add(cube.number(series(namespace="new")), Kind.PUBLISHED, [(later_s, 2)], later_s)
    counts = Counter[str]()
    for _, held in cube.cells(0, 2**40):
        for what, count in held.items():
            counts[cube.series[what // KINDS].namespace] += count
    assert counts == {"old-1": 5, "new": 2}
