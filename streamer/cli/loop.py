"""How commands that work on streams of alerts run: on uvloop, with a garbage collector that stays out of the way."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

Result = TypeVar("Result")

_YOUNG: Final = 50_000
"""New containers before the collector looks for cycles. A transaction makes thousands of records that live until it is
committed and none that is a cycle; at Python's 700 the collector walks over them again and again (a tenth of the
core's time)."""


def run(main: Coroutine[Any, Any, Result]) -> Result:
    """Run a command's work to its end."""
    from streamer.flow.loop import Loop

    spare_the_collector()
    with asyncio.Runner(loop_factory=Loop) as runner:
        return runner.run(main)


def spare_the_collector() -> None:
    """Leave out what lives as long as the process, and look at the rest less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, 20, 100)
