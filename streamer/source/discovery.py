"""Which pods there are: the union over selectors and namespaces, handed over as changes of single pods."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import structlog

from streamer.model import Target
from streamer.source.api import KubernetesApi
from streamer.source.podreader import PodReader
from streamer.source.pods import ANYWHERE, FoundPod, Origin, PodView
from streamer.source.podset import PodChange, PodSet
from streamer.source.scope import Scope
from streamer.source.unreachable import PENDING

_WATCH_SECONDS: Final = 60.0
"""How long a watch lasts, give or take a quarter: a half open one hides new pods for so long at the most."""
_QUIET_SECONDS: Final = 10.0
"""How long a watch may outlast its own timeout before it counts as dead."""
_EMPTY_SECONDS: Final = 60.0
"""How often the log says that no pod matches."""

log = structlog.get_logger()


class Discovery:
    """Keeps the set of targets, and hands over each change of one.

    Each scope, a selector in a namespace, is on its own: one that is forbidden or fails keeps no other from being
    followed.
    """

    def __init__(
        self,
        api: KubernetesApi,
        selectors: Sequence[str],
        namespaces: Sequence[str],
        container: str,
        *,
        origin: Origin = ANYWHERE,
        watch_seconds: float = _WATCH_SECONDS,
        quiet_seconds: float = _QUIET_SECONDS,
    ) -> None:
        self._container = container
        self._origin = origin
        self._pods = PodSet()
        reader = PodReader(container, origin)
        self._scopes = [
            Scope(
                api,
                self,
                reader,
                namespace,
                selector,
                1 << index,
                watch_seconds=watch_seconds,
                quiet_seconds=quiet_seconds,
            )
            for index, (namespace, selector) in enumerate(
                (namespace, selector) for namespace in namespaces or [""] for selector in selectors
            )
        ]
        self._missing_since: float | None = None
        self._said: set[str] = set()
        self.on_change: Callable[[PodChange], None] = lambda _: None
        """Called for each target that appears, changes, or leaves the watch."""
        self.on_recovery: Callable[[str], None] = lambda _: None
        """Called with a namespace, "" for all, whose list or watch works again after it failed."""

    # How it stands

    @property
    def settled(self) -> bool:
        """Whether at least one scope has been listed, and each of the others has been listed or has failed."""
        return any(scope.was_listed.is_set() for scope in self._scopes) and all(
            scope.answered.is_set() for scope in self._scopes
        )

    @property
    def troubles(self) -> Mapping[str, str]:
        """By namespace, "" for all, what keeps the API server from showing its pods; "" if nothing does."""
        causes: dict[str, str] = {}
        for scope in self._scopes:
            causes[scope.namespace] = causes.get(scope.namespace) or scope.trouble
        return causes

    def was_listed(self, namespace: str) -> bool:
        """Whether the pods of a namespace, "" for all, have been listed by each of its scopes."""
        return all(scope.was_listed.is_set() for scope in self._scopes if scope.namespace == namespace)

    @property
    def has_targets(self) -> bool:
        """Whether there is a target to follow."""
        return bool(self._pods.targets)

    @property
    def missing(self) -> str:
        """Why nothing can be followed although all is listed; "" if something can."""
        if self._pods.targets or not self.settled:
            return ""
        if not len(self._pods):
            return "no pod matches the selectors"
        if self.refused == len(self._pods):
            return "no matching pod has the owner or service account that is set"
        if any(self._container in pod.containers for pod in self._pods):
            return "no matching pod is on a node yet"
        return f"no matching pod has a container {self._container!r}"

    @property
    def refused(self) -> int:
        """How many pods match the selectors, but not the owner or service account that is set."""
        return sum(1 for pod in self._pods if pod.refusal) if self._origin != ANYWHERE else 0

    @property
    def blind_seconds(self) -> float:
        """For how long no watch of some scope has been open, or there has been no pod to follow."""
        self._note_missing()
        now = asyncio.get_running_loop().time()
        lost = [now - scope.unseen_since for scope in self._scopes if scope.unseen_since is not None]
        if self._missing_since is not None:
            lost.append(now - self._missing_since)
        return max(lost, default=0.0)

    # What there is

    def views(self) -> list[PodView]:
        """All targets."""
        return self._pods.views()

    def last_of(self, target: Target) -> PodView | None:
        """A target that left lately, as it was then."""
        return self._pods.last_of(target)

    def covers(self, namespace: str) -> bool:
        """Whether pods of a namespace are looked for."""
        return any(scope.covers(namespace) for scope in self._scopes)

    async def listed(self, namespace: str | None = None) -> None:
        """Return once every scope of a namespace has been listed; without one, once all have been."""
        for scope in self._scopes:
            if namespace is None or scope.covers(namespace):
                await scope.was_listed.wait()

    async def run(self) -> None:
        """List and watch until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for scope in self._scopes:
                tasks.create_task(scope.run(), name=f"watch {scope}")
            tasks.create_task(self._say_what_is_missing(), name="say what is missing")

    # What the scopes find

    def replace(self, scope: Scope, pods: list[FoundPod], unread: set[str], *, anyway: bool) -> None:
        """See `Sink`."""
        for change in self._pods.replace(scope.bit, pods, unread, anyway=anyway):
            self._hand_over(change)
        self._note_missing()

    def put(self, scope: Scope, uid: str, pod: FoundPod | None) -> None:
        """See `Sink`."""
        if pod is None:
            self._pods.keep(scope.bit, uid)
        else:
            self._hand_over(self._pods.put(scope.bit, pod))

    def remove(self, scope: Scope, uid: str, last: FoundPod | None) -> None:
        """See `Sink`."""
        self._hand_over(self._pods.remove(scope.bit, uid, last))

    def recovered(self, scope: Scope) -> None:
        """See `Sink`: the others need not wait any longer to find out whether they work again as well."""
        for other in self._scopes:
            if other is not scope and other.lost_at is not None:
                other.wake()
        self.on_recovery(scope.namespace)

    def _hand_over(self, change: PodChange | None) -> None:
        if change is not None:
            try:
                self.on_change(change)
            except Exception:
                log.exception("change_failed", target=change.view.target.id)
            self._note_missing()

    def _note_missing(self) -> None:
        if not self.missing:
            self._missing_since = None
        elif self._missing_since is None:
            self._missing_since = asyncio.get_running_loop().time()

    async def _say_what_is_missing(self) -> None:
        """Write the cause to the log while nothing can be followed; silence would look like a quiet cluster."""
        for scope in self._scopes:
            await scope.answered.wait()
        while True:
            self._note_missing()
            if not self.settled:
                pass
            elif not len(self._pods):
                log.warning(
                    "no_pod_matches",
                    selectors=sorted({scope.selector for scope in self._scopes}),
                    namespaces=sorted({scope.namespace or "*" for scope in self._scopes}),
                    fix="set kubernetes.selectors to your Falco pods' labels (kubectl get pods -A --show-labels)",
                )
            elif not any(self._container in pod.containers for pod in self._pods):
                log.warning(
                    "no_container_matches",
                    container=self._container,
                    containers=sorted({name for pod in self._pods for name in pod.containers}),
                    fix="set kubernetes.container to the container that runs Falco",
                )
            elif not self._pods.targets and self.refused < len(self._pods):
                log.warning("no_pod_scheduled", cause=self.missing, fix=PENDING)
            await asyncio.sleep(_EMPTY_SECONDS * random.uniform(0.75, 1.25))
