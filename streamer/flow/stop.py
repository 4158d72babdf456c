"""The stop ladder: the first signal asks for an orderly end, the second ends at once."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


class StopLadder:
    """Says whether and how urgently the process has been asked to stop."""

    def __init__(self) -> None:
        self._requested = asyncio.Event()
        self.signal_name = ""

    @property
    def requested(self) -> bool:
        """Whether an orderly end has been asked for."""
        return self._requested.is_set()

    def request(self, signal_name: str = "") -> None:
        """Ask for an orderly end."""
        self.signal_name = signal_name
        self._requested.set()

    async def wait(self) -> None:
        """Return once an orderly end has been asked for."""
        await self._requested.wait()

    async def wait_for(self, seconds: float) -> None:
        """Wait for so long, or until an orderly end is asked for."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._requested.wait()

    @contextmanager
    def signals(self) -> Iterator[None]:
        """Listen to SIGTERM and SIGINT.

        The second one kills the process: what is not committed is not lost, it will be read again.
        """
        loop = asyncio.get_running_loop()

        def received(number: signal.Signals) -> None:
            if self.requested:
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)
            self.request(number.name)

        for number in SIGNALS:
            loop.add_signal_handler(number, received, number)
        try:
            yield
        finally:
            for number in SIGNALS:
                loop.remove_signal_handler(number)
