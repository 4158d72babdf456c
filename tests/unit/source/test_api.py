"""Requests as they reach a server, what is made of its answers, and that no slot is kept by any of them."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from aiohttp import web
from multidict import CIMultiDictProxy

from streamer.source.api import ApiConfigError, ApiError, KubernetesApi, LogQuery, connect
from streamer.source.budget import Budget, Lane
from streamer.source.credentials import Credentials, CredentialsError

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
POD = {"metadata": {"uid": "u", "name": "p", "namespace": "n"}, "spec": {"containers": [{"name": "falco"}]}}


def kubeconfig(path: Path, server: str, **user: Any) -> Path:
    clusters = [{"name": "c", "cluster": {"server": server}}]
    contexts = [{"name": "c", "context": {"cluster": "c", "user": "u"}}]
    users = [{"name": "u", "user": user or {"token": "t"}}]
    path.write_text(
        yaml.safe_dump({"clusters": clusters, "contexts": contexts, "users": users, "current-context": "c"})
    )
    return path


@asynccontextmanager
async def serving(handler: Handler, tmp_path: Path, budget: Budget) -> AsyncIterator[KubernetesApi]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        async with connect(
            kubeconfig(tmp_path / "kubeconfig", f"http://{host}:{port}"), None, budget=budget
        ) as api:
            yield api
    finally:
        await runner.cleanup()


def nothing_left(budget: Budget) -> bool:
    return not any(budget.busy(lane).total() for lane in Lane)


@pytest.mark.parametrize(
    "answer",
    [{}, {"kind": "PodList", "items": []}, {"metadata": {}}, {"metadata": {"uid": 1, "name": "p", "namespace": "n"}},
     POD | {"spec": "x"}, POD | {"status": [1]}, POD | {"spec": {"containers": [1]}}],
)  # fmt: skip
async def test_an_answer_that_is_no_pod_is_an_error(answer: dict[str, Any], tmp_path: Path) -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.json_response(answer)

    budget = Budget()
    async with serving(handler, tmp_path, budget) as api:
        with pytest.raises(
            ApiError, match=r"^/api/v1/namespaces/n/pods/p: the answer is not a pod$"
        ) as caught:
            await api.pod("n", "p", node="node")
        assert caught.value.status == 0
    assert nothing_left(budget)


async def test_a_pod_is_given_as_it_is(tmp_path: Path) -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.json_response(POD)

    async with serving(handler, tmp_path, Budget()) as api:
        assert await api.pod("n", "p", node="node") == POD


@pytest.mark.parametrize(
    ("text", "content_type"),
    [
        ("<p>log in</p>", "text/html"),
        ("\n<!DOCTYPE html><title>x</title>", "text/plain"),
        ("<HTML>", "application/json"),
    ],
)
async def test_an_html_page_is_reported_with_its_address(
    text: str, content_type: str, tmp_path: Path
) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        if request.path == "/login":
            return web.Response(text=text, content_type=content_type)
        raise web.HTTPFound("/login?next=here")

    async with serving(handler, tmp_path, Budget()) as api:
        for asked in (api.pod("n", "p"), api.get("/api/v1/pods")):
            with pytest.raises(ApiError) as caught:
                await asked
            assert caught.value.message == f"an HTML page (a login page?) at {api.host}/login"
            assert "proxy" in caught.value.fix


async def test_a_page_is_neither_a_watch_nor_a_log(tmp_path: Path) -> None:
    async def handler(_: web.Request) -> web.StreamResponse:
        return web.Response(text="<p>log in</p>", content_type="text/html")

    budget = Budget()
    async with serving(handler, tmp_path, budget) as api:
        for opened in (
            api.lines("/api/v1/pods", {"watch": "1"}).__aenter__(),
            api.log("n", "p", "c", LogQuery()),
        ):
            with pytest.raises(ApiError, match=r"^an HTML page \(a login page\?\) at http://"):
                await opened
    assert nothing_left(budget)


async def test_what_is_asked_of_a_log(tmp_path: Path) -> None:
    asked: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        asked.append(request.path_qs)
        return web.Response(text="x")

    async with serving(handler, tmp_path, Budget()) as api:
        since_ns = 1_790_000_000_999_999_999
        for query in (LogQuery(follow=True, tail_lines=3), LogQuery(previous=True, since_ns=since_ns)):
            (await api.log("n", "p", "c", query)).release()
    path = "/api/v1/namespaces/n/pods/p/log?container=c&timestamps=true"
    assert asked == [
        f"{path}&follow=true&tailLines=3",
        f"{path}&previous=true&sinceTime=2026-09-21T14:13:20Z",
    ]


async def endless(request: web.Request) -> web.StreamResponse:
    """A log that always brings something."""
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b"line\n")
        await asyncio.sleep(0.01)


async def test_a_log_holds_its_slot_until_it_is_settled_or_released(tmp_path: Path) -> None:
    budget = Budget()
    async with serving(endless, tmp_path, budget) as api:
        one = await api.log("n", "p", "c", LogQuery(follow=True), node="node")
        two = await api.log("n", "p", "c", LogQuery(), node="node", lane=Lane.PROBE)
        assert (budget.busy(Lane.OPEN).total(), budget.busy(Lane.PROBE).total()) == (1, 1)
        one.settle()
        one.settle()
        assert nothing_left(budget) is False
        two.release()
        two.release()
        assert nothing_left(budget)
        assert await one.content.readany()  # it is open still
        one.release()
    assert nothing_left(budget)


async def test_an_open_log_keeps_no_headers(tmp_path: Path) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"audit-id": "of-this-answer"})
        await response.prepare(request)
        while True:
            await response.write(b"line\n")
            await asyncio.sleep(0.01)

    async with serving(handler, tmp_path, Budget()) as api:
        answer = await api.log("n", "p", "c", LogQuery(follow=True))
        assert await answer.content.readany()
        gc.collect()
        received = [one for one in gc.get_objects() if isinstance(one, CIMultiDictProxy)]
        answer.release()
    assert not [one for one in received if one.get("audit-id") == "of-this-answer"]


async def test_a_watch_holds_no_slot_while_it_lasts(tmp_path: Path) -> None:
    budget = Budget()
    async with serving(endless, tmp_path, budget) as api, api.lines("/api/v1/pods", {}) as body:
        assert await body.readany()
        assert nothing_left(budget)


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 503])
async def test_a_refusal_holds_no_slot(status: int, tmp_path: Path) -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.json_response({"message": "no"}, status=status)

    budget = Budget()
    async with serving(handler, tmp_path, budget) as api:
        with pytest.raises(ApiError) as caught:
            await api.log("n", "p", "c", LogQuery(), node="node")
        assert (caught.value.status, caught.value.message) == (status, "no")
        assert nothing_left(budget)


async def test_a_cancelled_request_holds_no_slot(tmp_path: Path) -> None:
    arrived = asyncio.Event()

    async def handler(_: web.Request) -> web.Response:
        arrived.set()
        await asyncio.sleep(60)
        raise AssertionError

    budget = Budget()
    async with serving(handler, tmp_path, budget) as api:
        asking = asyncio.create_task(api.log("n", "p", "c", LogQuery(), node="node"))
        await arrived.wait()
        assert budget.busy(Lane.OPEN).total() == 1
        asking.cancel()
        await asyncio.wait([asking])
        assert nothing_left(budget)


async def test_a_server_that_is_away_holds_no_slot(tmp_path: Path) -> None:
    budget = Budget()
    path = kubeconfig(tmp_path / "kubeconfig", "http://127.0.0.1:1")
    async with connect(path, None, budget=budget) as api:
        with pytest.raises(ApiError, match="connection refused"):
            await api.pod("n", "p")
    assert nothing_left(budget)


@pytest.mark.parametrize("host", ["a" * 64, f"b.{'a' * 64}.example", "a..b"])
async def test_a_name_that_no_host_can_have_is_an_error_of_the_configuration(
    host: str, tmp_path: Path
) -> None:
    with pytest.raises(ApiConfigError, match=f"`{host}` is not a host's name"):
        async with connect(kubeconfig(tmp_path / "kubeconfig", f"https://{host}:6443"), None):
            raise AssertionError


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (aiohttp.ConnectionTimeoutError("x"), r"^no connection to http://127\.0\.0\.1:1 within 10 s$"),
        (TimeoutError(), r"^no answer from http://127\.0\.0\.1:1 within 30 s$"),
        (
            TimeoutError(errno.ETIMEDOUT, "x"),
            r"^no answer from http://127\.0\.0\.1:1: the connection timed out$",
        ),
    ],
)
async def test_a_timeout_is_told_by_what_has_timed_out(
    error: Exception, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def times_out(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(aiohttp.ClientSession, "_request", times_out)
    async with connect(kubeconfig(tmp_path / "kubeconfig", "http://127.0.0.1:1"), None) as api:
        with pytest.raises(ApiError, match=told):
            await api.pod("n", "p")


# Exec plug-ins

CREDENTIAL = (
    '{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": "%s"}}'
)


def plugin(script: str) -> dict[str, Any]:
    version = "client.authentication.k8s.io/v1"
    return {"exec": {"apiVersion": version, "command": "sh", "args": ["-c", script]}}


async def test_a_plugin_that_hangs_is_run_once_for_all_and_killed_and_its_failure_reported(
    tmp_path: Path,
) -> None:
    (tmp_path / "answers").touch()
    hangs = f"echo $$ >> {tmp_path}/ran; test -e {tmp_path}/answers && echo '{CREDENTIAL % 't'}' || exec sleep 1000"
    path = kubeconfig(tmp_path / "kubeconfig", "http://127.0.0.1:1", **plugin(hangs))
    credentials = Credentials(path, None, plugin_seconds=0.5)
    await credentials.load()
    assert credentials.header == ""
    await credentials.fresh()
    assert credentials.header == "Bearer t"
    (tmp_path / "answers").unlink()
    credentials._renewed_at = float("-inf")  # the server has refused them after a while
    await asyncio.gather(*(credentials.refused() for _ in range(20)))
    ran = (tmp_path / "ran").read_text().split()
    assert len(ran) == 2
    with pytest.raises(ProcessLookupError):
        os.kill(int(ran[1]), 0)
    with pytest.raises(CredentialsError, match=r"its exec plug-in sh did not end within 0\.5 s"):
        await credentials.fresh()  # at once: it is not run by every caller
    (tmp_path / "answers").touch()
    credentials._renewed_at = float("-inf")
    await credentials.fresh()
    assert credentials.header == "Bearer t"
    await credentials.close()


async def test_a_plugin_that_fails_is_an_error_of_the_request_with_its_fix(tmp_path: Path) -> None:
    script = f"test -e {tmp_path}/fails && {{ echo log in first >&2; exit 3; }} || echo '{CREDENTIAL % 't'}'"
    path = kubeconfig(tmp_path / "kubeconfig", "http://127.0.0.1:1", **plugin(script))
    async with connect(path, None) as api:
        (tmp_path / "fails").touch()
        api._credentials._renewed_at = float("-inf")
        await api.renew_token()
        with pytest.raises(ApiError) as caught:
            await api.pod("n", "p")
    assert caught.value.status == 401
    assert "its exec plug-in sh failed: process returned 3: log in first" in caught.value.message
    assert "run the plug-in by hand" in caught.value.fix


async def test_a_caller_that_is_cancelled_does_not_end_the_renewal_for_the_others(tmp_path: Path) -> None:
    script = f"test -e {tmp_path}/slow && sleep 0.3; echo '{CREDENTIAL % 't'}'"
    credentials = Credentials(
        kubeconfig(tmp_path / "kubeconfig", "http://127.0.0.1:1", **plugin(script)), None
    )
    await credentials.load()
    (tmp_path / "slow").touch()
    credentials._renewed_at = float("-inf")
    one, other = (asyncio.create_task(credentials.refused()) for _ in range(2))
    await asyncio.sleep(0)
    one.cancel()
    await asyncio.wait([one])
    await other
    await credentials.fresh()
    assert credentials.header == "Bearer t"
