"""The API as tests talk to it: plain dicts over one aiohttp session, with any kubeconfig.

Deliberately none of the product's code: what is tested does not check itself.
"""

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import aiohttp
from kubernetes.aio.client import Configuration
from kubernetes.aio.config import load_kube_config

_JSON = "application/json"
_MERGE = "application/merge-patch+json"


class ApiError(Exception):
    """The server refused; `status` is HTTP's."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status}: {text}")
        self.status = status


class KubeApi:
    """One user's way in, as an async context manager."""

    def __init__(self, kubeconfig: Path) -> None:
        self._kubeconfig = kubeconfig
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Read the kubeconfig and open a session."""
        found = Configuration()
        await load_kube_config(str(self._kubeconfig), client_configuration=found, persist_config=False)
        trust = ssl.create_default_context(cafile=found.ssl_ca_cert)
        if found.cert_file:
            trust.load_cert_chain(found.cert_file, found.key_file)
        token = found.api_key.get("BearerToken")
        self._session = aiohttp.ClientSession(
            found.host,
            connector=aiohttp.TCPConnector(ssl=trust, limit=0),
            headers={"Authorization": token} if token else {},
            # Logs are followed for as long as a test wants; whatever else hangs, its test's deadline ends.
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10),
            read_bufsize=1 << 20,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the session."""
        if self._session is not None:
            await self._session.close()

    async def request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        params: Mapping[str, str] | None = None,
        content_type: str = _JSON,
    ) -> dict[str, Any]:
        """Return the answered object; ApiError for any status from 300 on."""
        assert self._session is not None, "not entered"
        headers = {"Content-Type": content_type}
        async with self._session.request(method, path, json=body, params=params, headers=headers) as answer:
            if answer.status >= 300:
                raise ApiError(answer.status, await answer.text())
            answered: dict[str, Any] = await answer.json()
            return answered

    async def get(self, path: str, **params: str) -> dict[str, Any]:
        """GET an object or a list."""
        return await self.request("GET", path, params=params)

    async def create(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """POST an object."""
        return await self.request("POST", path, body)

    async def patch(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Merge a patch; None removes a key, a list replaces the whole list."""
        return await self.request("PATCH", path, body, content_type=_MERGE)

    async def delete(self, path: str, **params: str) -> dict[str, Any]:
        """DELETE an object, or all of a collection."""
        return await self.request("DELETE", path, params=params)

    async def text(self, path: str) -> str:
        """GET what is not JSON, such as /metrics."""
        assert self._session is not None, "not entered"
        async with self._session.get(path) as answer:
            if answer.status >= 300:
                raise ApiError(answer.status, await answer.text())
            return await answer.text()

    def open_log(self, namespace: str, pod: str, **params: str) -> "aiohttp.client._RequestContextManager":
        """Open `pods/log`, for `async with`; the status is the caller's to look at."""
        assert self._session is not None, "not entered"
        return self._session.get(f"/api/v1/namespaces/{namespace}/pods/{pod}/log", params=params)
