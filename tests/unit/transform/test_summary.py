"""What a summary says: typed fields in a table, true times, and a text for people."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.model import Alert
from streamer.transform.parse import parse
from streamer.transform.process import Processor
from streamer.transform.repeats import Repeats, Variant
from streamer.transform.stamp import StampReader
from streamer.transform.state import ShardState
from streamer.transform.summary import Part, summary_values
from streamer.transform.window import HEAD_BYTES, Window
from tests.unit.strategies import ANY_TEXT
from tests.unit.transform.samples import DEDUPED, NOW_NS, SECOND_NS, START_NS, Feed, alert, shell

WINDOW = Window(b"g" * 16, 0, 1800 * SECOND_NS, START_NS, 2, b"h" * HEAD_BYTES, b"v" * 16, busy=True, part=2)


def sample(**fields: Any) -> Alert:
    found = parse(alert(output_fields={"proc.name": "sh"} | fields), START_NS, StampReader())
    assert isinstance(found, Alert)
    return found


def variant(seconds: float = 0, count: int = 1, is_new: bool = True, **fields: Any) -> Variant:
    last_ns = START_NS + round(seconds * SECOND_NS)
    names = {name.replace("_", "."): value for name, value in fields.items()}
    return Variant(b"i" * 16, names, is_new, count, START_NS, last_ns)


def summary(of: Alert, *variants: Variant, pieces: int = 1) -> list[Any]:
    counted = {bytes([n]) * 16: one for n, one in enumerate(variants)}
    repeats = Repeats(of.body, b"g" * 16)
    repeats.variants = counted
    part = Part(of, WINDOW, repeats, "head", "evidence", False)
    return [orjson.loads(value) for value in summary_values(part, pieces)]


class TestFields:
    def test_are_a_table_of_what_differs_in_any_variant(self) -> None:
        first = sample(**{"proc.cmdline": "ls", "proc.tty": 0, "fd.name": None, "proc.args": ["a"]})
        (value,) = summary(first, variant(), variant(proc_tty=3), variant(fd_name="/etc/shadow"))
        assert [one["fields"] for one in value["summary"]["variants"]] == [
            {"fd.name": None, "proc.tty": 0},
            {"fd.name": None, "proc.tty": 3},
            {"fd.name": "/etc/shadow", "proc.tty": 0},
        ]
        assert value["output_fields"] == first.fields

    def test_keep_their_types(self) -> None:
        values = [0, 1, True, 1.5, "1", None, ["a", 1], {"a": 1}, 2**63]
        run, feed = Processor(DEDUPED, ShardState("prod-eu-1"), b"k" * 16), Feed()
        lines = [shell(START_NS, "same", **{"proc.exe": value}) for value in [*"abcd", *values]]
        run.process([feed.batch(*[(START_NS, line) for line in lines])], NOW_NS)
        made = run.publish_due(NOW_NS, everything=True)
        assert made is not None
        (record,) = made.records
        value = orjson.loads(record.value)
        found = [one["fields"]["proc.exe"] for one in value["summary"]["variants"]]
        assert [(type(one), one) for one in found] == [(type(one), one) for one in values]

    def test_show_a_field_that_only_some_variants_have(self) -> None:
        run, feed = Processor(DEDUPED, ShardState("prod-eu-1"), b"k" * 16), Feed()
        lines = [shell(START_NS, f"{n}", **({"proc.env": f"{n}"} if n % 2 else {})) for n in range(8)]
        run.process([feed.batch(*[(START_NS, line) for line in lines])], NOW_NS)
        made = run.publish_due(NOW_NS, everything=True)
        assert made is not None
        variants = orjson.loads(made.records[0].value)["summary"]["variants"]
        assert [one["fields"]["proc.env"] for one in variants] == [None, "5", None, "7"]

    def test_hold_all_that_is_known_where_each_variant_stands_alone(self) -> None:
        first = sample(**{"proc.cmdline": "ls", "user.name": "root"})
        values = summary(first, variant(is_new=False), variant(proc_cmdline="id"), pieces=8)
        assert [value["output_fields"] for value in values] == [{}, {}]
        new, old = (value["summary"]["variants"][0]["fields"] for value in values)
        assert new == {"proc.cmdline": "id"}
        assert old == {"proc.name": "sh", "proc.cmdline": "ls", "user.name": "root"}

    def test_that_nest_deeper_than_they_can_be_written_are_text(self) -> None:
        deep = orjson.loads(b"[" * 250 + b"]" * 250)
        (value,) = summary(sample(), variant(proc_args=deep))
        assert value["summary"]["variants"][0]["fields"]["proc.args"] == "[" * 250 + "]" * 250


class TestTimes:
    def test_are_those_of_the_first_and_the_last_alert(self) -> None:
        (value,) = summary(sample(), variant(12.25, count=3), variant(90, proc_cmdline="x"))
        assert value["summary"]["first_seen"] == "2026-11-20T10:00:00.000000000Z"
        assert value["summary"]["last_seen"] == value["time"] == "2026-11-20T10:01:30.000000000Z"
        assert value["summary"]["seconds"] == 90
        assert value["summary"]["window"] == {
            "start": "2026-11-20T10:00:00.000000000Z",
            "level": 2,
            "length_seconds": 1800,
        }

    @pytest.mark.parametrize(
        ("seconds", "span"),
        [(0.28, "0.3 s"), (59.4, "59.4 s"), (60, "1 min"), (1750, "29 min"), (9000, "2.5 h")],
    )
    def test_are_the_time_that_passed_in_the_text(self, seconds: float, span: str) -> None:
        (value,) = summary(sample(), variant(seconds, count=7))
        assert f"Terminal shell in container repeated 7 times in {span}, 1 new: " in value["output"]

    def test_are_left_out_where_it_was_once(self) -> None:
        (value,) = summary(sample(), variant())
        assert "repeated once, 1 new: " in value["output"]


class TestTheText:
    def text(self, *variants: Variant, of: Alert | None = None) -> str:
        (value,) = summary(of or sample(**{"proc.cmdline": "ls"}), *variants)
        return str(value["output"]).partition("container ")[2]

    def test_quotes_what_attackers_write(self) -> None:
        text = self.text(variant(proc_cmdline='x" user.name="root\n10:00:00: Critical'))
        assert text == r'repeated once, 1 new: proc.cmdline="x\" user.name=\"root\n10:00:00: Critical"'

    def test_cuts_long_values_between_characters_and_says_so(self) -> None:
        text = self.text(variant(proc_cmdline="é😀" * 100))
        assert text == f'repeated once, 1 new: proc.cmdline="{"é😀" * 59}é…"'

    def test_shows_new_variants_first_and_how_many_more_there_are(self) -> None:
        variants = [variant(proc_cmdline=f"c{n}", is_new=n > 4) for n in range(10)]
        assert self.text(*variants) == (
            "repeated 10 times in 0.0 s, 10 variants, 5 new: "
            'proc.cmdline="c5"; proc.cmdline="c6"; proc.cmdline="c7"; and 2 more'
        )

    def test_shows_what_was_repeated_where_nothing_is_new(self) -> None:
        assert self.text(variant(9, count=4, is_new=False)) == 'repeated 4 times in 9.0 s: proc.cmdline="ls"'
        assert self.text(variant(is_new=False), of=sample(k=1)) == 'repeated once: proc.name="sh" k=1'

    @given(st.dictionaries(ANY_TEXT, ANY_TEXT | st.lists(ANY_TEXT), max_size=9), st.booleans())
    def test_is_short_whatever_the_fields(self, fields: dict[str, Any], is_new: bool) -> None:
        (value,) = summary(sample(), *[Variant(b"i" * 16, fields, is_new, 1, 0, 0)] * 9)
        assert len(value["output"]) < 3 * 4 * 2 * 800


class TestTheCreateTime:
    def test_is_the_lines_where_alerts_are_much_older(self) -> None:
        """Kafka may delete what is older than its retention: of what was counted, this is the only copy."""
        old_ns = START_NS - 90 * 24 * 3600 * SECOND_NS
        run, feed = Processor(DEDUPED, ShardState("prod-eu-1"), b"k" * 16), Feed()
        lines = [(START_NS + n * SECOND_NS, shell(old_ns, "same")) for n in range(3)]
        run.process([feed.batch(*lines)], NOW_NS)
        loaded = Processor(DEDUPED, run.state)
        made = loaded.publish_due(NOW_NS, everything=True)
        assert made is not None
        [record] = made.records
        assert record.timestamp_ms == (START_NS + 2 * SECOND_NS) // 1_000_000
