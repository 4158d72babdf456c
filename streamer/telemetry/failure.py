"""What our log says of an exception that nobody expected: its class and its places, and not its message.

A message may quote what the code was working on: an alert, a secret. It is logged at `debug` only.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, MutableMapping
from traceback import extract_tb
from types import TracebackType
from typing import Any, Final

import structlog

from streamer.transform.plan import CoreFailedError, LineFailedError

_MOST_FRAMES: Final = 30
_MOST_CAUSES: Final = 8

log = structlog.get_logger()


def log_failure(event: str, error: BaseException, **facts: object) -> None:
    """Write an error to our log without its message, which follows at `debug`."""
    structlog.get_logger().error(event, **facts, **described(error))
    log.debug("failure_cause", of=event, cause=" <- ".join(map(repr, _chain(error))))


def log_part(part: CoreFailedError, **facts: object) -> None:
    """Write that the core has failed at a part of a publication, which is made without it."""
    cause = part.__cause__ or part
    if isinstance(part, LineFailedError):
        log_failure("line_failed", cause, target=part.target, part=part.what, **facts)
    else:
        log_failure("part_failed", cause, target=part.target, part=part.what, **facts)


def described(error: BaseException) -> dict[str, Any]:
    """The class of an exception, the places in the code that it has passed, and the same of what had caused it."""
    chain = _chain(error)
    found: dict[str, Any] = {"error": class_of(error), "frames": _frames(error.__traceback__)}
    if len(chain) > 1:
        found["causes"] = [[class_of(cause), *_frames(cause.__traceback__)] for cause in chain[1:]]
    return found


def as_text(error: BaseException) -> str:
    """The same, for people."""
    parts = ["\n  ".join([class_of(cause), *_frames(cause.__traceback__)]) for cause in _chain(error)]
    return "\ncaused by ".join(parts)


def class_of(error: BaseException) -> str:
    """The class of an exception; of our own and of libraries with the module."""
    kind = type(error)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"


def without_message(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: what `log.exception` writes."""
    given = event.pop("exc_info", None)
    error = given if isinstance(given, BaseException) else sys.exc_info()[1] if given else None
    if error is not None:
        event.update(described(error))
    return event


def _chain(error: BaseException) -> list[BaseException]:
    """An exception and what had caused it, that of a group's first as well."""
    return list(_causes(error))[:_MOST_CAUSES]


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen = set[int]()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        if isinstance(cause, BaseExceptionGroup):
            cause = cause.exceptions[0]
        else:
            cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)


def _frames(trace: TracebackType | None) -> list[str]:
    return [f"{frame.filename}:{frame.lineno} in {frame.name}" for frame in extract_tb(trace)[-_MOST_FRAMES:]]
