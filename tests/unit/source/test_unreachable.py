"""An API server that cannot be reached is told in plain words, with what to do."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from aiohttp import web

from streamer.source.api import ApiError, connect
from tests.testbed.certs import Authority


def kubeconfig(path: Path, server: str, **cluster: str) -> Path:
    clusters = [{"name": "c", "cluster": {"server": server, **cluster}}]
    contexts = [{"name": "c", "context": {"cluster": "c", "user": "c"}}]
    users = [{"name": "c", "user": {"token": "t"}}]
    path.write_text(
        yaml.safe_dump({"clusters": clusters, "contexts": contexts, "users": users, "current-context": "c"})
    )
    return path


async def told(path: Path) -> tuple[str, str]:
    async with connect(path, None) as api:
        with pytest.raises(ApiError) as caught:
            await api.get("/api/v1/pods")
    beginning, _, cause = caught.value.message.partition(": ")
    assert (caught.value.status, beginning) == (0, "cannot reach the API server")
    return cause, caught.value.fix


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy would look up the name that is not known."""
    for variable in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def deaf() -> Iterator[int]:
    """A port where nobody listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield int(held.getsockname()[1])


async def test_nobody_listens(deaf: int, tmp_path: Path) -> None:
    cause, fix = await told(kubeconfig(tmp_path / "k", f"https://127.0.0.1:{deaf}"))
    assert cause == "connection refused"
    assert (
        fix
        == "does it run? Else check the cluster's `server` in the kubeconfig, network policies and the firewall"
    )


async def test_a_name_that_is_not_known(tmp_path: Path) -> None:
    cause, fix = await told(kubeconfig(tmp_path / "k", "https://no.such.host.invalid:6443"))
    assert cause == "the name no.such.host.invalid is not known"
    assert fix.endswith("and the DNS")


async def test_no_tls_where_tls_is_wanted(tmp_path: Path) -> None:
    runner = web.AppRunner(web.Application())
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        cause, fix = await told(kubeconfig(tmp_path / "k", f"https://127.0.0.1:{runner.addresses[0][1]}"))
    finally:
        await runner.cleanup()
    assert cause.startswith("TLS failed: ")
    assert "_ssl.c" not in cause
    assert fix.endswith("is it an address for HTTPS?")


async def test_a_certificate_of_another_authority(tmp_path: Path) -> None:
    ours, theirs = Authority(tmp_path / "ours"), Authority(tmp_path / "theirs")
    pair = theirs.server("server")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pair.public, pair.key)
    runner = web.AppRunner(web.Application())
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        server = f"https://127.0.0.1:{runner.addresses[0][1]}"
        path = kubeconfig(tmp_path / "k", server, **{"certificate-authority": str(ours.certificate)})
        cause, fix = await told(path)
    finally:
        await runner.cleanup()
    assert cause.startswith("its certificate is not trusted: ")
    assert "<" not in cause
    assert fix.startswith("the kubeconfig's certificate-authority must be the one that signed it")
