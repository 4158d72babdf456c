"""How the contract's tests ask: whole answers, lines one by one, events one by one; all with a deadline."""

import asyncio
from collections.abc import Mapping
from typing import Any

import aiohttp
import orjson

from tests.contract.driver import ClusterDriver

SECONDS = 20
NOON = 1_770_000_000_000_000_000
"""2026-02-02T02:40:00Z."""
SECOND = 1_000_000_000

Json = dict[str, Any]


def log_path(api: ClusterDriver, pod: str) -> str:
    return f"/api/v1/namespaces/{api.namespace}/pods/{pod}/log"


def pods_path(api: ClusterDriver) -> str:
    return f"/api/v1/namespaces/{api.namespace}/pods"


async def log(api: ClusterDriver, pod: str, **params: str) -> bytes:
    """The whole log, which has to be there."""
    async with asyncio.timeout(SECONDS), api.open(log_path(api, pod), params) as answer:
        body = await answer.read()
        assert answer.status == 200, body
        return body


async def get(api: ClusterDriver, path: str, params: Mapping[str, str] = {}) -> Json:
    """An object, which has to be there."""
    async with asyncio.timeout(SECONDS), api.open(path, params) as answer:
        assert answer.status == 200, await answer.text()
        found: Json = await answer.json()
        return found


async def refused(api: ClusterDriver, path: str, params: Mapping[str, str] = {}, **how: str) -> Json:
    """The Status object of a refusal, whose code is the answer's."""
    async with asyncio.timeout(SECONDS), api.open(path, params, **how) as answer:
        status: Json = await answer.json()
        assert status["kind"] == "Status"
        assert status["apiVersion"] == "v1"
        assert status["status"] == "Failure"
        assert status["code"] == answer.status
        return status


async def next_line(answer: aiohttp.ClientResponse) -> bytes:
    async with asyncio.timeout(SECONDS):
        return await answer.content.readline()


async def rest(answer: aiohttp.ClientResponse) -> bytes:
    async with asyncio.timeout(SECONDS):
        return await answer.content.read()


async def next_event(answer: aiohttp.ClientResponse) -> tuple[str, Json]:
    """The next event of a watch: its type and object."""
    line = await next_line(answer)
    assert line, "the watch has ended"
    event = orjson.loads(line)
    return event["type"], event["object"]
