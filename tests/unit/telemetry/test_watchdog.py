"""The watchdog: it tells what the loop hangs at, while nothing answers the probe."""

from __future__ import annotations

import asyncio
import threading
import urllib.error
import urllib.request

from structlog.testing import capture_logs

from streamer.telemetry.http import HttpServer
from streamer.telemetry.metrics import REGISTRY
from streamer.telemetry.status import Status
from streamer.telemetry.watchdog import watched


def stalls() -> float:
    return REGISTRY.get_sample_value("falco_streamer_loop_stalls_total") or 0.0


def hang_until(event: threading.Event) -> None:
    """Hold the loop up, as code does that should have awaited."""
    assert event.wait(20)


def probe(url: str) -> str:
    """What an orchestrator's probe sees."""
    try:
        with urllib.request.urlopen(url, timeout=1) as answer:
            return str(answer.status)
    except (TimeoutError, urllib.error.URLError):
        return "no answer"


async def test_a_loop_that_hangs_fails_its_probe_and_is_told_of_with_the_place() -> None:
    before = stalls()
    with capture_logs() as told:
        async with watched(0.2), HttpServer("127.0.0.1", 0, lambda: Status("test")).serving() as port:
            url = f"http://127.0.0.1:{port}/livez"
            assert await asyncio.to_thread(probe, url) == "200"
            found: list[str] = []
            done = threading.Event()

            def ask() -> None:
                found.append(probe(url))
                done.set()

            asking = threading.Thread(target=ask)
            asking.start()
            hang_until(done)
            asking.join()
            assert found == ["no answer"]
            assert await asyncio.to_thread(probe, url) == "200"
    (event,) = [event for event in told if event["event"] == "loop_stalled"]
    assert "hang_until" in event["at"]
    assert event["seconds"] >= 0.2
    assert stalls() == before + 1  # once for one stall, however long


async def test_a_loop_that_turns_is_not_complained_of() -> None:
    before = stalls()
    async with watched(2.0):
        for _ in range(100):
            await asyncio.sleep(0)
    assert stalls() == before
