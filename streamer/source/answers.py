"""What the Kubernetes API is asked for logs, and what its answers may be."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Protocol

import aiohttp
import orjson

from streamer.source.unreachable import PROXY, fix_of

_SECOND_NS: Final = 1_000_000_000
_TEXT_SECONDS: Final = 30.0


class ApiError(Exception):
    """The API server answered with an error, or not at all (`status` 0)."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "",
        retry_after_seconds: float | None = None,
        fix: str = "",
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        """The kind of what is missing: `pods`, or `pods/log` where only the kubelet does not know it yet."""
        self.retry_after_seconds = retry_after_seconds
        self.fix = fix
        """What to do about it, where it is known."""

    @property
    def is_pod_gone(self) -> bool:
        """There is no pod of this name; a kubelet that does not know it yet answers 404 for `pods/log`."""
        return (self.status, self.kind) == (404, "pods")


@dataclass(frozen=True, slots=True)
class LogQuery:
    """What to ask of a container's log; timestamps are always asked for."""

    follow: bool = False
    tail_lines: int | None = None
    previous: bool = False
    since_ns: int | None = None
    """Only lines of this time or later, in ns since the epoch; the API server cuts it to whole seconds."""

    def params(self, container: str) -> dict[str, str]:
        """As the query of the request."""
        params = {"container": container, "timestamps": "true"}
        if self.follow:
            params["follow"] = "true"
        if self.previous:
            params["previous"] = "true"
        if self.tail_lines is not None:
            params["tailLines"] = str(self.tail_lines)
        if self.since_ns is not None:
            since = datetime.fromtimestamp(self.since_ns // _SECOND_NS, UTC)
            params["sinceTime"] = f"{since:%Y-%m-%dT%H:%M:%SZ}"
        return params


class LogAnswer(Protocol):
    """The answer to a log request. It holds a slot of the budget until it is settled or released."""

    @property
    def content(self) -> aiohttp.StreamReader:
        """Its body. A clean end of it means nothing; its text may be an error (source.follower)."""
        ...

    def settle(self) -> object:
        """The stream is aligned: free its slot and leave it open. Calling it again has no effect."""
        ...

    def release(self) -> object:
        """Close it. The caller who asked for the log calls this in the end; calling it again has no effect."""
        ...


def is_pod(found: Mapping[str, Any]) -> bool:
    """Whether an object has what is read of pods."""
    match found:
        case {"metadata": {"uid": str(), "name": str(), "namespace": str()}}:
            spec, status = found.get("spec") or {}, found.get("status") or {}
            if isinstance(spec, dict) and isinstance(status, dict):
                named = (*(spec.get("containers") or ()), *(spec.get("initContainers") or ()))
                return all(isinstance(one, dict) and "name" in one for one in named)
    return False


def is_html(response: aiohttp.ClientResponse, text: bytes = b"") -> bool:
    """Whether an answer is a page for people, by its type and as far as its text is known."""
    start = text[:64].lstrip().lower()
    return response.content_type == "text/html" or start.startswith((b"<!doctype html", b"<html"))


def page_error(response: aiohttp.ClientResponse) -> ApiError:
    """What to say of a page for people. Its address may be another than the one that was asked for."""
    status = response.status if response.status >= 400 else 0
    what = "an error page of a proxy?" if status >= 500 else "a login page?"
    return ApiError(status, f"an HTML page ({what}) at {response.url.with_query(None)}", fix=PROXY)


async def error_of(response: aiohttp.ClientResponse, retry_after_seconds: float | None) -> ApiError:
    """What an answer other than 200 says; a proxy's error page is not a Status object."""
    try:
        async with asyncio.timeout(_TEXT_SECONDS):
            text = await response.content.read(4096)
    except (aiohttp.ClientError, TimeoutError):
        text = b""
    if is_html(response, text):
        page = page_error(response)
        page.retry_after_seconds = retry_after_seconds
        return page
    message, kind = text.decode(errors="replace").strip(), ""
    try:
        status = orjson.loads(text)
        message, kind = str(status["message"]), str((status.get("details") or {}).get("kind", ""))
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        pass
    return ApiError(
        response.status,
        message[:500],
        kind=kind,
        retry_after_seconds=retry_after_seconds,
        fix=fix_of(response.status, message),
    )
