"""How a command's work is run."""

from __future__ import annotations

import asyncio
import ctypes
import sys
import time
from pathlib import Path

import pytest

from streamer.cli import loop

BLOCKS = 150
BLOCK_BYTES = 100_000


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(sys.platform != "linux", reason="it is glibc that keeps what is free")
def test_memory_that_is_free_between_what_is_in_use_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "_TIDY_SECONDS", 0.01)

    async def work() -> None:
        library = ctypes.CDLL(None)
        library.malloc.restype, library.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
        blocks = [library.malloc(BLOCK_BYTES) for _ in range(2 * BLOCKS)]
        for block in blocks:
            ctypes.memset(block, 1, BLOCK_BYTES)
        before = resident_bytes()
        for block in blocks[::2]:
            library.free(block)
        try:
            deadline = time.monotonic() + 10
            while resident_bytes() > before - BLOCKS * BLOCK_BYTES // 2:
                assert time.monotonic() < deadline, "nothing has gone back"
                await asyncio.sleep(0.01)
        finally:
            for block in blocks[1::2]:
                library.free(block)

    loop.run(work())


def test_what_it_returns_and_raises_comes_through() -> None:
    async def one() -> int:
        return 1

    async def broken() -> None:
        raise LookupError("no")

    assert loop.run(one()) == 1
    with pytest.raises(LookupError, match="no"):
        loop.run(broken())
