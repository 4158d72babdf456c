"""The Kubernetes API as far as we need it: pods and their logs, over one aiohttp session.

Configuration, TLS and authentication are `kubernetes.aio`'s. The requests are our own: the generated client has
no `sinceTime`, parses log lines as JSON when it watches them, and spends most of a millisecond on a pod that
orjson reads in a fraction (docs/decisions/0003-own-api-adapter.md).
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
import orjson

from streamer.flow.proxy import ProxyConfigError, Way, is_host_name
from streamer.source.answers import ApiError, LogAnswer, LogQuery, error_of, is_html, is_pod, page_error
from streamer.source.budget import Budget, Lane, NoSlotError, Permit
from streamer.source.credentials import ApiConfigError, Credentials, CredentialsError
from streamer.source.tls import ApiTls
from streamer.source.unreachable import PLUGIN, REFUSED
from streamer.source.unreachable import trouble as unreachable

__all__ = ["ApiConfigError", "ApiError", "KubernetesApi", "LogAnswer", "LogQuery", "connect"]

_HEADERS_SECONDS: Final = 30.0
_CONNECT_SECONDS: Final = 10.0
_LOG_READ_BYTES: Final = 16 * 1024
"""aiohttp pauses a connection above twice this: with one TLS record more, that is what a stream may hold in memory."""


class _Log:
    """The answer as aiohttp gives it, with its slot."""

    # Thousands are open at a time.
    __slots__ = ("_permit", "_response")

    def __init__(self, response: aiohttp.ClientResponse, permit: Permit) -> None:
        self._response = response
        self._permit: Permit | None = permit
        content = response.content
        permit.watch(lambda: content.total_bytes)

    @property
    def content(self) -> aiohttp.StreamReader:
        return self._response.content

    def settle(self) -> None:
        if self._permit is not None:
            self._permit.free()
            self._permit = None

    def release(self) -> None:
        self.settle()
        self._response.release()


class KubernetesApi:
    """Lists, watches and reads logs, within a budget. Made by `connect`; every method raises `ApiError`."""

    def __init__(
        self, credentials: Credentials, tls: ApiTls, way: Way, session: aiohttp.ClientSession, budget: Budget
    ) -> None:
        self._credentials = credentials
        self._tls = tls
        self._way = way
        self._session = session
        self._budget = budget
        self._host = credentials.configuration.host.rstrip("/")

    @property
    def host(self) -> str:
        """The API server's address."""
        return str(self._host)

    async def renew_token(self) -> None:
        """Read the credentials again: the server has refused them. Many streams may ask at once, one is heard."""
        await self._credentials.refused()

    async def get(self, path: str, params: Mapping[str, str] | None = None) -> dict[str, Any]:
        """One JSON object."""
        return await self._object(Lane.DISCOVERY, path, params or {})

    async def create(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The object as the server answers it; used for reviews of access, which leave nothing behind."""
        return await self._object(Lane.DISCOVERY, path, {}, body)

    async def server_time(self) -> float | None:
        """The server's clock, in seconds since the epoch; None where its answer names no time."""
        async with self._asked(Lane.DISCOVERY, "/version", {}) as (response, _):
            date = response.headers.get("date")
        try:
            return parsedate_to_datetime(date).timestamp() if date else None
        except ValueError:
            return None

    @asynccontextmanager
    async def lines(self, path: str, params: Mapping[str, str]) -> AsyncIterator[aiohttp.StreamReader]:
        """The body of a watch."""
        async with self._asked(Lane.DISCOVERY, path, params) as (response, permit):
            permit.free()
            yield response.content

    async def log(
        self,
        namespace: str,
        pod: str,
        container: str,
        query: LogQuery,
        *,
        node: str = "",
        lane: Lane = Lane.OPEN,
    ) -> LogAnswer:
        """Ask for a log. `node` is the pod's: where it hangs, only requests for its logs wait."""
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}/log"
        response, permit = await self._ask(lane, path, query.params(container), node=node)
        _forget_headers(response)
        return _Log(response, permit)

    async def pod(self, namespace: str, name: str, *, node: str = "") -> dict[str, Any]:  # noqa: ARG002
        """One pod. The API server answers without asking its node."""
        path = f"/api/v1/namespaces/{namespace}/pods/{name}"
        found = await self._object(Lane.POD, path, {})
        if not is_pod(found):
            raise ApiError(0, f"{path}: the answer is not a pod")
        return found

    async def _object(
        self, lane: Lane, path: str, params: Mapping[str, str], body: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        text = b""
        async with self._asked(lane, path, params, body) as (response, _):
            try:
                async with asyncio.timeout(_HEADERS_SECONDS):
                    text = await response.read()
                return dict(orjson.loads(text))
            except (
                orjson.JSONDecodeError,
                TypeError,
                ValueError,
                TimeoutError,
                aiohttp.ClientError,
            ) as error:
                if is_html(response, text):
                    raise page_error(response) from error
                raise ApiError(0, f"{path}: the answer is not a JSON object: {error!r}") from error

    @asynccontextmanager
    async def _asked(
        self, lane: Lane, path: str, params: Mapping[str, str], body: Mapping[str, Any] | None = None
    ) -> AsyncIterator[tuple[aiohttp.ClientResponse, Permit]]:
        """An answer, released in the end, with its slot."""
        response, permit = await self._ask(lane, path, params, body)
        try:
            async with response:
                yield response, permit
        finally:
            permit.free()

    async def _ask(
        self,
        lane: Lane,
        path: str,
        params: Mapping[str, str],
        body: Mapping[str, Any] | None = None,
        *,
        node: str = "",
    ) -> tuple[aiohttp.ClientResponse, Permit]:
        try:
            await self._credentials.fresh()
        except CredentialsError as error:
            fix = PLUGIN if "exec plug-in" in str(error) else REFUSED
            raise ApiError(401, f"cannot read the API token: {error}", fix=fix) from error

        async def send() -> aiohttp.ClientResponse:
            headers = [("accept", "application/json, */*"), *self._credentials.impersonation]
            if self._credentials.header:
                headers.append(("authorization", self._credentials.header))
            return await self._session.request(
                "GET" if body is None else "POST",
                self._host + path,
                params=params,
                json=body,
                headers=headers,
                ssl=self._tls.context(),
                server_hostname=self._credentials.configuration.tls_server_name,
                proxy=self._way.http_proxy,
                read_bufsize=_LOG_READ_BYTES if lane in (Lane.OPEN, Lane.PROBE) else None,
            )

        try:
            permit, response = await self._budget.send(lane, node, send, _HEADERS_SECONDS)
        except NoSlotError as error:
            raise ApiError(0, str(error)) from error
        except aiohttp.ConnectionTimeoutError as error:
            via = f" through the proxy {self._way.shown}" if self._way.shown else ""
            message = f"no connection to {self._host}{via} within {_CONNECT_SECONDS:.0f} s"
            raise ApiError(0, message) from error
        except TimeoutError as error:
            within = (
                f" within {_HEADERS_SECONDS:.0f} s" if error.errno is None else ": the connection timed out"
            )
            raise ApiError(0, f"no answer from {self._host}{within}") from error
        except (aiohttp.ClientError, OSError) as error:
            cause, fix = unreachable(error, self._way)
            raise ApiError(0, f"cannot reach the API server: {cause}", fix=fix) from error
        retry_after = response.headers.get("retry-after", "")
        seconds = float(retry_after) if retry_after.isdecimal() else None
        permit.answered(response.status, seconds)
        if response.status in {200, 201} and not is_html(response):
            return response, permit
        permit.free()
        if response.status in {200, 201}:  # no log, watch or object is of this type
            response.release()
            raise page_error(response)
        async with response:
            raise await error_of(response, seconds)


def _forget_headers(response: aiohttp.ClientResponse) -> None:
    """Drop what nobody looks at again: a stream lasts for hours, and there may be thousands."""
    del response._headers, response._raw_headers, response._request_info  # noqa: SLF001
    response._cache.clear()  # noqa: SLF001  # the headers, and the address with its parts


@asynccontextmanager
async def connect(
    kubeconfig: Path | None, context: str | None, *, budget: Budget | None = None
) -> AsyncIterator[KubernetesApi]:
    """Reach the API server: by the kubeconfig given, else in-cluster, else by the user's kubeconfig."""
    credentials = Credentials(kubeconfig, context)
    await credentials.load()
    try:
        tls = ApiTls(credentials.configuration)
    except (OSError, ValueError) as error:
        raise ApiConfigError(credentials.explain(error)) from error
    _check_host(credentials.configuration.host)
    way = _way(credentials.configuration)
    connector = way.connector(limit=0, socket_factory=_keepalive_socket)
    # No limit on the whole: a log stream lives for hours. The wait for headers is bounded in `_ask`.
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS)
    try:
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            yield KubernetesApi(credentials, tls, way, session, budget or Budget())
    finally:
        await credentials.close()


def _check_host(url: str) -> None:
    """Refuse a name that no DNS can have: looking it up fails with an error that names no setting."""
    host = urlsplit(url).hostname or ""
    if not is_host_name(host):
        raise ApiConfigError(
            f"no way to the Kubernetes API: `{host}` is not a host's name: between its dots stand 1 to 63 characters"
        )


def _way(configuration: Any) -> Way:
    """Through the kubeconfig's proxy, whatever NO_PROXY says, or else as the environment has it; as kubectl does."""
    try:
        if configuration.proxy:
            return Way.named(configuration.proxy, "proxy-url in the kubeconfig")
        return Way.to(configuration.host, os.environ)
    except ProxyConfigError as error:
        raise ApiConfigError(f"no way to the Kubernetes API: {error}") from error


def _keepalive_socket(address: Any) -> socket.socket:
    """A socket that detects a dead peer: a silent stream behind a load balancer otherwise waits for ever."""
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 60_000)
    return made
