"""Tokens for the SASL mechanism OAUTHBEARER: from a token endpoint, or from somebody's own class."""

from __future__ import annotations

import asyncio
import base64
import importlib
import inspect
import os
import ssl
import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple
from urllib.parse import quote_plus

import aiohttp
import aiokafka.conn
import orjson
from aiokafka.abc import AbstractTokenProvider
from aiokafka.errors import KafkaError

from streamer.config.oauth import OAuth
from streamer.config.secret import SecretError
from streamer.flow.failure import one_line
from streamer.flow.proxy import ProxyConfigError, Way
from streamer.sink.errors import KafkaUnavailable

_SECONDS: Final = 4.0
"""Below the preflight's 5 s: an endpoint that does not answer is named, and not the broker."""
_RENEW_AT: Final = 0.8
"""The part of its life after which a token is renewed."""
_UNTOLD_SECONDS: Final = 60.0
"""How long a token is kept whose endpoint does not say how long it lives."""
_LONGEST_ANSWER: Final = 65_536


class TokenUnavailable(KafkaError):  # type: ignore[misc]  # noqa: N818 - as the other names here
    """No token is to be had. A KafkaError, since it is raised in the middle of aiokafka's connecting."""

    def __init__(self, cause: str, fix: str) -> None:
        super().__init__(f"{cause}; {fix}")
        self.cause = cause
        self.fix = fix


def token_provider(oauth: OAuth) -> AbstractTokenProvider:
    """What aiokafka asks for a token at each connection. Raises KafkaUnavailable where it cannot be made."""
    return EndpointTokens(oauth) if oauth.provider is None else OwnTokens(oauth.provider)


class _Authenticator(aiokafka.conn.OAuthAuthenticator):  # type: ignore[misc]
    """Hears a refusal: aiokafka's own takes any answer for a yes, and the next answer it reads is then garbage.

    A broker that refuses a token says so in a challenge, to which the client has to answer with one byte before it is
    notified that it is refused (RFC 7628, section 3.2.3).
    """

    async def step(self, payload: bytes | None) -> tuple[bytes, bool] | None:
        """The next message of ours, None when all is said."""
        if payload:
            return b"\x01", True
        found: tuple[bytes, bool] | None = await super().step(payload)
        return found


aiokafka.conn.OAuthAuthenticator = _Authenticator


class _Token(NamedTuple):
    text: str
    renew_at: float
    ends_at: float


