"""The contract between a shard and whatever its publications go to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

from streamer.model import Publication, Reason
from streamer.transform.plan import EVERY_WINDOW, CoreFailedError, Refusal, WindowFailedError

_MANY_WINDOWS: Final = 8
"""After so many failures at windows, in one publication, the fault is not one window's."""


class PublishError(Exception):
    """A publication did not come through as asked. The publisher must be opened again before the next one."""


class PublishFailed(PublishError):  # noqa: N818  # what happened, not a mistake of anybody's
    """It did not, or may not have, come through; the state as loaded by `open` shows which."""


class Fenced(PublishError):  # noqa: N818
    """Another owner has taken the shard over, or the broker ended our transaction for its age.

    The answer is the same for both. Taking the shard back at once would fence the other in turn.
    """


class BatchRefused(PublishError):  # noqa: N818
    """A batch of several records was refused for one of them: publish again with these topics isolated."""

    def __init__(self, topics: frozenset[str], reason: Reason) -> None:
        super().__init__(f"a batch was refused ({reason}) by {', '.join(sorted(topics))}")
        self.topics = topics
        self.reason = reason


class RecordsRefused(PublishError):  # noqa: N818
    """Exactly these records are refused for themselves, each time; ids by topic."""

    def __init__(self, records: Mapping[str, frozenset[str]], reason: Reason) -> None:
        count = sum(map(len, records.values()))
        super().__init__(f"{count} record(s) were refused ({reason}) by {', '.join(sorted(records))}")
        self.records = records
        self.reason = reason


class Refusals(dict[str, Refusal]):
    """What was refused while one publication was tried, and what the core failed at: the next try does without."""

    def __init__(self) -> None:
        super().__init__()
        self._failed_windows = 0

    def add(self, error: RecordsRefused) -> int:
        """Count a refusal; returns how often the record refused most often was refused."""
        for identity in frozenset[str]().union(*error.records.values()):
            self._count(identity, error.reason)
        return max(refusal.times for refusal in self.values())

    def add_failure(self, error: CoreFailedError) -> int:
        """Count a failure of the core at a part; returns how often it has failed at it.

        Where it has failed at many windows, no other window is tried.
        """
        times = self._count(error.key, Reason.INTERNAL_ERROR).times
        if isinstance(error, WindowFailedError):
            self._failed_windows += 1
            if self._failed_windows == _MANY_WINDOWS:
                self._count(EVERY_WINDOW, Reason.INTERNAL_ERROR)
        return times

    def _count(self, name: str, reason: Reason) -> Refusal:
        before = self[name].reasons if name in self else ()
        self[name] = counted = Refusal((*before, reason))
        return counted


class Publisher(Protocol):
    """One shard's way out. Used by one task at a time."""

    @property
    def ready(self) -> bool:
        """Whether `publish` may be called; if not, `open` comes first. A publication may leave it not ready."""
        ...

    async def open(self) -> list[tuple[str, bytes]]:
        """Take the shard over, then load its state: live keys and values. Raises `PublishError`."""
        ...

    async def publish(self, publication: Publication, *, isolate: frozenset[str] = frozenset()) -> None:
        """Write all of it or nothing; records of topics in `isolate` are sent one by one.

        Raises `PublishError`; then nothing is visible, unless it is `PublishFailed`, which leaves it open.
        """
        ...

    async def close(self) -> None:
        """Let the shard go. Never raises, never hangs."""
        ...
