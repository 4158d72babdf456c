"""Our own log: structured, on stderr, JSON unless a person watches."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import AsyncIterator, Callable, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal

import structlog

from streamer.telemetry import facts
from streamer.telemetry.background import in_background
from streamer.telemetry.failure import without_message

REPEAT_SECONDS: Final = 10.0
MOST_ALIKE: Final = 10
"""So many of one event, with different facts, are written in `REPEAT_SECONDS`: there may be a thousand targets."""
_MOST_REMEMBERED: Final = 1000

log = structlog.get_logger()


@dataclass(slots=True)
class _Said:
    """What became of one event lately."""

    began: float
    written: int = 0
    left_out: int = 0


class RepeatFilter:
    """Writes a warning or error with the same facts once in `REPEAT_SECONDS`, and one event at most `MOST_ALIKE` times.

    What is left out is counted, and the next of its name that is written says how many. Only warnings and errors can
    flood: they tell of a state that lasts.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._written_at: dict[tuple[Any, ...], float] = {}
        self._events: dict[str, _Said] = {}

    def __call__(
        self, _logger: Any, method: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        """A structlog processor."""
        if method not in ("warning", "error"):
            return event
        facts.warned(method)
        name, now = str(event.get("event")), self._clock()
        said = self._events.setdefault(name, _Said(now))
        if now - said.began >= REPEAT_SECONDS:
            said.began, said.written = now, 0
        key = (name, event.get("target"), event.get("shard"), event.get("cause"))
        if now - self._written_at.get(key, -REPEAT_SECONDS) < REPEAT_SECONDS or said.written >= MOST_ALIKE:
            said.left_out += 1
            raise structlog.DropEvent
        if len(self._written_at) >= _MOST_REMEMBERED:
            self._written_at.clear()
        self._written_at[key] = now
        said.written += 1
        if said.left_out:
            event["repeated"], said.left_out = said.left_out, 0
        return event

    def take_left_out(self) -> dict[str, int]:
        """How many were left out of the events that have stopped since: nobody would say it otherwise."""
        now = self._clock()
        stopped = {name: said for name, said in self._events.items() if now - said.began >= REPEAT_SECONDS}
        for name in stopped:
            del self._events[name]
        return {name: said.left_out for name, said in stopped.items() if said.left_out}


_repeats = RepeatFilter()


@asynccontextmanager
async def telling_left_out() -> AsyncIterator[None]:
    """Say now and then what was left out of errors that have stopped, while the context lasts."""
    async with in_background(_tell_left_out(), "tell what was left out"):
        yield


async def _tell_left_out() -> None:
    while True:
        await asyncio.sleep(REPEAT_SECONDS)
        for event, count in _repeats.take_left_out().items():
            log.info("repeats_left_out", of=event, count=count)


def _in_reading_order(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """When, how bad and what first, then the facts: one reads JSON with one's eyes, too."""
    return {name: event.pop(name) for name in ("timestamp", "level", "event") if name in event} | dict(event)


def configure(level: str = "info", style: Literal["auto", "json", "console"] = "auto") -> None:
    """Set up structlog, and quiet the libraries' own loggers: what matters of theirs, we say.

    It may be set up again at any time: loggers are not cached, since messages are few.
    """
    console = style == "console" or (style == "auto" and sys.stderr.isatty())
    renderer: Any = structlog.dev.ConsoleRenderer() if console else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            _repeats,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            without_message,
            _in_reading_order,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    libraries = logging.DEBUG if level == "debug" else logging.CRITICAL
    for name in ("aiokafka", "kubernetes", "aiohttp", "asyncio"):
        logging.getLogger(name).setLevel(libraries)