class EndpointTokens(AbstractTokenProvider):  # type: ignore[misc]
    """The client-credentials flow (RFC 6749, section 4.4). A token is kept for most of its life."""

    def __init__(self, oauth: OAuth, clock: Callable[[], float] = time.monotonic) -> None:
        self._oauth = oauth
        self._clock = clock
        self._lock = asyncio.Lock()
        self._token: _Token | None = None
        self._failure: TokenUnavailable | None = None
        """Why the last try failed; those that waited for it need not try as well."""

    async def token(self) -> str:
        """A token that is valid for a while yet. Raises TokenUnavailable."""
        waited = self._lock.locked()
        async with self._lock:  # many connections may open at once: one asks
            if waited and self._failure is not None:
                raise TokenUnavailable(self._failure.cause, self._failure.fix)
            now = self._clock()
            if self._token is None or now >= self._token.renew_at:
                try:
                    self._token, self._failure = await self._fetch(now), None
                except TokenUnavailable as error:
                    if self._token is None or now >= self._token.ends_at:
                        self._failure = error
                        raise
            return self._token.text

    async def _fetch(self, now: float) -> _Token:
        oauth = self._oauth
        assert oauth.token_endpoint is not None, "the settings were checked"
        assert oauth.client_id is not None, "the settings were checked"
        form = {"grant_type": "client_credentials"} | ({"scope": oauth.scope} if oauth.scope else {})
        try:
            secret = oauth.secret.read()
            tls = ssl.create_default_context(cafile=oauth.ca_file)
            way = Way.to(str(oauth.token_endpoint), os.environ)
        except SecretError as error:
            raise TokenUnavailable(str(error), "mount the secret there or name another file") from error
        except ProxyConfigError as error:
            raise TokenUnavailable(str(error), "the token endpoint is reached through it") from error
        except OSError as error:
            cause = f"kafka.security.sasl.oauth.ca_file: {oauth.ca_file} cannot be used: {one_line(error)}"
            raise TokenUnavailable(cause, "it must be a readable PEM file") from error
        # RFC 6749, section 2.3.1: both are form-encoded before they become a user and a password.
        user = f"{quote_plus(oauth.client_id)}:{quote_plus(secret)}".encode()
        headers = {"authorization": f"Basic {base64.b64encode(user).decode()}"}
        try:
            async with (
                aiohttp.ClientSession(
                    connector=way.connector(), timeout=aiohttp.ClientTimeout(total=_SECONDS)
                ) as session,
                session.post(
                    oauth.token_endpoint, data=form, headers=headers, ssl=tls, proxy=way.http_proxy
                ) as response,
            ):
                body = await response.content.read(_LONGEST_ANSWER)
                status = response.status
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            what = f"no answer in {_SECONDS:.0f} s" if isinstance(error, TimeoutError) else one_line(error)
            by = f" through the proxy {way.shown}" if way.address else ""
            also = f", {way.named_by} and NO_PROXY" if way.address else ""
            raise self._unavailable(
                f"cannot be reached{by}: {what}", f"check the address, the network and oauth.ca_file{also}"
            ) from error
        return self._read(status, body, now)

    def _read(self, status: int, body: bytes, now: float) -> _Token:
        try:
            answer = orjson.loads(body)
        except orjson.JSONDecodeError:
            answer = None
        found = answer if isinstance(answer, dict) else {}
        if status == 200 and isinstance(text := found.get("access_token"), str) and text:
            given = found.get("expires_in")
            known = isinstance(given, int | float) and not isinstance(given, bool) and given > 0
            seconds = float(given) if known and given is not None else _UNTOLD_SECONDS
            return _Token(text, now + seconds * _RENEW_AT, now + seconds)
        # What the standard has for reasons; never the answer itself, which may repeat a secret.
        why = ": ".join(str(found[key])[:200] for key in ("error", "error_description") if key in found)
        raise self._unavailable(
            f"answered {status}{f', {why}' if why else ' without a token'}",
            "check client_id, client_secret_file and scope in kafka.security.sasl.oauth",
        )

    def _unavailable(self, what: str, fix: str) -> TokenUnavailable:
        return TokenUnavailable(f"the token endpoint {self._oauth.token_endpoint} {what}", fix)


class OwnTokens(AbstractTokenProvider):  # type: ignore[misc]
    """A class that the settings name: made without arguments, asked by `token()`, plain or async."""

    def __init__(self, path: str) -> None:
        module, _, name = path.partition(":")
        try:
            self._own: Any = getattr(importlib.import_module(module), name)()
            self._ask: Callable[[], Any] = self._own.token
        except Exception as error:  # whatever somebody else's code raises
            raise KafkaUnavailable(
                f"kafka.security.sasl.oauth.provider: {path} cannot be used: {type(error).__name__}: {one_line(error)}",
                "its module must be importable (PYTHONPATH), its class take no arguments and have a method token()",
            ) from error
        self._path = path

    async def token(self) -> str:
        """A token; what blocks to get one runs in a thread. Raises TokenUnavailable."""
        try:
            async with asyncio.timeout(_SECONDS):
                if inspect.iscoroutinefunction(self._ask):
                    found = await self._ask()
                else:
                    found = await asyncio.to_thread(self._ask)
        except Exception as error:  # as above
            what = f"{type(error).__name__}: {one_line(error)}"
            raise TokenUnavailable(
                f"the token provider {self._path} failed: {what}", "see its own log"
            ) from error
        if not isinstance(found, str) or not found:
            raise TokenUnavailable(
                f"the token provider {self._path} gave no text", "token() returns the token"
            )
        return found

    def extensions(self) -> dict[str, str]:
        """SASL extensions, where the class has any."""
        extensions = getattr(self._own, "extensions", None)
        return dict(extensions()) if callable(extensions) else {}
