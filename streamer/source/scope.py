"""One selector in one namespace: list its pods, then watch them, for ever."""

from __future__ import annotations

import asyncio
import random
from typing import Final, Protocol

import aiohttp
import structlog

from streamer.flow.backoff import Backoff
from streamer.flow.waker import Waker
from streamer.source.api import ApiError, KubernetesApi
from streamer.source.podreader import PodReader
from streamer.source.pods import NOT_AN_OBJECT, FoundPod
from streamer.telemetry import facts
from streamer.telemetry.failure import class_of

_PAGE: Final = "500"
_SHORT_SECONDS: Final = 1.0
"""A watch that lasted for longer was a success."""
_MOST_SECONDS: Final = 10.0
_FORBIDDEN_SECONDS: Final = 120.0
"""The longest pause while the server refuses: it does so until somebody grants the right."""

log = structlog.get_logger()


class Sink(Protocol):
    """Takes what a scope finds."""

    def replace(self, scope: Scope, pods: list[FoundPod], unread: set[str], *, anyway: bool) -> None:
        """These are the scope's pods, with those `unread`; `anyway`, although what was known is newer."""
        ...

    def put(self, scope: Scope, uid: str, pod: FoundPod | None) -> None:
        """A pod was added or changed; None where it cannot be read."""
        ...

    def remove(self, scope: Scope, uid: str, last: FoundPod | None) -> None:
        """A pod was deleted, or does not match any more; as it was when it left, if that can be read."""
        ...

    def recovered(self, scope: Scope) -> None:
        """A scope that was lost answers again."""
        ...


