"""The longest line: what the container wrote decides, whatever timestamp the node puts before it."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.model import Oversize
from streamer.transform.read import LineReader, StampedLines
from streamer.transform.stamp import body_start
from tests.unit.strategies import cuts, pieces
from tests.unit.transform.test_stamp import VALID

LIMIT = 200


def read(log: bytes, at: list[int], limit: int = LIMIT) -> StampedLines:
    reader, found = LineReader(limit), StampedLines()
    for chunk in pieces(log, at):
        found.extend(reader.feed(chunk))
    found.extend(reader.finish())
    return found


@pytest.mark.parametrize("end", [b"\n", b""], ids=["with its newline", "the log's last, without"])
@pytest.mark.parametrize("text", VALID)
def test_neither_timestamp_nor_newline_counts(text: str, end: bytes) -> None:
    for size in (LIMIT - 1, LIMIT, LIMIT + 1):
        line = text.encode() + b" " + b"x" * size
        for at in [], [1], [len(line) - 1], [len(line)], list(range(len(line))):
            found = read(line + end, at)
            if size > LIMIT:
                assert found.oversize == {0: Oversize(len(line), hashlib.sha256(line).digest())}
                assert found.lines == [line[:LIMIT]]
            else:
                assert not found.oversize
                assert found.lines == [line]


def test_a_carriage_return_was_written_by_the_container() -> None:
    stamp = b"2026-11-20T10:00:00.123456789Z "
    assert not read(stamp + b"x" * (LIMIT - 1) + b"\r\n", []).oversize
    assert read(stamp + b"x" * LIMIT + b"\r\n", []).oversize


@given(
    st.lists(st.tuples(st.sampled_from(list(VALID)), st.integers(LIMIT - 40, LIMIT + 40)), max_size=6),
    st.data(),
)
def test_the_chunks_do_not_matter(lines: list[tuple[str, int]], data: st.DataObject) -> None:
    log = b"".join(text.encode() + b" " + b"x" * size + b"\n" for text, size in lines)
    found = read(log, data.draw(cuts(len(log))))
    assert [index for index, (_, size) in enumerate(lines) if size > LIMIT] == sorted(found.oversize)
    for index, (line, (_, size)) in enumerate(zip(found.lines, lines, strict=True)):
        if index in found.oversize:
            assert found.oversize[index].original_bytes - body_start(line) == size
        else:
            assert len(line) - body_start(line) == size


@given(st.integers(0, 90), st.integers(0, 3 * LIMIT), st.data())
def test_a_timestamp_of_any_length_is_judged_the_same_in_any_chunks(
    digits: int, size: int, data: st.DataObject
) -> None:
    log = b"2026-11-20T10:00:00." + b"1" * digits + b"Z " + b"x" * size + b"\n"
    assert read(log, data.draw(cuts(len(log)))) == read(log, [])
