"""How the log of a container that has ended ends: compared with what was taken, and its last line."""

from __future__ import annotations

from typing import Final

from streamer.model import RING_LINES
from streamer.source.api import ApiError, LogQuery
from streamer.source.evidence import EndOfLog, StreamEnd
from streamer.source.pod_status import PodStatusCache
from streamer.source.progress import Progress
from streamer.source.search import LogEnd, TargetLog
from streamer.source.stream import KubeletError, LogChangedError, LogRemovedError
from streamer.transform import align
from streamer.transform.match import ends_before_last
from streamer.transform.read import StampedLines

_REMOVED_TRIES: Final = 3


class Ending:
    """One target's. Its methods raise `ApiError` and `aiohttp.ClientError`."""

    def __init__(self, log: TargetLog, progress: Progress, status: PodStatusCache) -> None:
        self._log = log
        self._progress = progress
        self._status = status

    async def compare(self, stream: StreamEnd | None) -> EndOfLog:
        """Compare the current log's end with what was taken, and take a last line without a newline.

        The container has ended; `stream` is how its last stream ended, while nothing contradicts that.
        """
        rest = None if stream is None else stream.rest
        return await self._compare(rest, stream, previous=False, alone=True)

    async def compare_previous(self, rest: StampedLines | None, *, alone: bool) -> EndOfLog:
        """The same for the previous log, which was read to `rest` behind its last newline.

        `alone`: a last line is taken also where it is the log's only one.
        """
        return await self._compare(rest, None, previous=True, alone=alone)

    async def _compare(
        self, rest: StampedLines | None, stream: StreamEnd | None, *, previous: bool, alone: bool
    ) -> EndOfLog:
        """Lines with a newline stand in a tail, whatever their times; a record that was cut does not (`end_after`)."""
        progress = self._progress
        ring = progress.ring
        tail = await self._log.end(LogQuery(tail_lines=RING_LINES + 1, previous=previous))
        follows = align.ends_with(ring, tail.ring)
        if tail.ring and not follows and not ends_before_last(ring, tail.ring):
            # It must follow what was taken: the status may be older than the log, which is a later instance's then.
            return EndOfLog.MORE
        end = await self._log.end_after(ring, progress.last_ns, previous=previous)
        if end.rest != tail.rest or (not end.rest.lines and self._is_new(rest)):
            end = await self._whole_end(tail.rest, end.rest, previous=previous)
        line = align.digests(end.rest.lines, end.rest.oversize)
        if line and ring.endswith(line):
            return EndOfLog.WHOLE
        if tail.ring:
            # The same log, both times; and its last line was taken.
            if not follows or not end.ring or align.find_ring(end.last, ring) is None:
                return EndOfLog.MORE
        elif not end.ring and not line:
            return EndOfLog.EMPTY
        elif end.ring or not (alone and (previous or await self._is_ours(end, stream))):
            return EndOfLog.MORE
        if line:
            await progress.hand_over(end.rest, progress.instance)
        return EndOfLog.WHOLE

    async def _whole_end(self, *shown: StampedLines, previous: bool) -> LogEnd:
        """The whole log's end, where shorter answers, which `shown` behind their last newlines, do not settle it.

        A full tail leaves out a record that was cut. A clock that was set back hides the last line, or its end, from
        an answer that begins at a time: then what is left of a line that was taken stands there as a last line. Two
        answers must agree on such a line.
        """
        query = LogQuery(previous=previous)
        end = await self._log.end(query)
        lines = [rest for rest in shown if rest.lines]
        if (lines or end.rest.lines) and end.rest not in lines and end != await self._log.end(query):
            raise LogChangedError("the log's end was served in two ways")
        return end

    def _is_new(self, rest: StampedLines | None) -> bool:
        """Whether it is a last line without a newline that was not taken."""
        if rest is None or not rest.lines:
            return False
        return not self._progress.ring.endswith(align.digests(rest.lines, rest.oversize))

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
        if stream is not None and stream.rest is not None and self._is_new(stream.rest):
            await self._progress.hand_over(stream.rest, self._progress.instance)

    async def has_previous(self) -> bool:
        """Whether there is a previous log, as far as the node knows: its pod's status may be older."""
        try:
            query = LogQuery(tail_lines=1, previous=True)
            await self._log.end(query)
        except KubeletError:
            pass  # what it says is about a container that was there
        except ApiError as error:
            if error.status == 400:
                return False
            raise
        return True

    async def has_no_previous(self, error: ApiError) -> bool:
        """Whether what a request for the previous log raised means that there is no such log.

        A kubelet removes ended containers, and the pod's status goes on naming the last one. Its answer is the same
        while the container runtime is away: so the present log must be served meanwhile.
        """
        if not isinstance(error, LogRemovedError):
            return error.status == 400
        for _ in range(_REMOVED_TRIES):
            await self._log.end(LogQuery(tail_lines=1))
            try:
                query = LogQuery(tail_lines=1, previous=True)
                await self._log.end(query)
            except LogRemovedError:
                continue
            except ApiError as other:
                if other.status == 400:
                    return True
                raise
            return False
        return True
