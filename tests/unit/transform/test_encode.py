from __future__ import annotations

import base64
import re
from typing import Any, ClassVar

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.model import CORE_FIELDS, Alert, Gap, GapReason, Malformed, Priority, Reason, Record, Target
from streamer.transform.encode import TargetEncoder, create_time_ms
from streamer.transform.limit import Bucket
from streamer.transform.parse import parse
from streamer.transform.stamp import StampReader
from tests.schemas import check_record
from tests.unit.strategies import ALERT_BODIES, ANY_TEXT, NANOSECONDS
from tests.unit.transform.samples import FALCO, NOW_NS, OTHER, SECOND_NS, START_NS, alert

LINE_NS = START_NS + 500
DAY_NS = 24 * 3600 * SECOND_NS
MINUTE_NS = 60 * SECOND_NS
DIGEST = "ab" * 32
BROKEN = Malformed(Reason.INVALID_JSON, "cut")

ATTACKS = st.sampled_from(
    [
        '"},"x":{"',
        "\n",
        "\r\n",
        "\0",
        "\\",
        "\\u0000",
        "falco.alerts.debug",
        "ce_id: 7",
        "\u202e",
        "\u2028",
        "</script>",
    ]
)
TEXTS = st.lists(ATTACKS | ANY_TEXT, max_size=4).map("".join)


def encoder(target: Target = FALCO, cluster: str = "prod-eu-1") -> TargetEncoder:
    return TargetEncoder(cluster, target)


def read(body: bytes) -> Alert:
    found = parse(body, LINE_NS, StampReader())
    assert isinstance(found, Alert)
    return found


def alert_record(**changed: Any) -> Record:
    return encoder().alert(read(alert(**changed)), "the-id", "falco.alerts.notice", LINE_NS, NOW_NS)


def dead_letter(line: bytes, original_bytes: int | None = None, found: Malformed = BROKEN) -> Record:
    size = len(line) if original_bytes is None else original_bytes
    return encoder().dead_letter(found, line, size, "the-id", "falco.dead-letter", LINE_NS, NOW_NS)


def header(record: Record, name: str) -> bytes:
    [value] = [value for key, value in record.headers if key == name]
    return value


