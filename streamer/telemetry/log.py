"""Our own log: structured, on stderr, JSON unless a person watches."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, MutableMapping
from typing import Any, Literal

import structlog

REPEAT_SECONDS = 10.0


class RepeatFilter:
    """Lets an event with the same facts through once in `REPEAT_SECONDS`, with the count of those left out.

    Only warnings and errors can flood: they tell of a state that lasts.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: dict[tuple[Any, ...], tuple[float, int]] = {}

    def __call__(
        self, _logger: Any, method: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        """A structlog processor."""
        if method not in ("warning", "error"):
            return event
        key = (event.get("event"), event.get("target"), event.get("shard"), event.get("cause"))
        now = self._clock()
        last, left_out = self._seen.get(key, (-REPEAT_SECONDS, 0))
        if now - last < REPEAT_SECONDS:
            self._seen[key] = (last, left_out + 1)
            raise structlog.DropEvent
        if len(self._seen) > 1000:
            self._seen.clear()
        self._seen[key] = (now, 0)
        if left_out:
            event["repeated"] = left_out
        return event


def configure(level: str = "info", style: Literal["auto", "json", "console"] = "auto") -> None:
    """Set up structlog, and quiet the libraries' own loggers: what matters of theirs, we say."""
    console = style == "console" or (style == "auto" and sys.stderr.isatty())
    renderer: Any = structlog.dev.ConsoleRenderer() if console else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            RepeatFilter(),
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    libraries = logging.DEBUG if level == "debug" else logging.CRITICAL
    for name in ("aiokafka", "kubernetes", "aiohttp", "asyncio"):
        logging.getLogger(name).setLevel(libraries)
