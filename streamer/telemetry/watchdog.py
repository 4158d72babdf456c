"""A watchdog outside the event loop: where the loop stands still, only another thread can say so.

While it does, nothing answers /livez, and that is how an orchestrator learns of it; this reports where it is blocked.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

import structlog

from streamer.telemetry import facts

STALL_SECONDS: Final = 5.0
"""So long the loop may stand still; a commit of 10,000 lines takes a fifth of a second."""

log = structlog.get_logger()


@asynccontextmanager
async def watched(stall_seconds: float = STALL_SECONDS) -> AsyncIterator[None]:
    """Watch the running loop while the context lasts."""
    heart = _Heart(stall_seconds)
    watching = threading.Thread(target=heart.watch, name="watchdog", daemon=True)
    beating = asyncio.create_task(heart.beat(), name="heartbeat")
    watching.start()
    try:
        yield
    finally:
        heart.stopped.set()
        beating.cancel()
        with suppress(asyncio.CancelledError):
            await beating


class _Heart:
    def __init__(self, stall_seconds: float) -> None:
        self._stall_seconds = stall_seconds
        self._beat_at = time.monotonic()
        self._loop_thread = threading.get_ident()
        self.stopped = threading.Event()

    async def beat(self) -> None:
        """Say again and again that the loop turns."""
        while True:
            self._beat_at = time.monotonic()
            await asyncio.sleep(self._stall_seconds / 5)

    def watch(self) -> None:
        """Look after it; runs in a thread of its own."""
        told_of = 0.0
        while not self.stopped.wait(self._stall_seconds / 5):
            beat_at = self._beat_at
            seconds = time.monotonic() - beat_at
            if seconds >= self._stall_seconds and told_of != beat_at:
                told_of = beat_at
                facts.loop_stalled()
                frame = sys._current_frames().get(self._loop_thread)  # noqa: SLF001 - there is no other way
                at = traceback.format_stack(frame)[-5:] if frame is not None else []
                log.error("loop_stalled", seconds=round(seconds, 1), at="".join(at))
