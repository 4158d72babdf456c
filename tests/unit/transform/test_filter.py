from __future__ import annotations

from streamer.model import Alert
from streamer.transform.filter import Filter, FilterAction, Filters
from streamer.transform.matcher import Matcher
from streamer.transform.parse import parse
from streamer.transform.stamp import StampReader
from tests.unit.transform.samples import START_NS, alert


def read(body: bytes) -> Alert:
    found = parse(body, START_NS, StampReader())
    assert isinstance(found, Alert)
    return found


SAMPLE = read(alert(output_fields={"proc.name": "bash"}))


def filters(*items: tuple[str, str], expires_ns: int | None = None) -> Filters:
    return Filters(
        [
            Filter(f"filter-{at}", FilterAction(action), (Matcher.parse(text),), expires_ns)
            for at, (action, text) in enumerate(items)
        ]
    )


def test_the_first_filter_that_matches_decides_and_is_named() -> None:
    assert filters().drops(SAMPLE, START_NS) is None
    assert filters(("drop", 'source="syscall"')).drops(SAMPLE, START_NS) == "filter-0"
    keep_first = filters(("keep", 'tags="container"'), ("drop", 'source="syscall"'))
    assert keep_first.drops(SAMPLE, START_NS) is None
    drop_first = filters(("drop", 'rule="x"'), ("drop", 'source="syscall"'), ("keep", 'tags="container"'))
    assert drop_first.drops(SAMPLE, START_NS) == "filter-1"


def test_a_misspelt_field_drops_nothing() -> None:
    misspelt = filters(("drop", 'prco.name != "bash"'), ("drop", 'k8s.ns.nme !~ "prod-.*"'))
    assert [misspelt.drops(SAMPLE, START_NS) for _ in range(300)] == [None] * 300


def test_a_filter_ends_by_the_alerts_own_line() -> None:
    ending = filters(("drop", 'source="syscall"'), expires_ns=START_NS)
    assert ending.drops(SAMPLE, START_NS - 1)
    assert not ending.drops(SAMPLE, START_NS)


def test_falcos_report_on_itself_is_dropped_only_by_name() -> None:
    name = "Falco internal: syscall event drop"
    report = read(alert(rule=name, priority="Debug", source="internal", output_fields={"rule": name}))
    assert not filters(("drop", "priority=debug")).drops(report, START_NS)
    assert not filters(("drop", 'rule =~ ".*"')).drops(report, START_NS)
    assert not filters(("drop", f'"rule" = "{name}"')).drops(report, START_NS)
    assert filters(("drop", f'rule = "{name}"')).drops(report, START_NS)
