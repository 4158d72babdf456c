"""How often a pod is requested while its status is older than its log, in virtual time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from streamer.model import Target
from streamer.source.api import ApiError, KubernetesApi
from streamer.source.patience import PATIENCE
from streamer.source.pod_status import PodStatusCache
from streamer.source.pods import PodView
from tests.unit.flow.virtual_time import in_virtual_time

TARGET = Target("falco", "falco-a", "uid", "falco", "node-1")
VIEW = PodView(TARGET, None, running=True, deleting=False, finished=False)


class Api(KubernetesApi):
    """Refuses every request for a pod."""

    def __init__(self, retry_after_seconds: float | None) -> None:
        self.retry_after_seconds = retry_after_seconds
        self.asked_at: list[float] = []

    async def pod(self, *_: object, **__: object) -> dict[str, Any]:
        self.asked_at.append(asyncio.get_running_loop().time())
        raise ApiError(429, "too many requests", retry_after_seconds=self.retry_after_seconds)


@pytest.mark.parametrize(("retry_after_seconds", "most"), [(None, 11), (2.0, 3), (60.0, 1)])
def test_a_pause_that_the_server_asks_for_is_kept_while_a_status_is_awaited(
    retry_after_seconds: float | None, most: int
) -> None:
    @in_virtual_time
    async def test() -> None:
        api = Api(retry_after_seconds)
        status = PodStatusCache(api, VIEW, PATIENCE)
        begun_at = asyncio.get_running_loop().time()
        assert not await status.ask_until(lambda _: False)
        assert 1 <= len(api.asked_at) <= most
        assert asyncio.get_running_loop().time() - begun_at <= PATIENCE.status_seconds + 0.1

    test()
