"""`tls-server-name`: a server whose certificate is for another name than its address, as Teleport's and AKS' are."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml
from aiohttp import web

from streamer.source.api import ApiError, connect
from tests.testbed.certs import Authority

NAME = "kube-teleport-proxy-alpn.teleport.example.test"


@pytest.fixture
async def address(tmp_path: Path) -> AsyncIterator[str]:
    """The address of a server with a certificate for NAME, which it shows to clients that ask for NAME only."""
    authority = Authority(tmp_path)
    contexts = {}
    for name in (NAME, "other.example.test"):
        pair = authority.server(name, names=[name])
        contexts[name] = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        contexts[name].load_cert_chain(pair.public, pair.key)

    def choose(tls: ssl.SSLObject, asked: str | None, _: ssl.SSLContext) -> None:
        if asked == NAME:
            tls.context = contexts[NAME]

    contexts["other.example.test"].sni_callback = choose
    app = web.Application()

    async def handler(_: web.Request) -> web.Response:
        return web.json_response({"items": []})

    app.router.add_get("/{path:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=contexts["other.example.test"]).start()
    yield f"https://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


def kubeconfig(tmp_path: Path, server: str, **more: str) -> Path:
    cluster = {"server": server, "certificate-authority": "ca.crt", **more}
    content = {
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "c",
    }
    path = tmp_path / "config"
    path.write_text(yaml.safe_dump(content))
    return path


async def test_the_server_is_asked_for_the_name_and_held_to_it(address: str, tmp_path: Path) -> None:
    async with connect(kubeconfig(tmp_path, address, **{"tls-server-name": NAME}), None) as api:
        assert await api.get("/api/v1/pods") == {"items": []}


@pytest.mark.parametrize("more", [{}, {"tls-server-name": "wrong.example.test"}])
async def test_another_name_is_refused_with_the_key_that_sets_it(
    address: str, tmp_path: Path, more: dict[str, str]
) -> None:
    async with connect(kubeconfig(tmp_path, address, **more), None) as api:
        with pytest.raises(ApiError, match=r"not trusted: .* is not valid for") as caught:
            await api.get("/api/v1/pods")
    assert "tls-server-name" in caught.value.fix


async def test_a_user_is_not_needed_and_empty_keys_are_no_files(address: str, tmp_path: Path) -> None:
    path = kubeconfig(tmp_path, address, **{"tls-server-name": NAME})
    content = yaml.safe_load(path.read_text())
    content["users"] = []
    path.write_text(yaml.safe_dump(content))
    async with connect(path, None) as api:
        assert await api.get("/api/v1/pods") == {"items": []}
    content["users"] = [{"name": "u", "user": {"client-certificate": "", "client-key": ""}}]
    path.write_text(yaml.safe_dump(content))
    async with connect(path, None) as api:
        assert await api.get("/api/v1/pods") == {"items": []}
