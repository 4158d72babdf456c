"""Which pods there are: list, then watch, for each selector in each namespace."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
import orjson
import structlog

from streamer.flow.backoff import Backoff
from streamer.source.api import ApiError, KubernetesApi
from streamer.source.pods import PodView, container_names, view
from streamer.telemetry import facts

_PAGE: Final = "500"
_WATCH_SECONDS: Final = 60.0
"""How long a watch lasts, give or take a quarter: a half open one hides new pods for so long at the most."""
_QUIET_SECONDS: Final = 10.0
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
        self,
        api: KubernetesApi,
        selectors: Sequence[str],
        namespaces: Sequence[str],
        container: str,
        *,
        watch_seconds: float = _WATCH_SECONDS,
        quiet_seconds: float = _QUIET_SECONDS,
    ) -> None:
        self._api = api
        self._container = container
        self._watch_seconds = watch_seconds
        self._quiet_seconds = quiet_seconds
        self._scopes = [
            _Scope(namespace, selector) for namespace in namespaces or [""] for selector in selectors
        ]
        self._departed: dict[str, PodView] = {}
        self._changed = asyncio.Event()
        self._listed = asyncio.Event()
        self._missing_since: float | None = None
        self.missing = ""
        """Why nothing can be followed although all is listed; "" if something can."""

    @property
    def complete(self) -> bool:
        """Whether every scope has been listed once."""
        return self._listed.is_set()

    @property
    def trouble(self) -> str:
        """What keeps the API server from telling of pods; "" if nothing does."""
        return next((scope.trouble for scope in self._scopes if scope.trouble), "")

    @property
    def blind_seconds(self) -> float:
        """For how long pods could come unseen, or there has been none to follow."""
        now = asyncio.get_running_loop().time()
        lost = [now - scope.lost_at for scope in self._scopes if scope.lost_at is not None]
        if self._missing_since is not None:
            lost.append(now - self._missing_since)
        return max(lost, default=0.0)

    async def listed(self) -> None:
        """Return once every scope has been listed."""
        await self._listed.wait()

    def targets(self) -> Targets:
        """All targets."""
        views = (pod.view for scope in self._scopes for pod in scope.pods.values())
        return Targets({found.target.id: found for found in views if found is not None}, self._departed)

    async def changes(self) -> AsyncIterator[Targets]:
        """The whole set, once all scopes are listed and then whenever it may have changed. Never ends."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            if self.complete:
                targets = self.targets()
                self._note_missing(targets)
                yield targets

    async def run(self) -> None:
        """List and watch until cancelled; an API server that is away is waited for."""
        async with asyncio.TaskGroup() as tasks:
            for scope in self._scopes:
                tasks.create_task(self._keep(scope), name=f"watch {scope}")
            tasks.create_task(self._say_what_is_missing(), name="say what is missing")

    async def _keep(self, scope: _Scope) -> None:
        clock = asyncio.get_running_loop().time
        backoff = Backoff(most_seconds=10.0)
        while True:
            started = clock()
            try:
                if not scope.version:
                    await self._list(scope)
                await self._watch(scope)
                wait = 0.0
            except ApiError as error:
                if error.status == 410:  # too old a version: start from a new list
                    scope.version = ""
                elif error.status == 401:
                    await self._api.renew_token()
                facts.api_failed("watch", error.status)
                # Without a version to watch from, it was the list.
                cause = _explain(error, "watch" if scope.version else "list", scope.namespace)
                if error.status != 410:
                    scope.lost(clock(), cause)
                log.warning(
                    "watch_failed",
                    namespace=scope.namespace or "*",
                    selector=scope.selector,
                    cause=cause,
                    **({"fix": error.fix} if error.fix else {}),
                )
                wait = max(0.01, error.retry_after_seconds or 0.0)
            if clock() - started >= _SHORT_SECONDS:
                backoff.reset()
                if not wait:
                    continue
            # Also after a watch that ended at once, or two that were told to start anew.
            await asyncio.sleep(max(wait, backoff.next_seconds()))

    async def _list(self, scope: _Scope) -> None:
        params = {"labelSelector": scope.selector, "limit": _PAGE}
        pods: dict[str, _Pod] = {}
        while True:
            answer = await self._api.get(scope.path, params)
            try:
                metadata = answer.get("metadata") or {}
                pods |= {pod["metadata"]["uid"]: self._read(pod) for pod in answer.get("items") or ()}
                version, following = str(metadata["resourceVersion"]), metadata.get("continue")
            except _NOT_AN_OBJECT as error:
                raise ApiError(0, f"{scope.path}: the answer is no list of pods: {error!r}") from error
            if not following:
                break
            params["continue"] = str(following)
        # Who left while nothing was watched is missed here; how it left is not known.
        for uid in scope.pods.keys() - pods.keys():
            self._depart(scope.pods[uid].view)
        scope.pods, scope.version, scope.listed = pods, version, True
        scope.found()
        if all(each.listed for each in self._scopes):
            self._listed.set()
        self._changed.set()

    async def _watch(self, scope: _Scope) -> None:
        """Follow changes until the server ends the watch; `scope` is as it was at the last event, in any case."""
        # Spread, so that not all watches end together.
        seconds = max(1, round(self._watch_seconds * random.uniform(0.75, 1.25)))
        params = {
            "labelSelector": scope.selector,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": scope.version,
            "timeoutSeconds": str(seconds),
        }
        rest = b""
        try:
            async with (
                asyncio.timeout(seconds + self._quiet_seconds),
                self._api.lines(scope.path, params) as body,
            ):
                scope.found()
                async for chunk in body.iter_any():
                    *events, rest = (rest + chunk).split(b"\n")
                    self._changed.set()  # whoever waits for it sees what is applied below, also if an error follows
                    for event in filter(None, events):
                        self._apply(scope, event)
        except TimeoutError:
            log.info("watch_silent", namespace=scope.namespace or "*", selector=scope.selector)
        except aiohttp.ClientError as error:
            raise ApiError(0, f"the watch broke: {error}") from error

    def _apply(self, scope: _Scope, line: bytes) -> None:
        """Take one watch event. A DELETED pod may only have lost its label."""
        try:
            event = orjson.loads(line)
            kind, found = event["type"], event["object"]
            if kind == "ERROR":
                raise ApiError(int(found.get("code", 0)), str(found.get("message", "the watch failed")))
            metadata = found["metadata"]
            version = str(metadata["resourceVersion"])
            if kind in ("ADDED", "MODIFIED"):
                scope.pods[metadata["uid"]] = self._read(found)
            elif kind == "DELETED":
                scope.pods.pop(metadata["uid"], None)
                self._depart(view(found, self._container))
        except _NOT_AN_OBJECT as error:
            scope.version = ""  # what it was to say is found out by a new list
            raise ApiError(0, f"the watch sent no event: {error!r}: {line[:200]!r}") from error
        scope.version = version

    def _note_missing(self, targets: Targets) -> None:
        if targets.present:
            self._missing_since, self.missing = None, ""
        elif self._missing_since is None:
            self._missing_since = asyncio.get_running_loop().time()
            pods = any(scope.pods for scope in self._scopes)
            self.missing = (
                f"no matching pod has a container {self._container!r}"
                if pods
                else "no pod matches the selectors"
            )

    def _depart(self, last: PodView | None) -> None:
        if last is None:
            return
        self._departed.pop(last.target.id, None)
        self._departed[last.target.id] = last
        if len(self._departed) > _DEPARTED:
            del self._departed[next(iter(self._departed))]

    def _read(self, pod: Mapping[str, Any]) -> _Pod:
        made, uid = _Pod(view(pod, self._container), tuple(container_names(pod))), pod["metadata"]["uid"]
        for scope in self._scopes:  # most pods match several selectors: what is known of them is kept once
            if (known := scope.pods.get(uid)) == made and known is not None:
                return known
        return made

    async def _say_what_is_missing(self) -> None:
        """Tell the cause while nothing can be followed; silence would look like a quiet cluster."""
        await self._listed.wait()
        while True:
            pods = [pod for scope in self._scopes for pod in scope.pods.values()]
            if not pods:
                log.warning(
                    "no_pod_matches",
                    selectors=sorted({scope.selector for scope in self._scopes}),
                    namespaces=sorted({scope.namespace or "*" for scope in self._scopes}),
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


_NOT_AN_OBJECT: Final = (AttributeError, KeyError, TypeError, ValueError)
"""What reading an answer raises that is JSON, or not even that, but not what it should be."""


@dataclass(frozen=True, slots=True)
class _Pod:
    """Only what is needed of each: the objects themselves would be most of our memory."""

    view: PodView | None
    containers: tuple[str, ...]


@dataclass(slots=True)
class _Scope:
    """A selector in a namespace, or in all of them (""), and what is known of it."""

    namespace: str
    selector: str
    pods: dict[str, _Pod] = field(default_factory=dict)
    version: str = ""
    """The resource version of what was heard last, "" if a list is needed."""
    listed: bool = False
    lost_at: float | None = None
    """When it could not be asked any more, on the loop's clock; None while it can."""
    trouble: str = ""

    def lost(self, now: float, cause: str) -> None:
        """It cannot be asked."""
        self.lost_at = now if self.lost_at is None else self.lost_at
        self.trouble = cause

    def found(self) -> None:
        """It answers."""
        self.lost_at, self.trouble = None, ""

    @property
    def path(self) -> str:
        return f"/api/v1/namespaces/{self.namespace}/pods" if self.namespace else "/api/v1/pods"

    def __str__(self) -> str:
        return f"{self.namespace or '*'} {self.selector}"


def _explain(error: ApiError, verb: str, namespace: str) -> str:
    if error.status == 403:
        where = f"in namespace {namespace}" if namespace else "in all namespaces"
        return f"no right to {verb} pods {where}: grant the verb {verb} on pods ({error.message})"
    if error.status == 401:
        return f"the API server does not accept our credentials (401): {error.message}"
    return error.message or f"HTTP {error.status}"
