"""Which pods there are: list, then watch, for each selector in each namespace."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
import orjson
import structlog

from streamer.flow.backoff import Backoff
from streamer.source.api import ApiError, KubernetesApi
from streamer.source.pods import PodView, container_names, view

_PAGE: Final = "500"
_QUIET_SECONDS: Final = 30.0
"""How long a watch may outlast its own timeout before it counts as dead."""
_SHORT_SECONDS: Final = 1.0
_DEPARTED: Final = 1000
"""How many of the pods that left are remembered."""
_EMPTY_SECONDS: Final = 60.0
"""How often it is said that no pod matches."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Targets:
    """The targets there are, by `Target.id`, and those that left lately as they were at the last."""

    present: Mapping[str, PodView]
    departed: Mapping[str, PodView]


class Discovery:
    """Keeps the set of targets: the union over all selectors and namespaces, by pod uid."""

    def __init__(
        self, api: KubernetesApi, selectors: Sequence[str], namespaces: Sequence[str], container: str
    ) -> None:
        self._api = api
        self._container = container
        self._scopes = [(namespace, selector) for namespace in namespaces or [""] for selector in selectors]
        # Only what is needed of each pod is kept: the objects themselves would be most of our memory.
        self._pods: dict[tuple[str, str], dict[str, _Pod]] = {}
        self._departed: dict[str, PodView] = {}
        self._changed = asyncio.Event()
        self._listed = asyncio.Event()

    @property
    def complete(self) -> bool:
        """Whether every scope has been listed once."""
        return self._listed.is_set()

    async def listed(self) -> None:
        """Return once every scope has been listed."""
        await self._listed.wait()

    def targets(self) -> Targets:
        """All targets."""
        views = (pod.view for scope in self._pods.values() for pod in scope.values())
        return Targets({found.target.id: found for found in views if found is not None}, self._departed)

    async def changes(self) -> AsyncIterator[Targets]:
        """The whole set, once all scopes are listed and then whenever it may have changed. Never ends."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            if self.complete:
                yield self.targets()

    async def run(self) -> None:
        """List and watch until cancelled; an API server that is away is waited for."""
        async with asyncio.TaskGroup() as tasks:
            for namespace, selector in self._scopes:
                tasks.create_task(
                    self._keep(namespace, selector), name=f"watch {namespace or '*'} {selector}"
                )
            tasks.create_task(self._say_what_is_missing(), name="say what is missing")

    async def _keep(self, namespace: str, selector: str) -> None:
        path = f"/api/v1/namespaces/{namespace}/pods" if namespace else "/api/v1/pods"
        backoff = Backoff(most_seconds=10.0)
        version = ""
        while True:
            try:
                if not version:
                    version = await self._list(path, namespace, selector)
                started = asyncio.get_running_loop().time()
                version = await self._watch(path, namespace, selector, version)
                if asyncio.get_running_loop().time() - started < _SHORT_SECONDS:
                    await asyncio.sleep(backoff.next_seconds())  # a server that ends watches at once
                else:
                    backoff.reset()
            except ApiError as error:
                if error.status == 410:  # too old a version: start from a new list
                    version = ""
                    continue
                if error.status == 401:
                    await self._api.renew_token()
                log.warning(
                    "watch_failed",
                    namespace=namespace or "*",
                    selector=selector,
                    cause=_explain(error, namespace),
                )
                wait = backoff.next_seconds()
                await asyncio.sleep(max(wait, error.retry_after_seconds or 0.0))

    async def _list(self, path: str, namespace: str, selector: str) -> str:
        params = {"labelSelector": selector, "limit": _PAGE}
        pods: dict[str, _Pod] = {}
        while True:
            answer = await self._api.get(path, params)
            metadata = answer.get("metadata") or {}
            pods |= {pod["metadata"]["uid"]: self._read(pod) for pod in answer.get("items") or ()}
            if not metadata.get("continue"):
                break
            params["continue"] = metadata["continue"]
        self._pods[namespace, selector] = pods
        if len(self._pods) == len(self._scopes):
            self._listed.set()
        self._changed.set()
        return str(metadata.get("resourceVersion", ""))

    async def _watch(self, path: str, namespace: str, selector: str, version: str) -> str:
        """Follow changes until the server ends the watch; returns the version to go on from."""
        seconds = random.randint(240, 480)  # spread, so that not all watches end together
        params = {
            "labelSelector": selector,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(seconds),
        }
        pods = self._pods[namespace, selector]
        rest = b""
        try:
            async with asyncio.timeout(seconds + _QUIET_SECONDS), self._api.lines(path, params) as body:
                async for chunk in body.iter_any():
                    *events, rest = (rest + chunk).split(b"\n")
                    for event in map(orjson.loads, filter(None, events)):
                        version = self._apply(pods, event) or version
                    self._changed.set()
        except TimeoutError:
            log.info("watch_silent", namespace=namespace or "*", selector=selector)
        except aiohttp.ClientError as error:
            raise ApiError(0, f"the watch broke: {error}") from error
        except orjson.JSONDecodeError as error:
            raise ApiError(0, f"the watch sent no JSON: {error}") from error
        return version

    def _apply(self, pods: dict[str, _Pod], event: Mapping[str, Any]) -> str:
        """Take one watch event; returns its version. A DELETED pod may only have lost its label."""
        kind, found = event.get("type"), event.get("object") or {}
        if kind == "ERROR":
            raise ApiError(int(found.get("code", 0)), str(found.get("message", "the watch failed")))
        metadata = found.get("metadata") or {}
        if kind in ("ADDED", "MODIFIED"):
            pods[metadata["uid"]] = self._read(found)
        elif kind == "DELETED":
            pods.pop(metadata["uid"], None)
            if (last := view(found, self._container)) is not None:
                self._departed[last.target.id] = last
                if len(self._departed) > _DEPARTED:
                    del self._departed[next(iter(self._departed))]
        return str(metadata.get("resourceVersion", ""))

    def _read(self, pod: Mapping[str, Any]) -> _Pod:
        return _Pod(view(pod, self._container), tuple(container_names(pod)))

    async def _say_what_is_missing(self) -> None:
        """Tell the cause while nothing can be followed; silence would look like a quiet cluster."""
        await self._listed.wait()
        while True:
            pods = [pod for scope in self._pods.values() for pod in scope.values()]
            if not pods:
                log.warning(
                    "no_pod_matches",
                    selectors=sorted({selector for _, selector in self._scopes}),
                    namespaces=sorted({namespace or "*" for namespace, _ in self._scopes}),
                    fix="set kubernetes.selectors to your Falco pods' labels (kubectl get pods -A --show-labels)",
                )
            elif not any(self._container in pod.containers for pod in pods):
                log.warning(
                    "no_container_matches",
                    container=self._container,
                    containers=sorted({name for pod in pods for name in pod.containers}),
                    fix="set kubernetes.container to the container that runs Falco",
                )
            await asyncio.sleep(_EMPTY_SECONDS)


@dataclass(frozen=True, slots=True)
class _Pod:
    view: PodView | None
    containers: tuple[str, ...]


def _explain(error: ApiError, namespace: str) -> str:
    if error.status == 403:
        where = f"in namespace {namespace}" if namespace else "in all namespaces"
        return (
            f"no right to list and watch pods {where}: grant verbs get, list, watch on pods ({error.message})"
        )
    return error.message or f"HTTP {error.status}"
