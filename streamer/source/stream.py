"""One open log request, read as lines with their times."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Final, NamedTuple, Self

import aiohttp

from streamer.source.api import ApiError, KubernetesApi, LogAnswer, LogQuery
from streamer.source.budget import Lane
from streamer.transform.read import LineReader, StampedLines

_A_MOMENT_SECONDS: Final = 0.002
_FINITE_SECONDS: Final = 30.0
"""So long silent, an answer that does not follow has died."""
_KUBELET_ERRORS: Final = ("failed to ", "unable to ", "rpc error", "error ")
_REMOVED: Final = ("unable to retrieve container logs for ", "rpc error: code = NotFound")
_FILE_MISSING: Final = "failed to try resolving symlinks in path "
_BEHIND_LINE: Final = re.compile(
    rb"(?:unable to retrieve container logs for [a-z-]+://[0-9a-f]{64}"
    rb'|rpc error: code = NotFound desc = an error occurred when try to find container "[0-9a-f]{64}": not found'
    rb"|failed to create fsnotify watcher: too many open files"
    rb'|failed to try resolving symlinks in path "[^"]+": lstat [^ ]+: no such file or directory)\Z'
)
"""The kubelet writes it directly behind a last line that has no newline. No alert ends like this."""


class KubeletError(ApiError):
    """The kubelet wrote into the body of its answer what kept it from going on."""

    def __init__(self, text: str) -> None:
        super().__init__(0, f"the kubelet says: {text}")


class LogRemovedError(KubeletError):
    """The container, and its log with it, was removed from the node; or its runtime does not answer."""


class LogFileMissingError(LogRemovedError):
    """The log's file is not there: it was removed with its container, or is being rotated."""


class LogChangedError(ApiError):
    """Two answers do not fit together: the log changed, or one was cut off. Says nothing about the node."""

    def __init__(self, text: str) -> None:
        super().__init__(0, text)


def is_log_removed(error: Exception) -> bool:
    """Whether a request failed because the container and its log are gone from the node."""
    return isinstance(error, LogRemovedError) or (
        isinstance(error, ApiError) and (error.status, error.kind) == (404, "pods/log")
    )


class Where(NamedTuple):
    """The address of a log. It has no uid: a later pod of the same name has the same."""

    namespace: str
    pod: str
    container: str
    node: str = ""


class LogStream:
    """The lines of one answer. Made by `open_log`; leaving its context closes it."""

    # Thousands are open at a time: a class that is its own context costs less than a generator that is one.
    __slots__ = ("_answer", "_body", "_last", "_reader", "_waiting", "arrived_at", "opened_at", "waited_at")

    def __init__(self, answer: LogAnswer, max_line_bytes: int) -> None:
        self._answer = answer
        self._body = answer.content
        self._reader = LineReader(max_line_bytes)
        self.opened_at = self.waited_at = asyncio.get_running_loop().time()
        """When all that had arrived was last read, on the loop's clock: since then we may be behind."""
        self.arrived_at = self.opened_at
        """When the last bytes arrived, at the earliest: what was read without waiting had come some time before."""
        self._waiting: asyncio.Timeout | None = None
        self._last: StampedLines | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def settle(self) -> None:
        """It is aligned, and no load of its own any more: others may be opened. As often as one likes."""
        self._answer.settle()

    def close(self) -> None:
        """Be done with it, at any time and as often as one likes."""
        self._answer.release()

    async def read(self, within_seconds: float | None = None) -> StampedLines | None:
        """The next lines, perhaps none of a chunk's; None at the end of the answer.

        Raises TimeoutError where nothing came in time (nothing is lost by that), `aiohttp.ClientError`.
        """
        loop = asyncio.get_running_loop()
        asked_at = loop.time()
        try:
            async with asyncio.timeout(within_seconds) as self._waiting:
                chunk = await self._body.readany()
        except TimeoutError:
            self.waited_at = loop.time()
            raise
        except aiohttp.ClientError:
            chunk = self._rescue()
            if not chunk:
                raise
        if chunk:
            self.arrived_at = max(self.arrived_at, self.waited_at)
        if loop.time() - asked_at > _A_MOMENT_SECONDS:
            self.waited_at = loop.time()
            if chunk:
                self.arrived_at = self.waited_at
        return self._reader.feed(chunk) if chunk else None

    def hurry(self, within_seconds: float) -> None:
        """Let whoever waits in `read` wait no longer than this from now on."""
        until = asyncio.get_running_loop().time() + within_seconds
        waiting = self._waiting
        if waiting is not None and (when := waiting.when()) is not None and until < when:
            with suppress(RuntimeError):  # it waits no more
                waiting.reschedule(until)

    async def pieces(self) -> AsyncIterator[StampedLines]:
        """What a finite answer brings, to its end. Raises `ApiError` where it stops half way, or ends with an error."""
        while True:
            try:
                piece = await self.read(_FINITE_SECONDS)
            except TimeoutError as error:
                raise ApiError(0, f"the answer has stopped for {_FINITE_SECONDS:.0f} s") from error
            if piece is None:
                self.check()
                return
            yield piece

    def check(self) -> None:
        """At the end of an answer: raise `KubeletError` where an error stands behind its last newline.

        Only the kubelet's own words are taken for that: a piece of an alert must not get into our log.
        """
        text = self._reader.unfinished[:300].decode(errors="replace")
        if text.startswith(_REMOVED):
            raise LogRemovedError(text)
        if text.startswith(_FILE_MISSING):
            raise LogFileMissingError(text)
        if text.startswith(_KUBELET_ERRORS):
            raise KubeletError(text)

    def last_line(self) -> StampedLines:
        """What stands after the last newline, as a line. At the end of an answer."""
        if self._last is None:
            self._last = _without_error(self._reader.finish())
        return self._last

    def _rescue(self) -> bytes:
        """What aiohttp had received before the connection broke: it raises the error before it gives that."""
        error = self._body.exception()
        self._body._exception = None  # noqa: SLF001  # there is no other way to it
        try:
            return self._body.read_nowait()
        finally:
            self._body._exception = error  # noqa: SLF001


async def open_log(
    api: KubernetesApi, where: Where, query: LogQuery, max_line_bytes: int, lane: Lane = Lane.OPEN
) -> LogStream:
    """Ask for a log. Raises `ApiError`."""
    answer = await api.log(where.namespace, where.pod, where.container, query, node=where.node, lane=lane)
    return LogStream(answer, max_line_bytes)


def _without_error(last: StampedLines) -> StampedLines:
    """A last line without the error text that the kubelet wrote behind it."""
    if last.lines and not last.oversize and (found := _BEHIND_LINE.search(last.lines[0])):
        last.lines[0] = last.lines[0][: found.start()]
    return last
