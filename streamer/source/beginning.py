"""Whether a log that is read from its first line begins with its container, or was rotated before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from streamer.model import GapReason, Instance
from streamer.source.ending import Ending
from streamer.source.patience import Patience
from streamer.source.pod_status import PodStatusCache
from streamer.source.pods import PodView
from streamer.source.progress import Progress

_SECOND_NS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class _Life:
    """An instance as its pod's status describes it; all times are the node's, in whole seconds."""

    instance: Instance | None
    started_ns: int | None
    ended_ns: int | None


class Beginning:
    """Reports a possible gap where a log's first line is much younger than its container.

    The kubelet looks at a file's size every 10 s, so a container that is younger than that has all of its log. A
    container that ran for longer has printed something.
    """

    def __init__(
        self,
        progress: Progress,
        status: PodStatusCache,
        ending: Ending,
        patience: Patience,
        *,
        watched: bool,
    ) -> None:
        self._progress = progress
        self._status = status
        self._ending = ending
        self._most_ns = int(patience.begin_seconds * _SECOND_NS)
        self._watched = watched
        """Whether the next log's first lines are ours to read: what was gone before the target was known is not."""

    async def of_current(self, first_ns: int | None) -> Instance | None:
        """Check the current log's first line (see `reader.Begin`)."""
        return await self._check(first_ns, previous=False)

    async def of_previous(self, first_ns: int | None) -> Instance | None:
        """Check the previous log's first line (see `reader.Begin`)."""
        return await self._check(first_ns, previous=True)

    async def _check(self, first_ns: int | None, *, previous: bool) -> Instance | None:
        watched, self._watched = self._watched, True

        def late(view: PodView) -> bool | None:
            life = _life(view, previous=previous)
            until_ns = life.ended_ns if first_ns is None else first_ns
            if life.started_ns is None or until_ns is None:
                return None
            return not -_SECOND_NS <= until_ns - life.started_ns <= self._most_ns

        # The status may be older than the log.
        if watched and self._progress.gap is None:
            await self._status.ask_until(lambda view: late(view) is False)
            if late(self._status.view):
                self._progress.miss(
                    GapReason.ROTATION_UNSEEN,
                    detail="the log does not begin with its container: it was rotated before it was read",
                    evidence={"case": "the log does not begin with its container"},
                )
        elif not previous and late(self._status.view) and await self._is_restarted():
            return self._status.view.instance
        if late(self._status.view) is False:
            return _life(self._status.view, previous=previous).instance
        return None

    async def _is_restarted(self) -> bool:
        """Whether the container was restarted, and the status showed that only now.

        Where a rotated log is the rule, this costs one request instead of the time that a status may be late.
        """
        if self._status.view.previous is not None or not await self._ending.has_previous():
            return False
        return await self._status.ask_until(lambda view: view.previous is not None)


def _life(view: PodView, *, previous: bool) -> _Life:
    if previous:
        return _Life(view.previous, view.previous_started_ns, view.previous_ended_ns)
    return _Life(view.instance, view.started_ns, view.ended_ns)