class Scope:
    """Lists and watches until cancelled; an API server that is away, or refuses, is waited for.

    `bit` tells it from other scopes. Watches last `watch_seconds`, give or take a quarter, and count as dead when they
    outlast that by `quiet_seconds`.
    """

    def __init__(
        self,
        api: KubernetesApi,
        sink: Sink,
        reader: PodReader,
        namespace: str,
        selector: str,
        bit: int,
        *,
        watch_seconds: float,
        quiet_seconds: float,
    ) -> None:
        self.namespace = namespace
        """Empty: all namespaces."""
        self.selector = selector
        self.bit = bit
        self.was_listed = asyncio.Event()
        self.answered = asyncio.Event()
        """Whether it was listed, or has failed, for the first time."""
        self.lost_at: float | None = None
        """When it could not be asked any more, on the loop's clock; None while it can."""
        self.unseen_since: float | None = None
        """Since when pods can change unseen, on the loop's clock; None while a watch is open, and before the start."""
        self.trouble = ""
        self._api = api
        self._sink = sink
        self._reader = reader
        self._watch_seconds = watch_seconds
        self._quiet_seconds = quiet_seconds
        self._path = f"/api/v1/namespaces/{namespace}/pods" if namespace else "/api/v1/pods"
        self._version = ""
        """The resource version of what was heard last, "" if a list is needed."""
        self._newest = 0
        self._waker = Waker()
        self._backoff = Backoff(most_seconds=_MOST_SECONDS)
        self._refused = Backoff(1.0, _FORBIDDEN_SECONDS)

    def __str__(self) -> str:
        return f"{self.namespace or '*'} {self.selector}"

    def covers(self, namespace: str) -> bool:
        """Whether its pods may be in this namespace."""
        return self.namespace in ("", namespace)

    def wake(self) -> None:
        """Try again now, if it waits before the next try."""
        self._waker.wake()

    async def run(self) -> None:
        """List and watch. A fault of our own in it costs this scope a pause."""
        clock = asyncio.get_running_loop().time
        self.unseen_since = clock()
        while True:
            started, pause = clock(), 0.0
            try:
                if not self._version:
                    await self._list()
                await self._watch()
            except ApiError as error:
                pause = await self._fail(error)
            except Exception as error:
                log.exception("discovery_failed", namespace=self.namespace or "*", selector=self.selector)
                self._lose(f"a fault of our own: {class_of(error)}")
                self._version = ""
                pause = self._backoff.next_seconds()
            if self.lost_at is None and clock() - started >= _SHORT_SECONDS:
                self._backoff.reset()
                self._refused.reset()
            elif not pause:  # a watch that ended at once
                pause = self._backoff.next_seconds()
            self._waker.clear()
            if pause:
                await self._waker.wait(pause)

    async def _fail(self, error: ApiError) -> float:
        """Take an error in; the pause before the next try."""
        # Without a version to watch from, it was the list.
        cause = _explain(error, "watch" if self._version else "list", self.namespace)
        facts.api_failed("watch", error.status)
        if error.status == 410:  # too old a version: start from a new list
            self._version = ""
        else:
            self._lose(cause)
        if error.status == 401:
            await self._api.renew_token()
        fix = {"fix": error.fix} if error.fix else {}
        log.warning(
            "watch_failed", namespace=self.namespace or "*", selector=self.selector, cause=cause, **fix
        )
        backoff = self._refused if error.status == 403 else self._backoff
        return max(backoff.next_seconds(), error.retry_after_seconds or 0.0)

    def _lose(self, cause: str) -> None:
        if self.lost_at is None:
            self.lost_at = asyncio.get_running_loop().time()
        self.trouble = cause
        self.answered.set()

    def _find(self) -> None:
        was_lost = self.lost_at is not None
        self.lost_at, self.trouble = None, ""
        if was_lost:
            self._sink.recovered(self)

    async def _list(self) -> None:
        params = {"labelSelector": self.selector, "limit": _PAGE}
        pods: list[FoundPod] = []
        unread: set[str] = set()
        while True:
            answer = await self._api.get(self._path, params)
            try:
                metadata = answer.get("metadata") or {}
                for item in answer.get("items") or ():
                    uid = str(item["metadata"]["uid"])
                    if (found := self._reader.pod(item)) is not None:
                        pods.append(found)
                    else:
                        unread.add(uid)
                version, following = str(metadata["resourceVersion"]), metadata.get("continue")
            except NOT_AN_OBJECT as error:
                raise ApiError(0, f"{self._path}: the answer is no list of pods: {error!r}") from error
            if not following:
                break
            params["continue"] = str(following)
        # A version below what was heard before: the cluster's state was restored from a backup.
        number = int(version) if version.isdecimal() else self._newest
        restored, self._newest = number < self._newest, number
        self.was_listed.set()
        self.answered.set()
        self.unseen_since = asyncio.get_running_loop().time()
        self._sink.replace(self, pods, unread, anyway=restored)
        self._version = version
        self._find()

    async def _watch(self) -> None:
        """Follow changes until the server ends the watch; this is as it was at the last event, in any case."""
        # Spread, so that not all watches end together.
        seconds = max(1, round(self._watch_seconds * random.uniform(0.75, 1.25)))
        params = {
            "labelSelector": self.selector,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version,
            "timeoutSeconds": str(seconds),
        }
        rest, clock = b"", asyncio.get_running_loop().time
        heard_at, half_open = clock(), False
        try:
            async with (
                asyncio.timeout(seconds + self._quiet_seconds),
                self._api.lines(self._path, params) as body,
            ):
                self._find()
                self.unseen_since, heard_at = None, clock()
                async for chunk in body.iter_any():
                    heard_at = clock()
                    *events, rest = (rest + chunk).split(b"\n")
                    for event in filter(None, events):
                        self._apply(event)
        except TimeoutError:
            half_open = True
            log.info("watch_silent", namespace=self.namespace or "*", selector=self.selector)
        except aiohttp.ClientError as error:
            raise ApiError(0, f"the watch broke: {error}") from error
        finally:
            if self.unseen_since is None:
                self.unseen_since = heard_at if half_open else clock()

    def _apply(self, line: bytes) -> None:
        """Take one watch event. A DELETED pod may only have lost its label."""
        try:
            event = self._reader.event(line)
        except NOT_AN_OBJECT as error:
            self._version = ""  # what it was to say is found out by a new list
            raise ApiError(0, f"the watch sent no event: {error!r}: {line[:200]!r}") from error
        if event.kind in ("ADDED", "MODIFIED"):
            self._sink.put(self, event.uid, event.pod)
        elif event.kind == "DELETED":
            self._sink.remove(self, event.uid, event.pod)
        self._version = event.version
        if event.version.isdecimal():
            self._newest = max(self._newest, int(event.version))


def _explain(error: ApiError, verb: str, namespace: str) -> str:
    if error.status == 403:
        where = f"in namespace {namespace}" if namespace else "in all namespaces"
        return f"no right to {verb} pods {where}: grant the verb {verb} on pods ({error.message})"
    if error.status == 401:
        return f"the API server does not accept our credentials (401): {error.message}"
    return f"HTTP {error.status}: {error.message}" if error.status else error.message
