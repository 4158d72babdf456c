"""The Kubernetes API as far as we need it: pods and their logs, over one aiohttp session.

Configuration, TLS and authentication are `kubernetes.aio`'s. The requests are our own: the generated client has
no `sinceTime`, parses log lines as JSON when told to watch them, and spends most of a millisecond on a pod that
orjson reads in a fraction (docs/decisions/0003-own-api-adapter.md).
"""

from __future__ import annotations

import ast
import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Final, Protocol

import aiohttp
import orjson
import structlog
from kubernetes.aio import client as kubernetes_client
from kubernetes.aio import config as kubernetes_config
from kubernetes.aio.config.exec_provider import ExecProvider

from streamer.flow.failure import one_line
from streamer.source.kubeconfig import trouble
from streamer.source.tls import ApiTls
from streamer.source.unreachable import REFUSED
from streamer.source.unreachable import trouble as unreachable

_HEADERS_SECONDS: Final = 30.0
_TOKEN_SECONDS: Final = 60.0
"""How old a kubeconfig's token may be before it is looked up again; in-cluster ones have a like rule."""
_RELOAD_SECONDS: Final = 5.0
_PLUGIN_SECONDS: Final = 60.0
"""For what a kubeconfig's exec plug-in may take: it may ask somebody to log in."""
_NO_WAY: Final = "no way to the Kubernetes API: "
_OPENING: Final = 50
"""Requests that may wait for their headers at the same time."""
_READ_BYTES: Final = 256 * 1024
"""aiohttp pauses a connection above twice this: what one stream may hold in memory."""

log = structlog.get_logger()


class ApiError(Exception):
    """The API server answered with an error, or not at all (`status` 0)."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "",
        retry_after_seconds: float | None = None,
        fix: str = "",
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        """The kind of what is missing: `pods`, or `pods/log` where only the kubelet does not know it yet."""
        self.retry_after_seconds = retry_after_seconds
        self.fix = fix
        """What to do about it, where it is known."""


class ApiConfigError(Exception):
    """There is no usable way to the API server in the configuration; the text names the fix."""


@dataclass(frozen=True, slots=True)
class LogQuery:
    """What to ask of a container's log; timestamps are always asked for."""

    follow: bool = False
    tail_lines: int | None = None
    previous: bool = False
    since_ns: int | None = None
    """Only records of at least this time; whole seconds count."""

    def params(self, container: str) -> dict[str, str]:
        """As the query of the request."""
        params = {"container": container, "timestamps": "true"}
        if self.follow:
            params["follow"] = "true"
        if self.previous:
            params["previous"] = "true"
        if self.tail_lines is not None:
            params["tailLines"] = str(self.tail_lines)
        if self.since_ns is not None:
            params["sinceTime"] = (
                f"{datetime.fromtimestamp(self.since_ns // 1_000_000_000, UTC):%Y-%m-%dT%H:%M:%SZ}"
            )
        return params


class LogAnswer(Protocol):
    """The answer to a log request: whoever asked has to release it."""

    @property
    def content(self) -> aiohttp.StreamReader:
        """Its body. A clean end of it means nothing; its text may be an error (source.follower)."""
        ...

    def release(self) -> object:
        """Be done with it."""
        ...


