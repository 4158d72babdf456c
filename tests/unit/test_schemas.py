"""The schemas of docs/schemas, and that what the encoder makes is as they say."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from streamer.model import (
    Alert,
    Coverage,
    Gap,
    GapReason,
    Health,
    Malformed,
    Priority,
    Reason,
    Record,
    RecordKind,
)
from streamer.transform.encode import TargetEncoder
from streamer.transform.limit import Bucket, StormBucket
from streamer.transform.parse import parse
from streamer.transform.repeats import Repeats, Variant
from streamer.transform.stamp import StampReader
from streamer.transform.summary import Part, summary_values
from streamer.transform.volatile import Kind
from streamer.transform.window import HEAD_BYTES, Window
from tests.schemas import SCHEMAS, check_record, closed, schemas
from tests.unit.strategies import ALERT_BODIES, ANY_TEXT, NANOSECONDS
from tests.unit.transform.samples import FALCO, NOW_NS, SECOND_NS, START_NS, alert

ENCODER = TargetEncoder("prod-eu-1", FALCO)
VALUES = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | ANY_TEXT | st.lists(ANY_TEXT, max_size=2)
VARIANTS = st.builds(
    Variant,
    st.binary(min_size=16, max_size=16),
    st.dictionaries(ANY_TEXT, VALUES, max_size=3),
    st.booleans(),
    st.integers(1, 9),
    st.integers(START_NS, START_NS + 9),
    st.integers(START_NS + 9, NOW_NS),
)
URN = "urn:falco-streamer:schema:org.falco."


def read(body: bytes) -> Alert:
    found = parse(body, START_NS, StampReader())
    assert isinstance(found, Alert)
    return found


def words(name: str, *path: str) -> set[str]:
    """The words that a schema lists for a key."""
    schema: Any = schemas()[f"{URN}{name}.v1"]
    for key in path:
        schema = schema["properties"][key]
    return {word["const"] for word in schema["anyOf"] if "const" in word}


def health_words(health: Health, key: str) -> set[str]:
    """The words that the schema of health records lists for a key of those that report `health`."""
    cases = schemas()[f"{URN}health.v1"]["allOf"]
    (case,) = (case for case in cases if case["if"]["properties"]["health"]["const"] == health)
    return {word["const"] for word in case["then"]["properties"][key]["anyOf"] if "const" in word}


class Read(NamedTuple):
    """A record as a consumer has it."""

    key: bytes
    value: bytes
    headers: Sequence[tuple[str, bytes]]


class TestTheSchemas:
    def test_are_one_for_each_kind_of_record_named_as_their_header_says(self) -> None:
        names = {f"{kind.replace('-', '')}.v{2 if kind == 'summary' else 1}" for kind in RecordKind}
        assert {path.name.removesuffix(".json") for path in SCHEMAS.glob("*.json")} == names
        assert schemas().keys() == {f"urn:falco-streamer:schema:org.falco.{name}" for name in names}

    @pytest.mark.parametrize("name", sorted(schemas()))
    def test_are_json_schemas_and_describe_each_key(self, name: str) -> None:
        Draft202012Validator.check_schema(schemas()[name])
        for path, key in keys(schemas()[name]):
            assert "description" in key or "$ref" in key, path

    @pytest.mark.parametrize("name", sorted(schemas()))
    def test_leave_room_for_later_keys(self, name: str) -> None:
        text = orjson.dumps(schemas()[name]).decode()
        assert not re.search(r'"(unevaluated|additional)Properties":false', text)

    def test_list_the_words_that_the_code_has(self) -> None:
        assert words("deadletter", "reason") == set(Reason)
        assert words("health", "health") == set(Health)
        assert health_words(Health.GAP, "reason") == set(GapReason)
        assert health_words(Health.COVERAGE, "coverage") == set(Coverage)

    def test_refuse_what_they_do_not_describe_in_the_checker(self) -> None:
        strict = Draft202012Validator(closed(schemas()[f"{URN}health.v1"]))
        gap = orjson.loads(ENCODER.gap(Gap(GapReason.POD_GONE, True, None, None), 0, "t", 0, 0).value)
        assert strict.is_valid(gap)
        assert not strict.is_valid(gap | {"more": 1})
        assert not strict.is_valid(gap | {"reason": "more"})
        assert not strict.is_valid(gap | {"target": gap["target"] | {"more": 1}})
        assert Draft202012Validator(schemas()[f"{URN}health.v1"]).is_valid(
            gap | {"more": 1, "reason": "more"}
        )


class TestRecordsAreAsTheirSchemasSay:
    @given(ALERT_BODIES, st.booleans(), st.sampled_from(["", "workload"]))
    def test_alerts(self, body: bytes, annotate: bool, limited_by: str) -> None:
        encoder = TargetEncoder("prod-eu-1", FALCO, annotate=annotate)
        check_record(encoder.alert(read(body), "the-id", "t", START_NS, NOW_NS, limited_by))

    @given(st.sampled_from(Reason), st.binary(max_size=40), st.integers(0, 40), NANOSECONDS, ANY_TEXT)
    def test_dead_letters(self, reason: Reason, line: bytes, more: int, line_ns: int, detail: str) -> None:
        found = Malformed(reason, detail)
        check_record(ENCODER.dead_letter(found, line, len(line) + more, "the-id", "t", line_ns, NOW_NS))

    @given(
        st.sampled_from(GapReason), st.booleans(), st.none() | NANOSECONDS, st.none() | NANOSECONDS, ANY_TEXT
    )
    def test_gaps(
        self, reason: GapReason, certain: bool, from_ns: int | None, to_ns: int | None, detail: str
    ) -> None:
        check_record(ENCODER.gap(Gap(reason, certain, from_ns, to_ns, detail), 3, "t", START_NS, NOW_NS))

    @given(st.sampled_from(Reason), st.integers(1, 2**60), NANOSECONDS, NANOSECONDS)
    def test_dead_letters_held_back(self, reason: Reason, held: int, from_ns: int, to_ns: int) -> None:
        bucket = Bucket(0.0, 0, held, from_ns, to_ns)
        check_record(ENCODER.dead_letters_held(reason, bucket, 3, "t", NOW_NS))

    @given(
        st.sampled_from(["workload", "target", "topic", "overall"]),
        ANY_TEXT,
        st.integers(1, 2**60),
        st.booleans(),
    )
    def test_storms(self, limit: str, name: str, held: int, ended: bool) -> None:
        bucket = replace(StormBucket(0.0, 0), limit=limit, name=name, workload={"rule": name}, held=held)
        check_record(ENCODER.storm(bucket, 3, "t", NOW_NS, ended=ended))

    @given(ANY_TEXT, ANY_TEXT, st.lists(ANY_TEXT, max_size=3))
    def test_volatile_fields(self, rule: str, source: str, fields: list[str]) -> None:
        kind = Kind(rule, source, volatile=tuple(fields))
        check_record(ENCODER.volatile_fields(kind, "t", START_NS, NOW_NS))

    @given(ALERT_BODIES)
    def test_falcos_reports(self, body: bytes) -> None:
        check_record(ENCODER.falco_report(read(body), "the-id", "t", START_NS, NOW_NS))

    @given(ALERT_BODIES, st.lists(VARIANTS, min_size=1, max_size=60), st.integers(0, 4), st.booleans())
    def test_summaries_at_all_their_sizes(
        self, body: bytes, variants: list[Variant], tries: int, final: bool
    ) -> None:
        sample = read(body)
        window = Window(
            b"g" * 16, 0, 60 * SECOND_NS, START_NS, 1, b"h" * HEAD_BYTES, b"v" * 16, busy=True, part=2
        )
        repeats = Repeats(body, b"g" * 16)
        repeats.variants = {bytes([n]) * 16: variant for n, variant in enumerate(variants)}
        part = Part(sample, window, repeats, "the-id", "window_end", final)
        values = summary_values(part, 8**tries, as_small_as_possible=tries == 4)
        for value in values:
            check_record(ENCODER.summary(value, sample, "an-id", "t", NOW_NS, NOW_NS, NOW_NS))
        told = [orjson.loads(value)["summary"] for value in values]
        assert sum(one["count"] for one in told) == sum(variant.count for variant in variants)
        assert [one["piece"] for one in told] == list(range(1, len(told) + 1))
        assert all(len({tuple(variant["fields"]) for variant in one["variants"]}) == 1 for one in told)


class TestTheChecker:
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("ce_id", None),
            ("priority", None),
            ("priority", b"Notice"),
            ("ce_time", b"2026-11-20T10:00:00Z"),
            ("ce_type", b"org.falco.health.v1"),
            ("cluster", b"another"),
            ("made-up", b"x"),
        ],
    )
    def test_refuses_wrong_headers(self, name: str, value: bytes | None) -> None:
        record = ENCODER.alert(read(alert()), "the-id", "t", START_NS, NOW_NS)
        headers = [header for header in record.headers if header[0] != name]
        with pytest.raises((AssertionError, KeyError)):
            check_record(Read(record.key, record.value, [*headers, *([(name, value)] if value else [])]))

    def test_refuses_a_header_that_occurs_twice(self) -> None:
        record = ENCODER.alert(read(alert()), "the-id", "t", START_NS, NOW_NS)
        with pytest.raises(AssertionError, match="twice"):
            check_record(Read(record.key, record.value, [*record.headers, record.headers[0]]))

    def test_refuses_a_wrong_value(self) -> None:
        record: Record = ENCODER.gap(Gap(GapReason.POD_GONE, True, 1, 2), 0, "t", 3, 4)
        value = orjson.loads(record.value)
        with pytest.raises(AssertionError, match="certain"):
            check_record(record._replace(value=orjson.dumps(value | {"certain": "yes"})))


def keys(schema: Any, path: str = "") -> list[tuple[str, Any]]:
    found = []
    if isinstance(schema, dict):
        for key, each in schema.get("properties", {}).items():
            if "const" not in each:
                found.append((f"{path}.{key}", each))
        for key, each in schema.items():
            found += keys(each, f"{path}.{key}")
    elif isinstance(schema, list):
        for each in schema:
            found += keys(each, path)
    return found


def test_every_priority_is_in_the_summarys_schema() -> None:
    priorities = schemas()[f"{URN}summary.v2"]["properties"]["priority"]["enum"]
    assert priorities == [priority.name.capitalize() for priority in Priority]
