"""Whether a pod that is not in the watch any more has left, or has only lost its label."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from streamer.flow.backoff import Backoff
from streamer.model import Target
from streamer.source.api import ApiError, KubernetesApi
from streamer.source.pods import NOT_AN_OBJECT, PodView, is_leaving
from streamer.source.rights import Rights

_FIRST_SECONDS: Final = 5.0
_MOST_SECONDS: Final = 60.0

log = structlog.get_logger()


class Departure:
    """What is known of one target's departure. That a pod has left, or is being deleted, stays so."""

    __slots__ = ("_api", "_backoff", "_left", "_rights", "_target", "again_seconds")

    def __init__(self, api: KubernetesApi, rights: Rights, target: Target) -> None:
        self._api = api
        self._rights = rights
        self._target = target
        self._left = False
        self._backoff = Backoff(_FIRST_SECONDS, _MOST_SECONDS)
        self.again_seconds = 0.0
        """How long to wait before the question is put again, where it had no answer."""

    def note(self, last: PodView | None) -> None:
        """It is not in the watch any more; `last` is how it left, if that is known."""
        self._left = self._left or (last is not None and last.deleting)

    def hurry(self) -> None:
        """The API server answers again."""
        self._backoff.reset()

    async def has_left(self) -> bool | None:
        """Whether the pod is gone or being deleted; False if it lives on, None if that cannot be known now."""
        if self._left:
            return True
        namespace, now = self._target.namespace, asyncio.get_running_loop().time()
        self.again_seconds = self._rights.seconds_to_turn(namespace, now)
        if self.again_seconds:
            return None
        try:
            pod = await self._api.pod(namespace, self._target.pod)
            if is_leaving(pod, self._target.uid):  # else the watch may have said so meanwhile
                self._left = True
        except ApiError as error:
            if not error.is_pod_gone:
                await self._fail(error)
                return None
            self._left = True
        except NOT_AN_OBJECT as error:
            log.warning("pod_unreadable", pod=self._target.pod_name, cause=repr(error))
            self.again_seconds = self._backoff.next_seconds()
            return None
        self._rights.granted(namespace)
        self._backoff.reset()
        return self._left

    async def _fail(self, error: ApiError) -> None:
        namespace, now = self._target.namespace, asyncio.get_running_loop().time()
        if error.status == 401:
            await self._api.renew_token()
        if error.status == 403:
            if self._rights.refused(namespace, now):
                fix = f"grant verb get on pods in namespace {namespace}"
                log.error("pods_forbidden", namespace=namespace, cause=error.message, fix=fix)
            self.again_seconds = self._rights.seconds_to_turn(namespace, now)
        else:
            self._rights.granted(namespace)
            self.again_seconds = max(self._backoff.next_seconds(), error.retry_after_seconds or 0.0)
