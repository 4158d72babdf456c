"""Files for `replay`, as pipes deliver them."""

from __future__ import annotations

import gzip
import io
from types import SimpleNamespace
from typing import Any

import pytest

from streamer.source.files import read_file

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

    assert [line for batch in read_file("-", 1000) for line in batch.lines] == LINES[:lines]
