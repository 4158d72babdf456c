"""Files for `replay`, as pipes deliver them."""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from streamer.source.files import FileReader

LINES = [b'{"rule":"a"}', b'{"rule":"b"}']


class OneByteAtATime(io.RawIOBase):
    def __init__(self, content: bytes) -> None:
        self._left = content

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        first, self._left = self._left[:1], self._left[1:]
        buffer[: len(first)] = first
        return len(first)


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["as it is", "packed"])
@pytest.mark.parametrize("lines", [0, 1, 2])
def test_a_pipe_may_bring_one_byte_at_a_time(pack: Any, lines: int, monkeypatch: pytest.MonkeyPatch) -> None:
    content = pack(b"".join(line + b"\n" for line in LINES[:lines]))
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BufferedReader(OneByteAtATime(content))))

    assert [line for batch in FileReader(1000).read("-") for line in batch.lines] == LINES[:lines]


@pytest.mark.parametrize("end", [b"\n", b""], ids=["ends with a newline", "ends without"])
@pytest.mark.parametrize("stamp", [b"", b"2026-11-20T10:00:00.123456789+05:30 "], ids=["printed", "log API"])
def test_the_longest_line_is_as_long_with_a_timestamp_as_without(
    stamp: bytes, end: bytes, tmp_path: Path
) -> None:
    most = 300_000  # more than is read at once
    for size in (most - 1, most, most + 1):
        file = tmp_path / f"{size}.log"
        file.write_bytes(stamp + b"{}\n" + stamp + b"x" * size + end)
        batches = list(FileReader(most).read(str(file)))
        lines = [line for batch in batches for line in batch.lines]
        oversize = [known.original_bytes for batch in batches for known in batch.oversize.values()]
        assert lines[0] == stamp + b"{}"
        if size > most:
            assert oversize == [len(stamp) + size]
        else:
            assert (lines[1:], oversize) == ([stamp + b"x" * size], [])
