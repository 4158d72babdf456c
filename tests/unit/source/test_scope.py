"""How often a scope asks while it is refused or fails, in virtual time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

import aiohttp

from streamer.source.api import ApiError, KubernetesApi
from streamer.source.discovery import Discovery
from tests.unit.flow.virtual_time import in_virtual_time

HOUR = 3600.0
NAMES = ("app=falco", "app.kubernetes.io/name=falco")


class _Silence:
    async def iter_any(self) -> AsyncIterator[bytes]:
        await asyncio.Event().wait()
        yield b""


class Api(KubernetesApi):
    """Lists no pod and shows no change; `failing` has what a selector's requests end with."""

    def __init__(self) -> None:
        self.failing: dict[str, Exception] = {}
        self.asked: Counter[str] = Counter()

    async def renew_token(self) -> None:
        return

    async def get(self, path: str, params: Mapping[str, str] | None = None, **_: Any) -> dict[str, Any]:
        assert path == "/api/v1/pods"
        assert params is not None
        await self._answer(params)
        return {"metadata": {"resourceVersion": "7"}, "items": []}

    @asynccontextmanager
    async def lines(
        self, path: str, params: Mapping[str, str], **_: Any
    ) -> AsyncIterator[aiohttp.StreamReader]:
        assert path == "/api/v1/pods"
        await self._answer(params)
        yield cast(aiohttp.StreamReader, _Silence())

    async def _answer(self, params: Mapping[str, str]) -> None:
        selector = params["labelSelector"]
        self.asked[selector] += 1
        await asyncio.sleep(0.01)
        if (error := self.failing.get(selector)) is not None:
            raise error


@asynccontextmanager
async def discovering(api: Api) -> AsyncIterator[Discovery]:
    discovery = Discovery(api, NAMES, (), "falco")
    running = asyncio.create_task(discovery.run())
    try:
        yield discovery
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


@in_virtual_time
async def test_what_is_forbidden_is_asked_for_once_in_a_minute_or_two() -> None:
    api = Api()
    api.failing = dict.fromkeys(NAMES, ApiError(403, "forbidden"))
    async with discovering(api) as discovery:
        await asyncio.sleep(HOUR)
        assert 30 < api.asked[NAMES[0]] < 100
        assert not discovery.settled
        assert discovery.blind_seconds > HOUR - 1


@in_virtual_time
async def test_a_scope_that_works_again_wakes_those_that_wait() -> None:
    """One waits for minutes, since it was refused; it need not, once another one is answered."""
    api = Api()
    async with discovering(api) as discovery:
        await asyncio.sleep(200)
        api.failing = {NAMES[0]: ApiError(500, "away"), NAMES[1]: ApiError(403, "forbidden")}
        await asyncio.sleep(HOUR)
        recovered: list[float] = []
        discovery.on_recovery = lambda _: recovered.append(asyncio.get_running_loop().time())
        api.failing = {}
        await asyncio.sleep(120)
        assert len(recovered) == 2
        assert recovered[1] - recovered[0] < 0.1
        assert discovery.blind_seconds > HOUR  # there is no pod


@in_virtual_time
async def test_a_pause_that_the_server_asks_for_is_kept() -> None:
    api = Api()
    api.failing = {NAMES[0]: ApiError(429, "too many", retry_after_seconds=300.0)}
    async with discovering(api):
        await asyncio.sleep(299)
        assert api.asked[NAMES[0]] == 1


@in_virtual_time
async def test_an_internal_error_costs_a_scope_a_pause() -> None:
    api = Api()
    api.failing = {NAMES[0]: RuntimeError("an internal error")}
    async with discovering(api) as discovery:
        await asyncio.sleep(4)
        assert 3 < api.asked[NAMES[0]] < 20
        assert discovery.settled
        assert "an internal error" in discovery.troubles[""]
        api.failing = {}
        await asyncio.sleep(20)
        assert discovery.troubles == {"": ""}