class TestAnAlertsRecord:
    def test_has_these_headers_key_and_bytes(self) -> None:
        record = alert_record()
        assert record.topic == "falco.alerts.notice"
        assert record.key == b"falco/falco-x7k2p"
        assert record.value == alert()
        assert record.id == "the-id"
        assert record.timestamp_ms == START_NS // 1_000_000
        assert sorted(record.headers) == [
            ("ce_id", b"the-id"),
            ("ce_source", b"/clusters/prod-eu-1/namespaces/falco/pods/falco-x7k2p"),
            ("ce_specversion", b"1.0"),
            ("ce_time", b"2026-11-20T10:00:00.000000000Z"),
            ("ce_type", b"org.falco.alert.v1"),
            ("cluster", b"prod-eu-1"),
            ("content-type", b"application/json"),
            ("kind", b"alert"),
            ("node", b"node-1"),
            ("priority", b"notice"),
            ("rule", b"Terminal shell in container"),
        ]

    @pytest.mark.parametrize("priority", list(Priority))
    def test_names_its_priority_in_lower_case(self, priority: Priority) -> None:
        record = alert_record(priority=priority.name.capitalize())
        assert header(record, "priority") == priority.name.lower().encode()

    def test_without_a_time_has_the_lines(self) -> None:
        record = alert_record(time=...)
        assert header(record, "ce_time") == b"2026-11-20T10:00:00.000000500Z"
        assert record.timestamp_ms == LINE_NS // 1_000_000

    @given(ALERT_BODIES)
    def test_holds_the_alerts_bytes_and_each_header_once(self, body: bytes) -> None:
        record = encoder().alert(read(body), "i", "t", LINE_NS, NOW_NS)
        assert record.value == body
        assert len({name for name, _ in record.headers}) == len(record.headers)
        assert all(isinstance(value, bytes) for _, value in record.headers)

    @given(st.text(min_size=0, max_size=300) | TEXTS)
    def test_repeats_at_most_256_bytes_of_the_rule_and_they_stay_utf_8(self, rule: str) -> None:
        told = header(alert_record(rule=rule), "rule")
        assert len(told) <= 256
        assert rule.startswith(told.decode())
        assert len(told) > 252 or told.decode() == rule

    @pytest.mark.parametrize("letter", ["a", "\u00e9", "\u20ac", "\U0001f600"])
    @pytest.mark.parametrize("shift", range(4))
    def test_cuts_a_long_rule_between_letters(self, letter: str, shift: int) -> None:
        told = header(alert_record(rule="x" * shift + letter * 300), "rule").decode()
        assert told == "x" * shift + letter * ((256 - shift) // len(letter.encode()))

    def test_is_right_for_more_rules_than_are_remembered(self) -> None:
        one = encoder()
        for number in [*range(1100), 3]:
            found = read(alert(rule=f"rule {number}", priority="Error"))
            record = one.alert(found, "i", "t", LINE_NS, NOW_NS)
            assert header(record, "rule") == b"rule %d" % number
            assert header(record, "priority") == b"error"

    def test_tells_equal_rules_of_different_priority_apart(self) -> None:
        one = encoder()
        told = [
            header(one.alert(read(alert(priority=name)), "i", "t", LINE_NS, NOW_NS), "priority")
            for name in ("Error", "Debug", "Error")
        ]
        assert told == [b"error", b"debug", b"error"]


class TestStaticFields:
    FIELDS: ClassVar = {"environment": "production", "team": "Zoë"}

    def records(self, *, annotate: bool) -> list[Record]:
        one = TargetEncoder("prod-eu-1", FALCO, annotate=annotate, fields=self.FIELDS)
        gap = Gap(GapReason.POD_GONE, True, None, None)
        found = read(alert())
        return [
            one.alert(found, "i", "t", LINE_NS, NOW_NS),
            one.alert(found, "i", "t", LINE_NS, NOW_NS, limited_by="rule"),
            one.summary(found.body, found, "i", "t", LINE_NS, LINE_NS, NOW_NS),
            one.dead_letter(BROKEN, b"x", 1, "i", "t", LINE_NS, NOW_NS),
            one.gap(gap, 3, "t", LINE_NS, NOW_NS),
            one.falco_report(found, "i", "t", LINE_NS, NOW_NS),
        ]

    @pytest.mark.parametrize("annotate", [False, True])
    def test_are_headers_of_every_record(self, annotate: bool) -> None:
        for record in self.records(annotate=annotate):
            for name, value in self.FIELDS.items():
                assert header(record, name) == value.encode()

    def test_are_in_the_value_only_where_it_is_annotated(self) -> None:
        for record in self.records(annotate=False)[:3]:
            assert record.value == alert()
        for record in self.records(annotate=True)[:2]:
            assert record.value.startswith(alert()[:-1])
            assert orjson.loads(record.value)["falco_streamer"] == {
                "id": "i",
                "cluster": "prod-eu-1",
                "node": FALCO.node,
                "kind": "alert",
                **self.FIELDS,
            }
            check_record(record, self.FIELDS)

    def test_cannot_be_named_as_anything_that_records_have(self) -> None:
        names = {name for record in self.records(annotate=True) for name, _ in record.headers}
        names |= orjson.loads(self.records(annotate=True)[0].value)["falco_streamer"].keys()
        assert {name for name in names - self.FIELDS.keys() if not name.startswith("ce_")} <= CORE_FIELDS
        assert {"kind", "rule", "limited_by", "health", "reason", "id"} <= names


class TestCreateTime:
    @given(NANOSECONDS, NANOSECONDS, NANOSECONDS)
    def test_is_the_alerts_or_the_lines_or_now_and_never_far_ahead(
        self, alert_ns: int, line_ns: int, now_ns: int
    ) -> None:
        found = create_time_ms(alert_ns, line_ns, now_ns)
        assert found in {alert_ns // 10**6, line_ns // 10**6, now_ns // 10**6}
        assert 0 <= found <= (now_ns + 5 * MINUTE_NS) // 10**6

    @pytest.mark.parametrize(
        ("alert_ns", "expected_ns"),
        [
            (LINE_NS, LINE_NS),
            (LINE_NS - DAY_NS, LINE_NS - DAY_NS),
            (LINE_NS - DAY_NS - 1, LINE_NS),
            (LINE_NS + 5 * MINUTE_NS, LINE_NS + 5 * MINUTE_NS),
            (LINE_NS + 5 * MINUTE_NS + 1, LINE_NS),
            (0, LINE_NS),
        ],
    )
    def test_is_the_alerts_where_it_is_plausible_beside_the_lines(
        self, alert_ns: int, expected_ns: int
    ) -> None:
        assert create_time_ms(alert_ns, LINE_NS, NOW_NS) == expected_ns // 10**6

    def test_of_a_line_from_the_future_is_now(self) -> None:
        ahead = NOW_NS + 5 * MINUTE_NS
        assert create_time_ms(ahead, ahead, NOW_NS) == ahead // 10**6
        assert create_time_ms(ahead + 1, ahead + 1, NOW_NS) == NOW_NS // 10**6
        assert create_time_ms(NOW_NS + 2 * 3600 * SECOND_NS, LINE_NS, NOW_NS) == LINE_NS // 10**6


class TestTheIdOfALine:
    def test_is_the_same_each_time(self) -> None:
        assert encoder().line_id(DIGEST, 0) == encoder().line_id(DIGEST, 0)
        assert encoder().line_id(DIGEST, 3) == encoder().line_id(DIGEST, 3)

    def test_is_another_in_another_place(self) -> None:
        moved = Target("falco", FALCO.pod, "another-uid", "falco", "node-1")
        sidecar = Target("falco", FALCO.pod, FALCO.uid, "sidecar", "node-1")
        ids = [
            encoder().line_id(DIGEST, 0),
            encoder().line_id(DIGEST, 1),
            encoder().line_id(DIGEST, 2),
            encoder().line_id("cd" * 32, 0),
            encoder(cluster="staging").line_id(DIGEST, 0),
            *[encoder(target).line_id(DIGEST, 0) for target in (OTHER, moved, sidecar)],
        ]
        assert len(set(ids)) == len(ids)

    def test_does_not_change_with_the_node(self) -> None:
        moved = Target(FALCO.namespace, FALCO.pod, FALCO.uid, FALCO.container, "another-node")
        assert encoder(moved).line_id(DIGEST, 1) == encoder().line_id(DIGEST, 1)

    def test_is_short_plain_text(self) -> None:
        assert re.fullmatch(r"[0-9a-f]{12}-[0-9a-f]{32}", encoder().line_id(DIGEST, 0))
        assert re.fullmatch(r"[0-9a-f]{12}-[0-9a-f]{32}-63", encoder().line_id(DIGEST, 63))


class TestADeadLetter:
    def test_says_what_is_known(self) -> None:
        record = dead_letter(b'{"rule":')
        assert orjson.loads(record.value) == {
            "reason": "invalid_json",
            "detail": "cut",
            "cluster": "prod-eu-1",
            "target": {
                "namespace": "falco",
                "pod": "falco-x7k2p",
                "uid": FALCO.uid,
                "container": "falco",
                "node": "node-1",
            },
            "line_time": "2026-11-20T10:00:00.000000500Z",
            "original_bytes": 8,
            "truncated": False,
            "line": '{"rule":',
        }
        assert (record.topic, record.key, record.id) == ("falco.dead-letter", b"falco/falco-x7k2p", "the-id")
        assert record.timestamp_ms == LINE_NS // 10**6
        assert {name: header(record, name) for name in ("kind", "ce_type", "reason", "ce_id")} == {
            "kind": b"dead-letter",
            "ce_type": b"org.falco.deadletter.v1",
            "reason": b"invalid_json",
            "ce_id": b"the-id",
        }

    @given(st.binary(max_size=100) | TEXTS.map(str.encode))
    def test_gives_any_line_back_to_the_byte(self, line: bytes) -> None:
        value = orjson.loads(dead_letter(line).value)
        if "line_base64" in value:
            assert base64.b64decode(value["line_base64"]) == line
            with pytest.raises(UnicodeDecodeError):
                line.decode()
        else:
            assert value["line"].encode() == line
        assert value["truncated"] is False

    @pytest.mark.parametrize("line", [b"\xff", b"caf\xc3", b"\xed\xa0\x80", b"ok\x80"])
    def test_of_invalid_utf_8_is_readable_and_whole(self, line: bytes) -> None:
        value = orjson.loads(dead_letter(line).value)
        assert "\ufffd" in value["line"]
        assert base64.b64decode(value["line_base64"]) == line

    @given(TEXTS, TEXTS)
    def test_has_no_other_key_or_header_for_any_text(self, line: str, detail: str) -> None:
        plain = dead_letter(b"plain")
        record = dead_letter(line.encode(), found=Malformed(Reason.NOT_AN_ALERT, detail))
        assert orjson.loads(record.value).keys() == orjson.loads(plain.value).keys()
        assert [name for name, _ in record.headers] == [name for name, _ in plain.headers]
        assert orjson.loads(record.value)["detail"] == detail

    def test_of_which_only_a_part_is_kept_says_so(self) -> None:
        value = orjson.loads(dead_letter(b"x" * 10, 100_000_000).value)
        assert (value["original_bytes"], value["truncated"], value["line"]) == (100_000_000, True, "x" * 10)

    @pytest.mark.parametrize("byte", [b"\0", b"\xff", b'"', b"x"])
    def test_of_64_kib_stays_below_the_size_that_brokers_take(self, byte: bytes) -> None:
        assert len(dead_letter(byte * 65_536).value) < 786_432


class TestAGap:
    GAP = Gap(GapReason.ROTATION_UNSEEN, True, START_NS, LINE_NS, "why")

    def record(self, gap: Gap = GAP, lines_before: int = 7) -> Record:
        return encoder().gap(gap, lines_before, "falco.health", LINE_NS, NOW_NS)

    def test_says_from_when_to_when_and_why(self) -> None:
        value = orjson.loads(self.record().value)
        assert {key: value[key] for key in ("reason", "certain", "from", "to", "detail", "cluster")} == {
            "reason": "rotation_unseen",
            "certain": True,
            "from": "2026-11-20T10:00:00.000000000Z",
            "to": "2026-11-20T10:00:00.000000500Z",
            "detail": "why",
            "cluster": "prod-eu-1",
        }
        assert header(self.record(), "ce_type") == b"org.falco.health.v1"
        assert (header(self.record(), "kind"), header(self.record(), "health")) == (b"health", b"gap")

    def test_may_be_open(self) -> None:
        value = orjson.loads(self.record(Gap(GapReason.POD_GONE, False, None, None)).value)
        assert (value["from"], value["to"], value["certain"]) == (None, None, False)

    def test_has_the_same_id_each_time_and_another_in_another_place(self) -> None:
        assert self.record().id == self.record().id == header(self.record(), "ce_id").decode()
        others = [
            self.record(lines_before=8),
            self.record(Gap(GapReason.POD_GONE, True, START_NS, LINE_NS)),
            self.record(Gap(GapReason.ROTATION_UNSEEN, True, START_NS, LINE_NS + 1)),
            self.record(Gap(GapReason.ROTATION_UNSEEN, True, None, LINE_NS)),
            encoder(OTHER).gap(self.GAP, 7, "falco.health", LINE_NS, NOW_NS),
        ]
        assert len({self.record().id, *(record.id for record in others)}) == 6


class TestTheHealthRecordOfDeadLettersHeldBack:
    def record(self, bucket: Bucket, lines_before: int = 7) -> Record:
        return encoder().dead_letters_held(Reason.TEXT_ALERT, bucket, lines_before, "falco.health", NOW_NS)

    def test_counts_them(self) -> None:
        record = self.record(Bucket(0, 0, 512, START_NS, LINE_NS))
        value = orjson.loads(record.value)
        assert (value["health"], value["reason"], value["count"]) == (
            "dead_letters_limited",
            "text_alert",
            512,
        )
        assert (value["from"], value["to"]) == (
            "2026-11-20T10:00:00.000000000Z",
            "2026-11-20T10:00:00.000000500Z",
        )
        assert (header(record, "kind"), header(record, "reason")) == (b"health", b"text_alert")
        assert (record.topic, record.timestamp_ms) == ("falco.health", NOW_NS // 10**6)
        assert header(record, "ce_time") == b"2026-11-20T10:00:00.000000500Z"

    def test_has_an_id_of_its_own_even_where_lines_have_no_times(self) -> None:
        held = Bucket(0, 0, 1, 0, 0)
        assert self.record(held).id == self.record(held).id
        assert self.record(held).id != self.record(held, 8).id


def test_names_in_a_source_are_quoted() -> None:
    odd = Target("name space", "pod?x", "u", "c", "n")
    record = encoder(odd).gap(TestAGap.GAP, 0, "t", LINE_NS, NOW_NS)
    assert header(record, "ce_source") == b"/clusters/prod-eu-1/namespaces/name%20space/pods/pod%3Fx"
