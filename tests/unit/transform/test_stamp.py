from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.transform.stamp import StampReader, body_start, to_rfc3339
from tests.unit.strategies import NANOSECONDS

SECOND = 1_795_168_800  # 2026-11-20T10:00:00Z
SECOND_NS = SECOND * 1_000_000_000

VALID = {
    "2026-11-20T10:00:00Z": 0,
    "2026-11-20T10:00:00.1Z": 100_000_000,
    "2026-11-20T10:00:00.12Z": 120_000_000,
    "2026-11-20T10:00:00.123Z": 123_000_000,
    "2026-11-20T10:00:00.1234Z": 123_400_000,
    "2026-11-20T10:00:00.12345Z": 123_450_000,
    "2026-11-20T10:00:00.123456Z": 123_456_000,
    "2026-11-20T10:00:00.1234567Z": 123_456_700,
    "2026-11-20T10:00:00.12345678Z": 123_456_780,
    "2026-11-20T10:00:00.123456789Z": 123_456_789,
    "2026-11-20T10:00:00.123456789012Z": 123_456_789,
    "2026-11-20t10:00:00.123456789z": 123_456_789,
    "2026-11-20 10:00:00.123456789Z": 123_456_789,
    "2026-11-20T15:30:00.123456789+05:30": 123_456_789,
    "2026-11-20T15:30:00.5+05:30": 500_000_000,
    "2026-11-20T15:30:00+0530": 0,
    "2026-11-20T02:00:00.000000001-08:00": 1,
    "2026-11-20T10:00:00.123456789+0000": 123_456_789,
    "2026-11-20T10:00:00-00:00": 0,
    "2026-11-21T09:59:00+23:59": 0,
}

WRONG = [
    "",
    "Z",
    "text",
    "2026-11-20T10:00:00",
    "2026-11-20T10:00:00.Z",
    "2026-11-20T10:00:00.123456789",
    "2026-11-20T10:00:00123Z",
    "2026-11-20T10:00:00,123Z",
    "2026-13-20T10:00:00.123456789Z",
    "2026-00-20T10:00:00Z",
    "2026-02-29T10:00:00.000000000Z",
    "2026-11-20T24:00:00.000000000Z",
    "2026-11-20T24:00:00Z",
    "2026-11-20T10:60:00.000000000Z",
    "2026-11-20T10:00:60.000000000Z",
    "2026-11-20T10:00:00+24:00",
    "2026-11-20T10:00:00+05:60",
    "2026-11-20T10:00:00+05",
    "2026-11-20T10:00:00 +05:30",
    "2026-11-20T10:00:00.12345678xZ",
    "2026-11-20T10:00:00.+12345678Z",
    "26-11-20T10:00:00Z",
    "+026-11-20T10:00:00.123456789Z",
    "2026-11-20X10:00:00.123456789Z",
    " 2026-11-20T10:00:00.123456789Z",
    "2026-W47-5T10:00:00Z",
    "\u0662\u0660\u0662\u0666-11-20T10:00:00.123456789Z",
    "2026-11-20T10:00:00.\u0661\u0662\u0663Z",
    "2026-11-20T10:00:00.12345678\u00b2Z",
    "2026-11-20T10:00:00.1234567\u00b2Z",  # thirty bytes, its digits end in a superscript
]


@pytest.mark.parametrize(("text", "fraction_ns"), VALID.items())
class TestAValidTime:
    def test_is_read_as_a_time(self, text: str, fraction_ns: int) -> None:
        assert StampReader().time(text) == SECOND_NS + fraction_ns

    def test_is_read_before_a_line(self, text: str, fraction_ns: int) -> None:
        assert StampReader().line_time(text.encode() + b" {}") == SECOND_NS + fraction_ns


@pytest.mark.parametrize("text", VALID)
class TestTheTimestampOfALine:
    @pytest.mark.parametrize("body", [b"", b"{}", b" two spaces", b"ABCDEFZ " * 4, b"Z Z Z Z Z Z Z Z Z Z "])
    def test_ends_where_the_text_begins(self, text: str, body: bytes) -> None:
        line = text.encode() + b" " + body
        assert StampReader().line_time(line) is not None
        assert line[body_start(line) :] == body

    def test_needs_its_space(self, text: str) -> None:
        assert StampReader().line_time(text.encode()) is None
        assert StampReader().line_time(text.encode() + b"{}") is None
        assert StampReader().line_time(text.encode() + b"\t{}") is None


