"""Whether `run` could serve at `http.port`: where it cannot, it does not start."""

from __future__ import annotations

from typing import Final

import aiohttp

from streamer.config import Settings
from streamer.model import Finding, Verdict
from streamer.telemetry.http import HttpServer, ListenError
from streamer.telemetry.status import Status

_SECONDS: Final = 3.0


async def examine_port(settings: Settings) -> Finding | None:
    """Listen there for a moment; None where that works, or where a worker of this cluster does already."""
    host, port = settings.http.host, settings.http.port
    try:
        async with HttpServer(host, port, lambda: Status(settings.cluster)).serving():
            return None
    except ListenError as error:
        if await _cluster_at(host or "127.0.0.1", port) == settings.cluster:
            return None
        return Finding("http.port", Verdict.FAULT, str(error).partition(";")[0], "set it to a free one")


async def _cluster_at(host: str, port: int) -> str | None:
    """The cluster of the worker that serves there; None where it is something else."""
    timeout = aiohttp.ClientTimeout(total=_SECONDS)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session:
            url = f"http://{f'[{host}]' if ':' in host else host}:{port}/status"
            async with session.get(url) as answer:
                found = await answer.json()
                return str(found["cluster"])
    except (TimeoutError, aiohttp.ClientError, OSError, ValueError, KeyError, TypeError):
        return None
