from __future__ import annotations

import hashlib
import tracemalloc
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.model import Oversize
from streamer.transform.split import KEPT_BYTES, Lines, Splitter
from tests.unit.strategies import cuts, pieces

LIMIT = 16

CASES = {
    "one line": b"alert\n",
    "two lines": b"first\nsecond\n",
    "empty lines": b"\n\n\n",
    "an empty line between": b"first\n\nsecond\n",
    "CRLF": b"first\r\nsecond\r\n",
    "a lone CR": b"fir\rst\n",
    "NUL": b"\0fi\0rst\0\n\0\n",
    "invalid UTF-8": b"\xff\xfe\n\xc3\n",
    "at the limit": b"x" * LIMIT + b"\n",
    "one byte over the limit": b"y" * (LIMIT + 1) + b"\n",
    "one byte over the limit with CR": b"y" * LIMIT + b"\r\n",
    "too long between short ones": b"a\n" + b"z" * 40 + b"\nb\n",
    "two too long": b"p" * 20 + b"\n" + b"q" * 30 + b"\n",
    "too long, then empty": b"p" * 20 + b"\n\n",
}


def expected(stream: bytes, limit: int = LIMIT) -> Lines:
    *lines, _ = stream.split(b"\n")
    result = Lines()
    for index, line in enumerate(lines):
        if len(line) > limit:
            result.oversize[index] = Oversize(len(line), hashlib.sha256(line).digest())
        result.lines.append(line[: min(limit, KEPT_BYTES)])
    return result


def rest(trailing: bytes, limit: int = LIMIT) -> Lines:
    """What is left of these bytes once the log has ended."""
    return expected(trailing + b"\n", limit) if trailing else Lines()


def feed(splitter: Splitter, chunks: Iterable[bytes]) -> Lines:
    result = Lines()
    for chunk in chunks:
        found = splitter.feed(chunk)
        result.oversize |= {len(result.lines) + index: known for index, known in found.oversize.items()}
        result.lines += found.lines
    return result


@pytest.mark.parametrize(
    "trailing", [b"", b"rest", b"r" * 30], ids=["complete", "with rest", "with long rest"]
)
@pytest.mark.parametrize("stream", CASES.values(), ids=CASES)
class TestEachCase:
    def test_whole(self, stream: bytes, trailing: bytes) -> None:
        splitter = Splitter(LIMIT)
        assert feed(splitter, [stream + trailing]) == expected(stream)
        assert splitter.finish() == rest(trailing)

    def test_byte_by_byte(self, stream: bytes, trailing: bytes) -> None:
        whole = stream + trailing
        splitter = Splitter(LIMIT)
        assert feed(splitter, [whole[i : i + 1] for i in range(len(whole))]) == expected(stream)
        assert splitter.finish() == rest(trailing)

    def test_at_every_two_cuts(self, stream: bytes, trailing: bytes) -> None:
        whole = stream + trailing
        for first in range(len(whole) + 1):
            for second in range(first, len(whole) + 1):
                splitter = Splitter(LIMIT)
                assert feed(splitter, pieces(whole, [first, second])) == expected(stream), (first, second)

    def test_its_trailing_bytes_are_a_line_once_the_log_has_ended(
        self, stream: bytes, trailing: bytes
    ) -> None:
        splitter = Splitter(LIMIT)
        splitter.feed(stream + trailing)
        assert splitter.finish() == rest(trailing)
        assert splitter.finish() == Lines()
        assert splitter.feed(b"a\n").lines == [b"a"]


@given(st.lists(st.sampled_from([b"\n", b"a", b"bc", b"\r", b"d" * 9, b"\0"]), max_size=40), st.data())
def test_lines_do_not_depend_on_the_chunks(parts: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(parts)
    limit = data.draw(st.integers(1, 30))
    splitter = Splitter(limit)
    found = feed(splitter, pieces(stream, data.draw(cuts(len(stream)))))
    assert found == expected(stream, limit)
    assert splitter.finish() == rest(stream[stream.rfind(b"\n") + 1 :], limit)


@given(st.lists(st.integers(0, 40), max_size=8), st.integers(8, 20), st.data())
def test_what_stands_before_a_line_is_none_of_its_length(
    sizes: list[int], limit: int, data: st.DataObject
) -> None:
    """Each line begins with as many dots as it was told to."""
    dots = data.draw(st.lists(st.integers(0, 8), min_size=len(sizes), max_size=len(sizes)))
    lines = [b"." * before + b"x" * size for before, size in zip(dots, sizes, strict=True)]
    stream = b"".join(line + b"\n" for line in lines)
    splitter = Splitter(limit, lambda line: len(line[:8]) - len(line[:8].lstrip(b".")))
    found = feed(splitter, pieces(stream, data.draw(cuts(len(stream)))))
    too_long = [index for index, size in enumerate(sizes) if size > limit]
    assert sorted(found.oversize) == too_long
    for index, line in enumerate(lines):
        if index in too_long:
            assert found.oversize[index] == Oversize(len(line), hashlib.sha256(line).digest())
            assert found.lines[index] == line[:limit]
        else:
            assert found.lines[index] == line


def test_chunks_without_a_newline_complete_no_line() -> None:
    splitter = Splitter(LIMIT)
    assert feed(splitter, [b"a", b"", b"b", b"c"]) == Lines()
    assert splitter.feed(b"\n").lines == [b"abc"]


@pytest.mark.parametrize("chunk_bytes", [1 << 30, 4096, 65_537])
def test_of_a_line_that_is_too_long_the_first_64_kib_are_kept(chunk_bytes: int) -> None:
    line = bytes(range(11, 256)) * 4000
    stream = line + b"\nnext\n"
    splitter = Splitter(786_432)
    found = feed(splitter, [stream[at : at + chunk_bytes] for at in range(0, len(stream), chunk_bytes)])
    assert found.lines == [line[:65_536], b"next"]
    assert found.oversize == {0: Oversize(len(line), hashlib.sha256(line).digest())}


def test_a_line_of_100_mb_in_small_chunks_stays_in_bounded_memory() -> None:
    limit, chunk, times = 786_432, 40_000, 2_500
    splitter, whole = Splitter(limit), hashlib.sha256()
    tracemalloc.start()
    try:
        for number in range(times):
            piece = number.to_bytes(4, "little").replace(b"\n", b"\0") * (chunk // 4)
            whole.update(piece)
            assert splitter.feed(piece) == Lines()
        found = splitter.feed(b"\nnext\n")
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 3 * limit
    assert found.oversize == {0: Oversize(chunk * times, whole.digest())}
    assert [len(line) for line in found.lines] == [KEPT_BYTES, 4]