@pytest.mark.parametrize("text", WRONG)
class TestAWrongTime:
    def test_is_none(self, text: str) -> None:
        assert StampReader().time(text) is None

    def test_is_none_before_a_line(self, text: str) -> None:
        assert StampReader().line_time(text.encode() + b" {}") is None

    def test_is_none_after_a_good_one_and_does_not_spoil_the_next(self, text: str) -> None:
        reader = StampReader()
        good = b"2026-11-20T10:00:00.000000007Z {}"
        assert reader.line_time(good) == SECOND_NS + 7
        assert reader.line_time(text.encode() + b" {}") is None
        assert reader.time(text) is None
        assert reader.line_time(good) == SECOND_NS + 7


@pytest.mark.parametrize(
    "line",
    [b"", b" ", b"\xff" * 40, b"2026-11-20T10:00:00.\xd9\xa1\xd9\xa2\xd9\xa3\xd9\xa4\xb2Z {}", b"\0" * 31],
)
def test_bytes_that_are_no_text_have_no_time(line: bytes) -> None:
    assert StampReader().line_time(line) is None


@given(NANOSECONDS)
def test_what_is_written_is_read_back(time_ns: int) -> None:
    text = to_rfc3339(time_ns)
    assert len(text) == 30
    assert StampReader().time(text) == time_ns
    assert StampReader().line_time(text.encode() + b" x") == time_ns


@given(
    st.datetimes(datetime(1970, 1, 3), datetime(2262, 1, 1), timezones=st.timezones()),  # noqa: DTZ001
    st.sampled_from(["seconds", "milliseconds", "microseconds"]),
)
def test_any_zone_is_understood(moment: datetime, precision: str) -> None:
    text = moment.isoformat(timespec=precision)
    offset = moment.utcoffset()
    assert offset is not None
    if offset.seconds % 60:
        return  # zones of the 19th century, which RFC 3339 cannot write
    since = datetime.fromisoformat(text) - datetime(1970, 1, 1, tzinfo=UTC)
    assert StampReader().time(text) == since // timedelta(microseconds=1) * 1000


@given(st.lists(st.sampled_from([*VALID, *WRONG]) | NANOSECONDS.map(to_rfc3339), max_size=12))
def test_a_remembered_second_never_leaks_into_another_answer(texts: list[str]) -> None:
    one_for_all = StampReader()
    for text in texts:
        assert one_for_all.time(text) == StampReader().time(text)
        line = text.encode() + b" {}"
        assert one_for_all.line_time(line) == StampReader().line_time(line)


@given(st.binary(max_size=60))
def test_any_bytes_are_a_line_with_or_without_a_time(line: bytes) -> None:
    found = StampReader().line_time(line)
    assert found is None or line[body_start(line) - 1 : body_start(line)] == b" "


class TestTimesThatCannotBeHeld:
    """The state and Kafka hold 64 bits: a log written under a broken clock must not stop its shard."""

    @pytest.mark.parametrize(
        ("text", "held_ns"),
        [
            ("0001-01-01T00:00:00Z", 0),
            ("0001-01-01T00:00:00.000000000Z", 0),
            ("1969-12-31T23:59:59.999999999Z", 0),
            ("1970-01-01T00:00:00.000000000+01:00", 0),
            ("2600-01-01T00:00:00.000000000Z", 2**63 - 1),
            ("9999-12-31T23:59:59.999999999-23:59", 2**63 - 1),
        ],
    )
    def test_are_moved_to_the_nearest_one_before_a_line(self, text: str, held_ns: int) -> None:
        assert StampReader().line_time(text.encode() + b" {}") == held_ns
        assert StampReader().time(text) is None

    def test_the_last_one_can_be_written(self) -> None:
        assert to_rfc3339(2**63 - 1) == "2262-04-11T23:47:16.854775807Z"
