"""How commands that work on streams of alerts run: on our loop, with a garbage collector that stays out of the way."""

from __future__ import annotations

import asyncio
import ctypes
import gc
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

Result = TypeVar("Result")

_YOUNG: Final = 50_000
"""New containers before the collector looks for cycles. A transaction makes thousands of records that live until it is
committed and none that is a cycle; at Python's 700 the collector walks over them again and again (a tenth of the
core's time)."""
_TIDY_SECONDS: Final = 60.0
"""Opening thousands of streams leaves holes: 8 KiB for each. Looking for them takes some milliseconds."""


def run(main: Coroutine[Any, Any, Result]) -> Result:
    """Run a command's work to its end."""
    from streamer.flow.loop import Loop

    spare_the_collector()
    with asyncio.Runner(loop_factory=Loop) as runner:
        return runner.run(_tidied(main))


async def _tidied(main: Coroutine[Any, Any, Result]) -> Result:
    tidying = asyncio.create_task(_tidy())
    try:
        return await main
    finally:
        tidying.cancel()


async def _tidy() -> None:
    """Give back to the system what is free between what is in use, where the C library can: it does not by itself."""
    if (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        while True:
            await asyncio.sleep(_TIDY_SECONDS)
            trim(0)


def spare_the_collector() -> None:
    """Leave out what lives as long as the process, and look at the rest less often.

    What is garbage by now, less than 1 MB, stays: looking for it takes a tenth of a start.
    """
    gc.freeze()
    gc.set_threshold(_YOUNG, 20, 100)
