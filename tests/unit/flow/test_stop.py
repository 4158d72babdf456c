"""The stop ladder: a first signal asks, a second one ends the process there and then."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from typing import Self

import pytest

from streamer.flow.stop import StopLadder
from tests.unit.flow.virtual_time import in_virtual_time

STOPPABLE = """
import asyncio, sys
from streamer.flow.stop import StopLadder

async def work():
    stop = StopLadder()
    with stop.signals():
        print("working", flush=True)
        await stop.wait()
        print("asked by", stop.signal_name, flush=True)
        if "stubborn" in sys.argv:
            await asyncio.Event().wait()

if "uvloop" in sys.argv:
    import uvloop
    uvloop.run(work())
else:
    asyncio.run(work())
print("ended in order", flush=True)
"""


class Process:
    """The ladder in a process of its own, spoken to by signals."""

    def __init__(self, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", STOPPABLE, *arguments], stdout=subprocess.PIPE, text=True
        )

    def said(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def end(self) -> int:
        return self._process.wait(timeout=10)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_asks_for_an_orderly_end(number: signal.Signals, loop: str) -> None:
    with Process(loop) as process:
        assert process.said() == "working"
        process.send(number)
        assert process.said() == f"asked by {number.name}"
        assert process.said() == "ended in order"
        assert process.end() == 0


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize(
    ("first", "second"),
    [(signal.SIGTERM, signal.SIGTERM), (signal.SIGINT, signal.SIGINT), (signal.SIGINT, signal.SIGTERM)],
)
def test_the_second_signal_kills_the_process_by_that_signal(
    first: signal.Signals, second: signal.Signals, loop: str
) -> None:
    with Process("stubborn", loop) as process:
        assert process.said() == "working"
        process.send(first)
        assert process.said() == f"asked by {first.name}"
        process.send(second)
        assert process.end() == -second
        assert process.said() == ""


@in_virtual_time
async def test_whoever_waits_is_told_of_a_request() -> None:
    stop = StopLadder()
    waiting = asyncio.create_task(stop.wait())
    await asyncio.sleep(1)
    assert (waiting.done(), stop.requested) == (False, False)
    stop.request("SIGTERM")
    await waiting
    assert (stop.requested, stop.signal_name) == (True, "SIGTERM")


@in_virtual_time
async def test_a_pause_lasts_its_time_unless_a_stop_cuts_it_short() -> None:
    stop, clock = StopLadder(), asyncio.get_running_loop().time
    begun = clock()
    await stop.wait_for(5)
    assert clock() - begun == pytest.approx(5)
    asyncio.get_running_loop().call_later(2, stop.request)
    await stop.wait_for(60)
    assert clock() - begun == pytest.approx(7)
    await stop.wait_for(60)
    assert clock() - begun == pytest.approx(7)


async def test_the_signals_are_let_go_of_afterwards() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with StopLadder().signals():
        assert signal.getsignal(signal.SIGTERM) is not before
    received: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: received.append(number))
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(0)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert received == [signal.SIGTERM]
