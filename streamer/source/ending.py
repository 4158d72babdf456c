"""How the log of a container that has ended ends: compared with what was taken, and its last line."""

from __future__ import annotations

from functools import partial
from typing import Final

from streamer.source.api import ApiError, KubernetesApi, LogQuery
from streamer.source.evidence import EndOfLog, StreamEnd
from streamer.source.pod_status import PodStatusCache
from streamer.source.progress import Progress
from streamer.source.search import LogEnd, end_after, log_end
from streamer.source.stream import LogChangedError, LogRemovedError, Where
from streamer.transform import align

_REMOVED_TRIES: Final = 3


class Ending:
    """One target's. Its methods raise `ApiError` and `aiohttp.ClientError`."""

    def __init__(
        self,
        api: KubernetesApi,
        where: Where,
        progress: Progress,
        status: PodStatusCache,
        max_line_bytes: int,
    ) -> None:
        self._api = api
        self._where = where
        self._progress = progress
        self._status = status
        self._max_line_bytes = max_line_bytes

    async def compare(self, stream: StreamEnd | None) -> EndOfLog:
        """Compare the current log's end with what was taken, and take a last line without a newline.

        The container has ended; `stream` is how its last stream ended, while nothing contradicts that.
        """
        return await self._compare(stream, previous=False, alone=True)

    async def compare_previous(self, *, alone: bool) -> EndOfLog:
        """The same for the previous log. `alone`: a last line is taken also where it is the log's only one."""
        return await self._compare(None, previous=True, alone=alone)

    async def _compare(self, stream: StreamEnd | None, *, previous: bool, alone: bool) -> EndOfLog:
        progress = self._progress
        request = partial(
            end_after,
            self._api,
            self._where,
            self._max_line_bytes,
            ring=progress.ring,
            last_ns=progress.last_ns,
            previous=previous,
        )
        end = await request()
        if not end.rest.lines and self._brought_more(stream):
            # A clock that was set back hides a last line from an answer that begins at a time.
            request = partial(
                log_end, self._api, self._where, LogQuery(previous=previous), self._max_line_bytes
            )
            end = await request()
        if end.rest.lines and end != await request():  # two answers must agree on such a line
            raise LogChangedError("the log's end was served in two ways")
        line = align.digests(end.rest.lines, end.rest.oversize)
        if line and progress.ring.endswith(line):
            return EndOfLog.WHOLE
        if end.ring:
            # It must follow what was taken: the status may be older than the log, which is a later instance's then.
            if not align.ends_with(progress.ring, end.ring):
                return EndOfLog.MORE
        elif not line:
            return EndOfLog.EMPTY
        elif not (alone and (previous or await self._is_ours(end, stream))):
            return EndOfLog.MORE
        if line:
            await progress.hand_over(end.rest, progress.instance)
        return EndOfLog.WHOLE

    def _brought_more(self, stream: StreamEnd | None) -> bool:
        """Whether the stream brought a last line without a newline that was not taken."""
        if stream is None or stream.rest is None or not stream.rest.lines:
            return False
        return not self._progress.ring.endswith(align.digests(stream.rest.lines, stream.rest.oversize))

    async def _is_ours(self, end: LogEnd, stream: StreamEnd | None) -> bool:
        """Whether a log's only line, one without a newline, is of the instance that was read.

        It must be what the last stream ended with, or that have ended with nothing; and the status show no later
        instance that may have written it.
        """
        instance = self._progress.instance
        rest = None if stream is None else stream.rest
        if rest is None or (rest.lines and rest != end.rest):
            return False
        return not await self._status.ask_until(lambda view: view.running or view.instance != instance)

    async def take_rest(self, stream: StreamEnd | None) -> None:
        """The log is gone: what its stream brought behind the last newline was its last line."""
        if stream is not None and stream.rest is not None and self._brought_more(stream):
            await self._progress.hand_over(stream.rest, self._progress.instance)

    async def has_no_previous(self, error: ApiError) -> bool:
        """Whether what a request for the previous log raised means that there is no such log.

        A kubelet removes ended containers, and the pod's status goes on naming the last one. Its answer is the same
        while the container runtime is away: so the present log must be served meanwhile.
        """
        if not isinstance(error, LogRemovedError):
            return error.status == 400
        for _ in range(_REMOVED_TRIES):
            await log_end(self._api, self._where, LogQuery(tail_lines=1), self._max_line_bytes)
            try:
                query = LogQuery(tail_lines=1, previous=True)
                await log_end(self._api, self._where, query, self._max_line_bytes)
            except LogRemovedError:
                continue
            except ApiError as other:
                if other.status == 400:
                    return True
                raise
            return False
        return True
