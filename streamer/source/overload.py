"""What `doctor` does where the API server has too much to do: ask once more, after the pause that it asked for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from streamer.model import Finding, Verdict
from streamer.source.api import ApiError

T = TypeVar("T")

_TOO_MANY: Final = 429
_MOST_SECONDS: Final = 30.0
"""A longer pause is not waited for."""


class OverloadedError(Exception):
    """The API server has refused a request twice, or asks for a long pause; the text says which."""


async def patiently(ask: Callable[[], Awaitable[T]]) -> T:
    """An answer; where it is 429, that of one more try. Raises `ApiError`, `OverloadedError`.

    The pause is the budget's: it holds back all requests for as long as the server says.
    """
    try:
        return await ask()
    except ApiError as error:
        if error.status != _TOO_MANY:
            raise
        seconds = error.retry_after_seconds
        if seconds is not None and seconds > _MOST_SECONDS:
            raise OverloadedError(f"it answers 429 and asks for a pause of {seconds:.0f} s") from error
    try:
        return await ask()
    except ApiError as error:
        if error.status == _TOO_MANY:
            raise OverloadedError("it answers 429 (too many requests), also after a pause") from error
        raise


def overloaded(host: str, error: OverloadedError) -> Finding:
    """What to tell of it."""
    return Finding(
        "api",
        Verdict.UNAVAILABLE,
        f"the API server {host} is overloaded: {error}",
        "try again later; what loads it is in its metrics (apiserver_current_inflight_requests, "
        "apiserver_flowcontrol_rejected_requests_total)",
    )
