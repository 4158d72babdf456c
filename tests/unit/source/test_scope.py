"""How often a scope asks while it is refused or fails, in virtual time."""

from __future__ import annotations

import asyncio
import math
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
    """A watch without a change; it ends by itself after `seconds`."""

    def __init__(self, seconds: float = math.inf) -> None:
        self._seconds = seconds

    async def iter_any(self) -> AsyncIterator[bytes]:
        if self._seconds == math.inf:
            await asyncio.Event().wait()
        await asyncio.sleep(self._seconds)
        events: list[bytes] = []
        for event in events:
            yield event


class Api(KubernetesApi):
    """Lists no pod and shows no change; `failing` has what a selector's requests end with."""

    def __init__(self) -> None:
        self.failing: dict[str, Exception] = {}
        self.asked: Counter[str] = Counter()
        self.opening_seconds = 0.01
        """How long an answer takes to begin."""
        self.watch_seconds = math.inf

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
        yield cast(aiohttp.StreamReader, _Silence(self.watch_seconds))

    async def _answer(self, params: Mapping[str, str]) -> None:
        selector = params["labelSelector"]
        self.asked[selector] += 1
        await asyncio.sleep(self.opening_seconds)
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
        assert "RuntimeError" in discovery.troubles[""]
        api.failing = {}
        await asyncio.sleep(20)
        assert discovery.troubles == {"": ""}


class Pods(Api):
    """Lists one pod of Falco's."""

    async def get(self, path: str, params: Mapping[str, str] | None = None, **_: Any) -> dict[str, Any]:
        answer = await super().get(path, params)
        metadata = {"uid": "u", "name": "falco-a", "namespace": "falco", "resourceVersion": "7"}
        pod = {
            "metadata": metadata,
            "spec": {"nodeName": "n", "containers": [{"name": "falco"}]},
            "status": {},
        }
        return answer | {"items": [pod]}


@in_virtual_time
async def test_it_is_blind_while_no_watch_is_open_although_none_has_failed() -> None:
    """An API server that takes connections and answers nothing: the last watch ended as it should."""
    api = Pods()
    api.watch_seconds = 30.0
    async with discovering(api) as discovery:
        await asyncio.sleep(20)
        assert discovery.blind_seconds == 0
        api.opening_seconds = 1_000.0
        await asyncio.sleep(60)
        assert discovery.troubles == {"": ""}
        assert 49 < discovery.blind_seconds < 51


@in_virtual_time
async def test_a_watch_that_was_half_open_was_blind_since_it_was_last_heard_of() -> None:
    api = Pods()
    async with discovering(api) as discovery:
        await asyncio.sleep(20)
        assert discovery.blind_seconds == 0
        api.failing = dict.fromkeys(NAMES, ApiError(0, "no answer"))
        await asyncio.sleep(100)  # it outlasts its timeout, and no other can be opened
        assert discovery.blind_seconds > 119


@in_virtual_time
async def test_a_watch_that_is_followed_by_another_one_at_once_is_no_blindness() -> None:
    api = Pods()
    api.watch_seconds = 5.0
    async with discovering(api) as discovery:
        for _ in range(100):
            await asyncio.sleep(1.003)
            assert discovery.blind_seconds < 0.1