class KubernetesApi:
    """Lists, watches and reads logs. Made by `connect`; every method raises `ApiError`."""

    def __init__(
        self,
        configuration: Any,
        tls: ApiTls,
        session: aiohttp.ClientSession,
        reload: Callable[[], Awaitable[None]],
    ) -> None:
        self._configuration = configuration
        self._tls = tls
        self._session = session
        self._reload = reload
        self._reloaded_at = float("-inf")
        # Log requests are exempt from the API server's own limits: it does not protect itself, so we do.
        self._opening = asyncio.Semaphore(_OPENING)
        self._host = configuration.host.rstrip("/")

    @property
    def host(self) -> str:
        """The API server's address."""
        return str(self._host)

    async def renew_token(self) -> None:
        """Read the credentials again: the server has refused them. Many streams may ask at once, one is heard."""
        now = time.monotonic()
        if now - self._reloaded_at >= _RELOAD_SECONDS:
            self._reloaded_at = now
            try:
                await self._reload()
            except ApiConfigError as error:
                log.warning("credentials_not_renewed", cause=str(error))

    async def get(self, path: str, params: Mapping[str, str] | None = None) -> dict[str, Any]:
        """One JSON object."""
        return await self._object(path, params or {})

    async def create(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The object as the server answers it; used for reviews of access, which leave nothing behind."""
        return await self._object(path, {}, body)

    async def server_time(self) -> float | None:
        """The server's clock, in seconds since the epoch; None where its answer names no time."""
        async with await self._ask("/version", {}) as response:
            date = response.headers.get("date")
        try:
            return parsedate_to_datetime(date).timestamp() if date else None
        except ValueError:
            return None

    async def _object(
        self, path: str, params: Mapping[str, str], body: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        async with await self._ask(path, params, body) as response:
            try:
                async with asyncio.timeout(_HEADERS_SECONDS):
                    return dict(orjson.loads(await response.read()))
            except (
                orjson.JSONDecodeError,
                TypeError,
                ValueError,
                TimeoutError,
                aiohttp.ClientError,
            ) as error:
                raise ApiError(0, f"{path}: the answer is no JSON object: {error!r}") from error

    @asynccontextmanager
    async def lines(self, path: str, params: Mapping[str, str]) -> AsyncIterator[aiohttp.StreamReader]:
        """The body of a watch."""
        async with await self._ask(path, params) as response:
            yield response.content

    async def log(self, namespace: str, pod: str, container: str, query: LogQuery) -> LogAnswer:
        """Ask for a log."""
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}/log"
        answer = await self._ask(path, query.params(container))
        # A stream lasts for hours, and nobody looks at its headers again: 2.5 KiB each, in forty pieces.
        del answer._headers, answer._raw_headers  # noqa: SLF001
        return answer

    async def pod(self, namespace: str, name: str) -> dict[str, Any]:
        """One pod."""
        return await self.get(f"/api/v1/namespaces/{namespace}/pods/{name}")

    async def _ask(
        self, path: str, params: Mapping[str, str], body: Mapping[str, Any] | None = None
    ) -> aiohttp.ClientResponse:
        headers = {"accept": "application/json, */*"}
        try:
            authorization = (await self._configuration.auth_settings()).get("BearerToken")
        except Exception as error:  # a token file that is being replaced; exec plug-ins raise what they like
            raise ApiError(401, f"cannot read the API token: {one_line(error)}", fix=REFUSED) from error
        if authorization and authorization["value"]:
            headers["authorization"] = authorization["value"]
        request = self._session.request(
            "GET" if body is None else "POST",
            self._host + path,
            params=params,
            json=body,
            headers=headers,
            ssl=self._tls.context(),
            proxy=self._configuration.proxy,
        )
        try:
            async with self._opening, asyncio.timeout(_HEADERS_SECONDS):
                response = await request
        except TimeoutError as error:
            raise ApiError(0, f"no answer from {self._host} within {_HEADERS_SECONDS:.0f} s") from error
        except (aiohttp.ClientError, OSError) as error:
            cause, fix = unreachable(error)
            raise ApiError(0, f"cannot reach the API server: {cause}", fix=fix) from error
        if response.status not in {200, 201}:
            async with response:
                raise await _error(response)
        return response


async def _error(response: aiohttp.ClientResponse) -> ApiError:
    """What an answer other than 200 says; a proxy's error page is no Status object."""
    try:
        async with asyncio.timeout(_HEADERS_SECONDS):
            text = await response.content.read(4096)
    except (aiohttp.ClientError, TimeoutError):
        text = b""
    message, kind = text.decode(errors="replace").strip(), ""
    try:
        status = orjson.loads(text)
        message, kind = str(status["message"]), str((status.get("details") or {}).get("kind", ""))
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        pass
    retry_after = response.headers.get("retry-after", "")
    seconds = float(retry_after) if retry_after.isdecimal() else None
    fix = REFUSED if response.status == 401 else ""
    return ApiError(response.status, message[:500], kind=kind, retry_after_seconds=seconds, fix=fix)


@asynccontextmanager
async def connect(kubeconfig: Path | None, context: str | None) -> AsyncIterator[KubernetesApi]:
    """Reach the API server: by the kubeconfig given, else in-cluster, else by the user's kubeconfig."""
    configuration = kubernetes_client.Configuration()

    async def load() -> None:
        try:
            await _load(configuration, kubeconfig, context)
        except Exception as error:  # whatever the library makes of a file that is none
            raise ApiConfigError(_NO_WAY + trouble(kubeconfig, context, error)) from error

    await load()
    try:
        tls = ApiTls(configuration)
    except (OSError, ValueError) as error:
        raise ApiConfigError(_NO_WAY + trouble(kubeconfig, context, error)) from error
    connector = aiohttp.TCPConnector(limit=0, socket_factory=_keepalive_socket)
    # No limit on the whole: a log stream lives for hours. The wait for headers is bounded in `_request`.
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
    async with aiohttp.ClientSession(
        connector=connector, timeout=timeout, read_bufsize=_READ_BYTES
    ) as session:
        yield KubernetesApi(configuration, tls, session, load)


async def _load(configuration: Any, kubeconfig: Path | None, context: str | None) -> None:
    if kubeconfig is None and context is None:
        try:
            kubernetes_config.load_incluster_config(client_configuration=configuration)
        except kubernetes_config.ConfigException:
            pass
        else:
            return
    loader = await kubernetes_config.load_kube_config(
        config_file=None if kubeconfig is None else str(kubeconfig),
        context=context,
        client_configuration=configuration,
        persist_config=False,
    )
    await _verify_plugin(loader)
    loaded_at = time.monotonic()

    async def renew_token(_: Any) -> None:
        """Run by `kubernetes.aio` before a token is used; plug-ins say themselves when theirs expires."""
        nonlocal loaded_at
        if time.monotonic() - loaded_at > _TOKEN_SECONDS:
            loaded_at = time.monotonic()
            await loader.load_and_set(configuration)

    configuration.refresh_api_key_hook = renew_token


async def _verify_plugin(loader: Any) -> None:
    """Raise what a kubeconfig's exec plug-in failed for: the library would go on without any credentials."""
    user = loader._user  # noqa: SLF001 - there is no other way
    if user is None or "exec" not in user:
        return
    if any(getattr(loader, name, None) for name in ("token", "cert_file")):
        return
    provider = ExecProvider(user["exec"])
    command = provider.args[0]
    try:
        async with asyncio.timeout(_PLUGIN_SECONDS):
            await provider.run()
    except TimeoutError:
        raise kubernetes_config.ConfigException(f"its exec plug-in {command} did not end in time") from None
    except OSError as error:
        reason = f"cannot be run: {(error.strerror or str(error)).lower()}"
        raise kubernetes_config.ConfigException(f"its exec plug-in {command} {reason}") from error
    except kubernetes_config.ConfigException as error:
        raise kubernetes_config.ConfigException(
            f"its exec plug-in {command} failed: {_said(error)}"
        ) from error
    raise kubernetes_config.ConfigException(f"its exec plug-in {command} gives neither token nor certificate")


def _said(error: Exception) -> str:
    """Of a failed plug-in: the library shows what it wrote as Python would; its last line has the cause."""
    before, quoted, written = str(error).removeprefix("exec: ").partition(". b")
    if not quoted:
        return before
    return f"{before}: {ast.literal_eval(f'b{written}').decode(errors='replace').splitlines()[-1]}"


def _keepalive_socket(address: Any) -> socket.socket:
    """A socket that notices a dead peer: a silent stream behind a load balancer otherwise waits for ever."""
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 60_000)
    return made
