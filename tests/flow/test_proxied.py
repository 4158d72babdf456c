"""Watches and log streams through proxies, on the worker's own loop: as without one, and held back as without one."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from streamer.flow.loop import READ_BYTES, Loop
from streamer.simulator import Cluster, SimulatedApiServer
from streamer.source.api import ApiError, LogQuery, connect
from tests.flow.following import Recorder, eventually, following, numbered
from tests.testbed.certs import Authority
from tests.testbed.forward_proxy import HttpProxy, SocksProxy
from tests.testbed.tls_front import TlsFront

NAME = "api.cluster.test"
SERVER = f"https://{NAME}:6443"
LOGIN = ("us er", "p@ss/word")
LOGIN_IN_URL = "us%20er:p%40ss%2Fword"
VARIABLES = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy")


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)


def played(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(asyncio.wait_for(work(), 60))


@dataclass
class Place:
    """A cluster behind TLS, whose name only the proxy knows."""

    cluster: Cluster
    proxy: HttpProxy | SocksProxy
    address: str
    """The proxy's."""
    authority: Authority
    port: int
    """The cluster's, on loopback."""
    in_kubeconfig: bool = True
    server: str = SERVER
    tls_name: str = ""

    def kubeconfig(self, path: Path) -> Path:
        cluster = {
            "tls-server-name": self.tls_name,
            "server": self.server,
            "certificate-authority": str(self.authority.certificate),
        }
        if self.in_kubeconfig:
            cluster["proxy-url"] = self.address
        config = {
            "clusters": [{"name": "c", "cluster": cluster}],
            "users": [{"name": "u", "user": {"token": "t"}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "c",
        }
        path.write_text(json.dumps(config))
        return path


@asynccontextmanager
async def behind(kind: str, folder: Path, *, in_url: str = LOGIN_IN_URL) -> AsyncIterator[Place]:
    authority = Authority(folder / "certs")
    cluster = Cluster(seed=1)
    async with AsyncExitStack() as stack:
        simulated = await stack.enter_async_context(SimulatedApiServer(cluster))
        front = await stack.enter_async_context(TlsFront(simulated.port, authority, [NAME]))
        names = {NAME: simulated.port if kind == "plain" else front.port}
        login = LOGIN if kind.endswith("login") else None
        made: HttpProxy | SocksProxy
        if kind.startswith("socks"):
            made = SocksProxy(names, login=login)
        else:
            tls = None
            if kind == "https":
                pair = authority.server("proxy")
                tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                tls.load_cert_chain(pair.public, pair.key)
            made = HttpProxy(names, login=login, tls=tls)
        await stack.enter_async_context(made)
        proxy = made
        address = proxy.url_with(in_url) if login else proxy.url
        if kind == "socks5h":
            address = address.replace("socks5:", "socks5h:")
        place = Place(cluster, proxy, address, authority, port=front.port)
        if kind == "plain":
            place.server = f"http://{NAME}:80"
        yield place


KINDS = ["http", "http-login", "https", "plain", "socks5", "socks5h", "socks5-login"]


@pytest.mark.parametrize("kind", KINDS)
def test_pods_are_watched_and_logs_followed(kind: str, tmp_path: Path) -> None:
    async def work() -> None:
        recorder = Recorder()
        async with behind(kind, tmp_path) as place:
            pod = place.cluster.add_pod("falco", "falco-a")
            place.cluster.append(pod, *numbered(0, 50))
            async with following(place, recorder, tmp_path):
                await recorder.until_read("falco-a", numbered(0, 50))
                place.cluster.append(pod, *numbered(50, 100))
                await recorder.until_read("falco-a", numbered(0, 100))
                place.cluster.append(place.cluster.add_pod("falco", "falco-b"), b"one")  # by the watch
                await recorder.until_read("falco-b", [b"one"])
            assert set(place.proxy.asked) == {place.server.partition("//")[2]}
        assert recorder.gaps == []

    played(work)


@pytest.mark.parametrize("kind", ["http", "https", "socks5"])
def test_a_tls_name_is_asked_for_behind_a_proxy_too(kind: str, tmp_path: Path) -> None:
    async def work() -> None:
        async with behind(kind, tmp_path) as place:
            place.server = f"https://127.0.0.1:{place.port}"
            for name, trusted in ((NAME, True), ("", False)):
                place.tls_name = name
                async with connect(place.kubeconfig(tmp_path / "k"), None) as api:
                    if trusted:
                        assert (await api.get("/api/v1/pods"))["items"] == []
                    else:
                        with pytest.raises(
                            ApiError, match="its certificate is not trusted: IP address mismatch"
                        ):
                            await api.get("/api/v1/pods")

    played(work)


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_that_nobody_reads_is_held_back_and_a_dead_peer_found(kind: str, tmp_path: Path) -> None:
    """uvloop's own TLS, which a tunnel would get otherwise, holds 256 KiB of each stream."""

    async def work() -> None:
        async with behind(kind, tmp_path) as place:
            pod = place.cluster.add_pod("falco", "falco-a")
            place.cluster.append(pod, *[b"x" * 1000] * 4000)
            async with connect(place.kubeconfig(tmp_path / "k"), None) as api:
                answer: Any = await api.log("falco", "falco-a", "falco", LogQuery(follow=True), node="node-1")
                transport = answer._response.connection.transport
                await eventually(lambda: not transport.is_reading())
                if kind != "plain":
                    tls = transport._ssl_protocol
                    await eventually(lambda: tls._ssl_reading_paused)
                    assert tls._incoming.pending <= 2 * READ_BYTES
                    assert answer.content._size <= 4 * READ_BYTES
                opened = transport.get_extra_info("socket")
                assert opened.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 60_000
                assert opened.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
                answer.release()

    played(work)


@pytest.mark.parametrize("kind", ["http", "socks5"])
def test_the_environment_names_a_proxy_where_the_kubeconfig_names_none(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> None:
        async with behind(kind, tmp_path) as place:
            place.in_kubeconfig = False
            monkeypatch.setenv("HTTPS_PROXY", place.address)
            async with connect(place.kubeconfig(tmp_path / "k"), None) as api:
                assert (await api.get("/api/v1/pods"))["items"] == []
            assert place.proxy.asked == [f"{NAME}:6443"]
            monkeypatch.setenv("NO_PROXY", ".other.test,cluster.test")
            async with connect(place.kubeconfig(tmp_path / "k"), None) as api:
                with pytest.raises(ApiError, match=f"the name {NAME} is not known"):
                    await api.get("/api/v1/pods")
            place.in_kubeconfig = True  # as with kubectl, NO_PROXY is only about the environment's
            async with connect(place.kubeconfig(tmp_path / "k"), None) as api:
                assert (await api.get("/api/v1/pods"))["items"] == []

    played(work)


@pytest.mark.parametrize(
    ("kind", "login", "told"),
    [
        ("http-login", "us:no", "the proxy http://127.0.0.1:PORT wants a user and a password (407)"),
        ("socks5-login", "us:no", "the proxy socks5://127.0.0.1:PORT: it does not accept user and password"),
        ("http", "", "the proxy http://127.0.0.1:PORT answers 403 (Forbidden)"),
        ("socks5", "", "the proxy socks5://127.0.0.1:PORT: its rules forbid this connection"),
    ],
)
def test_a_proxy_that_refuses_is_named(kind: str, login: str, told: str, tmp_path: Path) -> None:
    async def work() -> None:
        async with behind(kind, tmp_path, in_url=login) as place:
            place.proxy.forbids = True
            async with connect(place.kubeconfig(tmp_path / "k"), None) as api:
                with pytest.raises(ApiError) as caught:
                    await api.get("/api/v1/pods")
            expected = told.replace("PORT", str(place.proxy.port))
            assert caught.value.message == f"cannot reach the API server: {expected}"
            assert caught.value.fix == "proxy-url in the kubeconfig names this proxy: is it right?"

    played(work)


def test_proxies_that_are_not_there_or_are_not_what_they_are_called(tmp_path: Path) -> None:
    async def work() -> None:
        async with behind("http", tmp_path) as place:
            port = place.proxy.port
            for address, told in (
                ("http://127.0.0.1:1", "the proxy http://127.0.0.1:1: connection refused"),
                ("socks5://127.0.0.1:1", "the proxy socks5://127.0.0.1:1: connection refused"),
                ("http://no.such.host.invalid:1", "the name of the proxy http://no.such.host.invalid:1 is not known"),
                ("socks5://no.such.host.invalid", "the name of the proxy socks5://no.such.host.invalid is not known"),
            ):  # fmt: skip
                place.address = address
                async with connect(place.kubeconfig(tmp_path / "k"), None) as api:
                    with pytest.raises(ApiError) as caught:
                        await api.get("/api/v1/pods")
                assert caught.value.message == f"cannot reach the API server: {told}"
            assert port == place.proxy.port

    played(work)
