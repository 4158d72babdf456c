"""Old kubelets write a timestamp after each 16 KiB of a line; Falco did not, so it is not published."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.source.files import FileReader
from streamer.transform.parts import PART_BYTES, without_part_stamps
from streamer.transform.process import Processor
from streamer.transform.read import LineReader
from streamer.transform.stamp import to_rfc3339
from streamer.transform.state import ShardState
from tests.unit.transform.samples import FALCO, NOW_NS, PLAN, SECOND_NS, START_NS, Feed, alert, stamped

CASE = Path(__file__).parents[1] / "source" / "saved" / "old-kubelet-16k.log"


def as_old_kubelet(body: bytes, at: int = START_NS, step_ns: int = 1, zone: str = "Z") -> bytes:
    """The line with the timestamp of each part."""
    parts = [body[i : i + PART_BYTES] for i in range(0, len(body), PART_BYTES)]
    return b"".join(stamp(at + n * step_ns, zone) + part for n, part in enumerate(parts))


def stamp(time_ns: int, zone: str = "Z") -> bytes:
    return f"{to_rfc3339(time_ns)[:-1]}{zone} ".encode()


def published(line: bytes) -> list[bytes]:
    found = LineReader(786_432).feed(line + b"\n")
    processor = Processor(PLAN, ShardState(PLAN.cluster))
    records = processor.process([Feed(FALCO).raw_batch(found.lines, found.times_ns)], NOW_NS).records
    return [record.value for record in records]


def long_alert(size: int) -> bytes:
    short = alert(output_fields={"proc.cmdline": ""})
    return alert(output_fields={"proc.cmdline": "x" * (size - len(short))})


@pytest.mark.parametrize(
    "size", [PART_BYTES + 1, PART_BYTES + 31, 2 * PART_BYTES, 2 * PART_BYTES + 1, 100_000]
)
@pytest.mark.parametrize("step_ns", [0, 1, SECOND_NS])
def test_the_value_is_what_falco_wrote(size: int, step_ns: int) -> None:
    body = long_alert(size)
    assert len(body) == size
    assert published(as_old_kubelet(body, step_ns=step_ns)) == [body]


def test_a_part_may_be_empty() -> None:
    """Docker stores the newline of a line of exactly 16 KiB as a part of its own."""
    body = long_alert(PART_BYTES)
    assert published(stamped(body, START_NS) + stamp(START_NS)) == [body]


@pytest.mark.parametrize("zone", ["+02:00", "-05:30"])
def test_the_nodes_zone_does_not_matter(zone: str) -> None:
    body = long_alert(40_000)
    assert published(as_old_kubelet(body, zone=zone)) == [body]


def test_the_id_is_that_of_the_line_as_it_was_served() -> None:
    """So that a place in the log is found again, whatever is removed."""
    line = as_old_kubelet(long_alert(40_000))
    records = Processor(PLAN, ShardState(PLAN.cluster)).process(
        [Feed(FALCO).raw_batch([line], [START_NS])], NOW_NS
    )
    plain = Processor(PLAN, ShardState(PLAN.cluster)).process(
        [Feed(FALCO).raw_batch([stamped(long_alert(40_000), START_NS)], [START_NS])], NOW_NS
    )
    assert records.records[0].id != plain.records[0].id


def test_a_saved_log_of_an_old_kubelet_is_read_as_well() -> None:
    reader = FileReader(786_432)
    processor = Processor(PLAN, ShardState(PLAN.cluster))
    first, *_ = processor.process(reader.read(str(CASE)), NOW_NS).records
    assert orjson.loads(first.value)["output_fields"]["ka.req.obj"].strip("x") == ""
    assert b"2026-11-20T09:23:11.700000001Z" not in first.value


WRITTEN = stamp(START_NS).decode()


@pytest.mark.parametrize(
    "body",
    [
        long_alert(PART_BYTES),
        long_alert(50_000),
        # At any other place Falco wrote it.
        alert(output="x" * 20_000 + WRITTEN + "x" * 20_000),
        # After the first 16 KiB, but not after the next.
        as_old_kubelet(long_alert(40_000), START_NS)[31 : PART_BYTES + 62] + b"x" * 40_000,
        # Years ago.
        as_old_kubelet(long_alert(40_000), START_NS - 10**17)[31:],
        as_old_kubelet(long_alert(40_000), START_NS - 3600 * SECOND_NS)[31:],
    ],
)
def test_what_no_kubelet_wrote_stays(body: bytes) -> None:
    assert without_part_stamps(body, START_NS) == body


@given(body=st.binary(max_size=200), repeats=st.integers(1, 400), step_ns=st.integers(-SECOND_NS, SECOND_NS))
def test_any_text_comes_back(body: bytes, repeats: int, step_ns: int) -> None:
    whole = body * repeats
    served = as_old_kubelet(whole, step_ns=step_ns)
    assert without_part_stamps(served[31:], START_NS) == whole
    assert without_part_stamps(whole, START_NS) == whole
