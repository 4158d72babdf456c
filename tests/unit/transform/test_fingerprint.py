"""What was seen lately is remembered, and changes no hash."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from streamer.model import Alert
from streamer.transform.fingerprint import Fingerprint, Fingerprinter, FingerprintPlan, KeyFields
from streamer.transform.normalise import NORMALISERS
from streamer.transform.parse import parse
from streamer.transform.stamp import StampReader
from tests.unit.transform.samples import START_NS, alert

VALUES = st.sampled_from(
    [
        "ls",
        "",
        None,
        1,
        True,
        "10.0.0.7:51234->10.0.0.1:443",
        "10.0.0.7:80->10.0.0.1:443",
        "10.0.0.7->10.0.0.1:443",
        "fe80::5123:40000->::1:443",
        "fe80::5123->::1:443",
        "a:2000->b:3000->c",
        "cat /tmp/tmp.Ab12Cd34Ef",
        "cat /tmp/tmp*",
        "/proc/4711/environ",
        "/proc/*/environ",
        "/tmp/tmp.Ab12Cd34Ef:51234->/proc/1/x",
        ["->", "tmp"],
        {"a": "/proc/1/x:51234->b"},
    ]
)
ALERTS = st.tuples(
    st.sampled_from(["node-1", "a:51234->b", "/proc/1"]),
    st.fixed_dictionaries({"fd.name": VALUES, "proc.cmdline": VALUES, "proc.name": VALUES}),
)
ORDERS = st.permutations(list(NORMALISERS)).flatmap(
    lambda names: st.integers(0, len(names)).map(lambda count: tuple(names[:count]))
)


def fingerprinter(normalisers: tuple[str, ...]) -> Fingerprinter:
    plan = FingerprintPlan({"syscall": KeyFields(("proc.name",))}, normalisers=normalisers)
    return Fingerprinter(plan, b"k" * 16)


def read(hostname: str, fields: dict[str, Any]) -> Alert:
    found = parse(alert(hostname=hostname, output_fields=fields), START_NS, StampReader())
    assert isinstance(found, Alert)
    return found


@given(st.lists(ALERTS, max_size=20), ORDERS)
def test_is_the_same_whatever_was_seen_before(
    alerts: list[tuple[str, dict[str, Any]]], normalisers: tuple[str, ...]
) -> None:
    selection = None
    ours = fingerprinter(normalisers)
    for hostname, fields in alerts:
        found = read(hostname, fields)
        selection = selection or ours.select(found, None)
        alone = fingerprinter(normalisers).select(found, None)
        assert selection.fingerprint(found) == alone.fingerprint(found)


def test_is_one_where_only_the_clients_port_differs() -> None:
    ours = fingerprinter(tuple(NORMALISERS))
    alerts = [read("n", {"fd.name": f"10.0.0.7:{port}->10.0.0.1:443"}) for port in range(40_000, 40_010)]
    selection = ours.select(alerts[0], None)
    assert len({selection.fingerprint(found) for found in alerts}) == 1


def test_is_none_where_fields_are_nested_too_deep() -> None:
    deep: Any = "x"
    for _ in range(300):
        deep = [deep]
    found = read("n", {"proc.name": "a"})
    found.fields["proc.name"] = deep
    assert fingerprinter(()).select(found, None).fingerprint(found) is None


def test_memory_of_what_was_seen_is_bounded() -> None:
    ours = fingerprinter(tuple(NORMALISERS))
    first = read("n", {"proc.name": "a", "proc.cmdline": "x"})
    selection = ours.select(first, None)
    before: Fingerprint | None = selection.fingerprint(first)
    sizes = []
    for n in range(20_000):
        selection.fingerprint(read("n", {"proc.name": "a", "proc.cmdline": f"{n}" + "x" * 500}))
        sizes.append(len(selection._seen.plain))
    assert max(sizes) < 8_000
    assert selection.fingerprint(first) == before
