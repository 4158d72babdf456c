"""Tokens from a token endpoint: kept for most of their life, renewed in time, and an endpoint's words told."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streamer.config.oauth import OAuth
from streamer.sink.tokens import EndpointTokens, TokenUnavailable
from tests.testbed.forward_proxy import HttpProxy, SocksProxy
from tests.testbed.identity_provider import IdentityProvider

LIFE_SECONDS = 100


@pytest.fixture
def provider() -> Iterator[IdentityProvider]:
    with IdentityProvider({"me": "hunter2"}, life_seconds=LIFE_SECONDS) as started:
        yield started


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def tokens(provider: IdentityProvider, clock: Clock, **oauth: Any) -> EndpointTokens:
    asked = {"token_endpoint": provider.token_endpoint, "client_id": "me", "client_secret": "hunter2"}
    return EndpointTokens(OAuth.model_validate({**asked, **oauth}), clock)


async def test_many_connections_share_a_token(provider: IdentityProvider) -> None:
    given = tokens(provider, Clock())
    assert len(set(await asyncio.gather(*(given.token() for _ in range(10))))) == 1
    assert provider.issued == 1


async def test_a_token_is_renewed_before_it_ends(provider: IdentityProvider) -> None:
    clock = Clock()
    given = tokens(provider, clock)
    await given.token()
    clock.now += 0.79 * LIFE_SECONDS
    await given.token()
    assert provider.issued == 1
    clock.now += 0.02 * LIFE_SECONDS
    await given.token()
    assert provider.issued == 2


async def test_while_the_endpoint_is_away_the_token_serves_to_its_end(provider: IdentityProvider) -> None:
    clock = Clock()
    given = tokens(provider, clock)
    first = await given.token()
    provider.clients.clear()
    clock.now += 0.99 * LIFE_SECONDS
    assert await given.token() == first
    clock.now += 0.02 * LIFE_SECONDS
    with pytest.raises(
        TokenUnavailable, match="answered 401, invalid_client: the client or its secret is wrong"
    ):
        await given.token()


async def test_a_renewed_secret_is_used_for_the_next_token(
    provider: IdentityProvider, tmp_path: Path
) -> None:
    clock, secret = Clock(), tmp_path / "secret"
    given = tokens(provider, clock, client_secret=None, client_secret_file=secret)
    for text in ("hunter2", "hunter3"):
        provider.clients["me"] = text
        secret.write_text(f"{text}\n")
        await given.token()
        clock.now += LIFE_SECONDS
    assert provider.issued == 2


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"scope": "all"}, "answered 400, invalid_scope; check client_id"),
        ({"client_secret": "hunter4"}, "answered 401, invalid_client: "),
        ({"token_endpoint": "http://127.0.0.1:1/token"}, "cannot be reached: .*; check the address"),
        ({"ca_file": "/nowhere/ca.pem"}, "oauth.ca_file: /nowhere/ca.pem cannot be used: "),
        (
            {"client_secret": None, "client_secret_file": "/nowhere"},
            "`.*client_secret_file`: cannot read /nowhere",
        ),
    ],
)
async def test_what_is_wrong_is_told_in_one_line_without_the_secret(
    provider: IdentityProvider, wrong: dict[str, Any], told: str
) -> None:
    with pytest.raises(TokenUnavailable, match=told) as found:
        await tokens(provider, Clock(), **wrong).token()
    assert "\n" not in str(found.value)
    assert "hunter" not in str(found.value)


@pytest.mark.parametrize("kind", [HttpProxy, SocksProxy])
async def test_the_endpoint_is_reached_through_the_proxy_of_the_environment(
    provider: IdentityProvider, kind: type[HttpProxy | SocksProxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    port = int(provider.token_endpoint.split(":")[2].partition("/")[0])
    endpoint = "http://login.example.test/token"
    async with kind({"login.example.test": port}, login=("u", "pass")) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url_with("u:pass"))
        monkeypatch.delenv("NO_PROXY", raising=False)
        assert await tokens(provider, Clock(), token_endpoint=endpoint).token()
        assert proxy.asked == ["login.example.test:80"]
        proxy.forbids = True
        if kind is SocksProxy:
            named = rf"through the proxy socks5://127.0.0.1:{proxy.port}: .*forbid.*HTTP_PROXY and NO_PROXY"
            with pytest.raises(TokenUnavailable, match=named) as found:
                await tokens(provider, Clock(), token_endpoint=endpoint).token()
            assert "pass" not in str(found.value)
        monkeypatch.setenv("NO_PROXY", "example.test")
        with pytest.raises(TokenUnavailable, match="/token cannot be reached: "):
            await tokens(provider, Clock(), token_endpoint=endpoint).token()
    monkeypatch.setenv("HTTP_PROXY", "ftp://proxy.example.test")
    monkeypatch.delenv("NO_PROXY")
    with pytest.raises(TokenUnavailable, match="HTTP_PROXY is not the address of a proxy"):
        await tokens(provider, Clock(), token_endpoint=endpoint).token()
