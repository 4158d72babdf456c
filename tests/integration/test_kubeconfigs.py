"""Kubeconfigs as people have them, on a real API server: what kubectl reaches by one, we reach by it."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from streamer.source.api import connect
from tests.testbed import parts
from tests.testbed.apiserver import KubeApiServer
from tests.testbed.certs import Authority
from tests.testbed.fixtures import parts_or_skip
from tests.testbed.forward_proxy import HttpProxy, SocksProxy
from tests.testbed.kubectl import Kubectl, kubectl_of

pytestmark = pytest.mark.real

NAME = "kube.teleport.example.test"
VERSION = "client.authentication.k8s.io/v1"
PODS = "/api/v1/namespaces/default/pods"


@pytest.fixture(scope="module")
def server() -> Iterator[KubeApiServer]:
    with parts_or_skip(), KubeApiServer() as started:
        yield started


@pytest.fixture(scope="module")
def token(server: KubeApiServer, tmp_path_factory: pytest.TempPathFactory) -> str:
    """That of an account that may list pods, and act as `watcher`."""
    admin: Kubectl = kubectl_of(server, tmp_path_factory.mktemp("home"))
    admin("create", "serviceaccount", "reader", "-n", "default")
    for name, flags in (
        ("pods", ["--verb=list", "--resource=pods"]),
        ("act-as", ["--verb=impersonate", "--resource=users,groups"]),
    ):
        assert admin("create", "clusterrole", name, *flags).returncode == 0
        bound = [f"--clusterrole={name}", "--serviceaccount=default:reader", "--user=watcher"]
        assert admin("create", "clusterrolebinding", name, *bound).returncode == 0
    return admin("create", "token", "reader", "-n", "default").stdout.strip()


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "NO_PROXY", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


class Place:
    """A server, its address and proxies, and a kubeconfig in a folder of its own."""

    def __init__(self, server: KubeApiServer, token: str, folder: Path) -> None:
        self.server = server
        self.folder = folder
        self.token = token
        self.cluster: dict[str, Any] = {"server": server.url, "certificate-authority": "ca.crt"}
        self.user: dict[str, Any] = {"token": token}
        self.environment: dict[str, str] = {}
        (folder / "ca.crt").write_bytes(server.authority.certificate.read_bytes())

    def write(self) -> Path:
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": self.cluster}],
            "users": [{"name": "u", "user": self.user}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "c",
        }
        path = self.folder / "config"
        path.write_text(yaml.safe_dump(config))
        return path

    def plugin(self, **section: Any) -> Path:
        """An exec plug-in that leaves what it was given; beside the folder of the kubeconfig."""
        credential = {"apiVersion": VERSION, "kind": "ExecCredential", "status": {"token": self.token}}
        path = self.folder.parent / "bin" / "plugin"
        path.parent.mkdir(exist_ok=True)
        path.write_text(
            f"#!/bin/sh\necho \"$KUBERNETES_EXEC_INFO\" >> {path}.info\necho '{json.dumps(credential)}'\n"
        )
        path.chmod(0o755)
        self.user = {
            "exec": {"apiVersion": VERSION, "command": "../bin/plugin", "interactiveMode": "Never", **section}
        }
        return path


@pytest.fixture
def place(server: KubeApiServer, token: str, tmp_path: Path) -> Place:
    (tmp_path / "kube").mkdir()
    return Place(server, token, tmp_path / "kube")


@pytest.fixture
async def proxies(server: KubeApiServer) -> AsyncIterator[dict[str, str]]:
    """Addresses of proxies that know NAME."""
    names = {NAME: server.port}
    async with AsyncExitStack() as stack:
        plain = await stack.enter_async_context(HttpProxy(names))
        closed = await stack.enter_async_context(HttpProxy(names, login=("u", "p")))
        socks = await stack.enter_async_context(SocksProxy(names))
        locked = await stack.enter_async_context(SocksProxy(names, login=("u", "p")))
        yield {
            "http": plain.url,
            "http-login": closed.url_with("u:p"),
            "http-refused": closed.url_with("u:wrong"),
            "socks5": socks.url,
            "socks5-login": locked.url_with("u:p"),
            "socks5-refused": locked.url_with("u:wrong"),
        }


async def kubectl_reaches(place: Place, path: Path) -> bool:
    """Whether the real kubectl lists pods by it."""
    process = await asyncio.create_subprocess_exec(
        str(parts.kubectl()), f"--kubeconfig={path}", "get", "--raw", PODS, "--request-timeout=10s",
        env={"PATH": os.environ["PATH"], "HOME": str(place.folder), **place.environment},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    return await process.wait() == 0


async def we_reach(path: Path) -> bool:
    try:
        async with connect(path, None) as api:
            await api.get(PODS)
    except Exception:  # of whatever kind: kubectl's word is compared
        return False
    return True


@pytest.mark.parametrize(
    ("proxy", "in_environment", "no_proxy", "tls_name", "reached"),
    [
        ("", False, "", "", True),
        ("", False, "", "kubernetes.default", True),
        ("", False, "", "wrong.example.test", False),
        ("http", False, "", "kubernetes", True),
        ("http", False, "", "", False),
        ("http", False, "*", "kubernetes", True),
        ("http", True, "", "kubernetes", True),
        ("http", True, "teleport.example.test", "kubernetes", False),
        ("http", True, "10.0.0.0/8,.teleport.example.com", "kubernetes", True),
        ("http-login", False, "", "kubernetes", True),
        ("http-refused", False, "", "kubernetes", False),
        ("socks5", False, "", "kubernetes", True),
        ("socks5", False, "", "", False),
        ("socks5", True, "", "kubernetes", True),
        ("socks5-login", True, "", "kubernetes", True),
        ("socks5-refused", False, "", "kubernetes", False),
    ],
)
async def test_the_same_is_reached(
    place: Place,
    proxies: dict[str, str],
    proxy: str,
    in_environment: bool,
    no_proxy: str,
    tls_name: str,
    reached: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place.cluster["tls-server-name"] = tls_name
    if proxy:
        place.cluster["server"] = f"https://{NAME}:6443"
        if in_environment:
            place.environment["HTTPS_PROXY"] = proxies[proxy]
        else:
            place.cluster["proxy-url"] = proxies[proxy]
    place.environment["NO_PROXY"] = no_proxy
    for name, value in place.environment.items():
        monkeypatch.setenv(name, value)
    path = place.write()
    assert await kubectl_reaches(place, path) is reached
    assert await we_reach(path) is reached


def infos(plugin: Path) -> list[Any]:
    return [json.loads(line) for line in Path(f"{plugin}.info").read_text().splitlines() if line]


async def test_a_plugin_is_given_what_kubectl_gives_it(place: Place) -> None:
    plugin = place.plugin(provideClusterInfo=True)
    extension = {"name": "client.authentication.k8s.io/exec", "extension": {"audience": "x", "size": 1}}
    data = base64.b64encode((place.folder / "ca.crt").read_bytes()).decode()
    for authority in ({"certificate-authority": "ca.crt"}, {"certificate-authority-data": data}):
        place.cluster = {
            "server": place.server.url,
            "tls-server-name": "kubernetes",
            "extensions": [extension],
            **authority,
        }
        path = place.write()
        assert await kubectl_reaches(place, path)
        assert await we_reach(path)
    given = infos(plugin)
    assert len(given) == 4
    assert given[0] == given[1]
    assert given[2] == given[3]


@pytest.mark.parametrize(
    ("user", "reached"),
    [
        (
            {
                "token": "TOKEN",
                "exec": {"apiVersion": VERSION, "command": "/nowhere", "interactiveMode": "Never"},
            },
            True,
        ),
        ({"tokenFile": "token"}, True),
        ({"exec": {"apiVersion": VERSION, "command": "/nowhere", "interactiveMode": "Never"}}, False),
        ({"token": "TOKEN", "as": "watcher", "as-groups": ["one", "two"]}, True),
        ({"token": "TOKEN", "as": "nobody"}, False),
        ({}, False),
    ],
)
async def test_credentials_have_the_same_order(
    place: Place, token: str, user: dict[str, Any], reached: bool
) -> None:
    (place.folder / "token").write_text(f"{token}\n")
    place.user = {key: token if value == "TOKEN" else value for key, value in user.items()}
    path = place.write()
    assert await kubectl_reaches(place, path) is reached
    assert await we_reach(path) is reached


async def test_another_authority_is_refused(place: Place, tmp_path: Path) -> None:
    (place.folder / "ca.crt").write_bytes(Authority(tmp_path / "other").certificate.read_bytes())
    path = place.write()
    assert not await kubectl_reaches(place, path)
    assert not await we_reach(path)
