"""What a piece of the logs shows of sources that nobody has configured."""

from __future__ import annotations

from typing import Any

from streamer.transform.unconfigured import SourcesSeen, Unconfigured
from tests.unit.transform.course import planned
from tests.unit.transform.samples import SECOND_NS, START_NS, alert


def lines(
    count: int, source: str = "acme", rule: str = "Acme activity", **fields: Any
) -> list[tuple[bytes, int]]:
    """Alerts with an id and a time of their own."""
    made = []
    for n in range(count):
        time_ns = START_NS + n * SECOND_NS
        event = {"acme.id": f"id-{n}", "acme.ts": time_ns, "acme.actor": f"user-{n % 4}", **fields}
        made.append((alert(time_ns, source=source, rule=rule, output_fields=event), time_ns))
    return made


def seen(*given: list[tuple[bytes, int]], **settings: Any) -> SourcesSeen:
    found = SourcesSeen(planned(cores=1, **settings))
    for one in given:
        found.take(one)
    return found


def test_fields_that_differ_in_nearly_every_alert_are_found_across_pods() -> None:
    found = seen(lines(20), lines(12))
    assert found.alerts == {"acme": 32}
    # The second pod's ids are those of the first: 20 of 32 values.
    assert found.unconfigured() == {"acme": Unconfigured(32, 1, 0, 0, ())}
    assert seen(lines(32)).unconfigured() == {"acme": Unconfigured(32, 1, 0, 0, ("acme.id", "acme.ts"))}


def test_too_few_alerts_of_a_kind_are_undecided() -> None:
    assert seen(lines(31)).unconfigured() == {"acme": Unconfigured(31, 1, 1, 31, ())}
    kinds = [
        lines(31, rule="one"),
        lines(5, rule="two"),
        lines(40, rule="three"),
        lines(3, rule="one", other=1),
    ]
    assert seen(*kinds).unconfigured() == {"acme": Unconfigured(79, 4, 3, 31, ("acme.id", "acme.ts"))}


def test_sources_that_are_configured_or_not_deduplicated_are_counted_only() -> None:
    own = {"group_fields": {"acme": ["acme.actor"]}}
    internal = lines(2, source="internal", rule="Falco internal: syscall event drop")
    found = seen(lines(40), lines(3, source="syscall"), lines(4, source="github"), internal, dedupe=own)
    assert found.alerts == {"acme": 40, "syscall": 3, "github": 4, "internal": 2}
    assert found.unconfigured() == {}
    assert seen(lines(40), dedupe={"enabled": False}).unconfigured() == {}


def test_what_filters_drop_is_not_looked_at() -> None:
    acme = {"action": "drop", "match": 'source = "acme"', "reason": "r"}
    assert not seen(lines(40), filters=[acme]).alerts


def test_what_is_nested_too_deep_is_left_out() -> None:
    deep = [(body.replace(b'"here"', b"[" * 300 + b"]" * 300), at) for body, at in lines(40, nested="here")]
    assert seen(deep).unconfigured() == {}
