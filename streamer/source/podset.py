"""The union of what several lists and watches show, by pod uid, kept one pod at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from streamer.model import Target
from streamer.source.pods import FoundPod, PodView

_LEFT: Final = 1000
"""How many of the pods that left are remembered."""


@dataclass(frozen=True, slots=True)
class PodChange:
    """A target appeared or changed, or left the watch: its pod was deleted, or does not match any more."""

    view: PodView
    """As it is now, or as it was when it left."""
    present: bool


@dataclass(slots=True)
class _Known:
    pod: FoundPod
    scopes: int
    """The scopes that show it, as bits."""


class PodSet:
    """Pods by uid. A scope is a bit; several may show the same pod, each at its own time.

    A state is never replaced by an older one, by resource version. Each method costs the same for one pod and for
    5,000, except `replace`.
    """

    def __init__(self) -> None:
        self._known: dict[str, _Known] = {}
        self._left: dict[str, FoundPod] = {}
        self.targets = 0
        """How many pods have a target."""

    def __len__(self) -> int:
        return len(self._known)

    def __iter__(self) -> Iterator[FoundPod]:
        return (known.pod for known in self._known.values())

    def views(self) -> list[PodView]:
        """All targets."""
        return [known.pod.view for known in self._known.values() if known.pod.view is not None]

    def last_of(self, target: Target) -> PodView | None:
        """A target that left lately, as it was then."""
        left = self._left.get(target.uid)
        return None if left is None else left.view

    def put(self, scope: int, pod: FoundPod, *, anyway: bool = False) -> PodChange | None:
        """A scope shows a pod; `anyway`, also an older state of it. What follows for its target, if anything."""
        known = self._known.get(pod.uid)
        if known is None:
            left = self._left.get(pod.uid)
            if left is not None and pod.is_older_than(left) and not anyway:
                return None  # this scope is late, and will show its departure as well
            self._left.pop(pod.uid, None)
            self._known[pod.uid] = _Known(pod, scope)
            return self._change(None, pod.view)
        known.scopes |= scope
        if not anyway and pod.version is not None and not known.pod.is_older_than(pod):
            return None
        before, known.pod = known.pod.view, pod
        return self._change(before, pod.view)

    def keep(self, scope: int, uid: str) -> None:
        """A scope shows a pod in a state that cannot be read: what was known of it stays."""
        if (known := self._known.get(uid)) is not None:
            known.scopes |= scope

    def remove(self, scope: int, uid: str, last: FoundPod | None = None) -> PodChange | None:
        """A scope does not show a pod any more; `last` is how it left, if that is known."""
        known = self._known.get(uid)
        if known is None or not known.scopes & scope:
            return None
        known.scopes &= ~scope
        if known.scopes:
            return None
        del self._known[uid]
        pod = known.pod if last is None or last.view is None or last.is_older_than(known.pod) else last
        self._left[uid] = pod
        if len(self._left) > _LEFT:
            del self._left[next(iter(self._left))]
        change = self._change(known.pod.view, None)
        return change if change is None or pod.view is None else PodChange(pod.view, present=False)

    def replace(
        self, scope: int, pods: Iterable[FoundPod], unread: set[str], *, anyway: bool = False
    ) -> Iterator[PodChange]:
        """A scope shows these pods, those `unread`, and no others."""
        shown = set(unread)
        for uid in unread:
            self.keep(scope, uid)
        for pod in pods:
            shown.add(pod.uid)
            if (change := self.put(scope, pod, anyway=anyway)) is not None:
                yield change
        # Who left while nothing was watched; how is not known.
        for uid in [uid for uid, known in self._known.items() if known.scopes & scope and uid not in shown]:
            if (change := self.remove(scope, uid)) is not None:
                yield change

    def _change(self, before: PodView | None, now: PodView | None) -> PodChange | None:
        self.targets += (now is not None) - (before is not None)
        if now is not None:
            return None if now == before else PodChange(now, present=True)
        return None if before is None else PodChange(before, present=False)
