"""Check a silent stream: a kubelet can fall silent for ever at a rotation (decision 4)."""

from __future__ import annotations

import asyncio

import aiohttp
import structlog

from streamer.source.api import ApiError
from streamer.source.open_stream import OpenStream
from streamer.source.patience import EMPTY_PROBES, Patience
from streamer.source.pod_status import PodStatusCache
from streamer.source.probes import ProbeTurns
from streamer.source.progress import Progress
from streamer.source.search import TargetLog
from streamer.source.stream import is_log_removed

log = structlog.get_logger()


class SilenceCheck:
    """One target's: whether its log has more than its stream brought."""

    __slots__ = ("_empty_probes", "_log", "_patience", "_probes", "_progress", "_status", "_turns")

    def __init__(
        self,
        log: TargetLog,
        progress: Progress,
        status: PodStatusCache,
        patience: Patience,
        turns: ProbeTurns,
    ) -> None:
        self._log = log
        self._progress = progress
        self._status = status
        self._patience = patience
        self._turns = turns
        self._probes = 0
        """How often in a row it was checked and had brought everything."""
        self._empty_probes = 0
        """How often in a row its log was empty."""

    def opened(self) -> None:
        """Another stream is read."""
        self._probes = 0

    def heard(self) -> None:
        """The stream has brought lines."""
        self._probes = self._empty_probes = 0

    async def check(self, opened: OpenStream) -> tuple[float, bool]:
        """Check whether the log has more than the stream brought: how long to wait now, and whether for something."""
        patience, ring = self._patience, self._progress.ring
        doubted, opened.in_doubt = opened.in_doubt, True
        asked_at = asyncio.get_running_loop().time()
        wanted_seconds = patience.seconds_to_probe(self._probes, self._progress.mean_pause_seconds)
        long_seconds = self._turns.take(asked_at, wanted_seconds)
        ended = not self._status.view.running
        try:
            async with asyncio.timeout(patience.answer_seconds):
                if ended:  # what stands behind the last newline is a line now, and a tail may leave it out
                    end = await self._log.end_after(ring, self._progress.last_ns)
                else:
                    end = await self._log.last_line(expected=ring)
        except asyncio.CancelledError:
            opened.in_doubt = doubted  # lines have come meanwhile
            raise
        except (ApiError, aiohttp.ClientError, TimeoutError) as error:
            # The stream itself may be well: a deleted pod's is.
            log.debug("probe_failed", where=self._log.where, cause=repr(error))
            if is_log_removed(error) or (
                isinstance(error, ApiError) and error.is_pod_gone
            ):  # that says nothing against the stream
                opened.in_doubt = doubted
            return long_seconds, False
        wait_seconds = long_seconds
        if not end.ring and ring:
            self._empty_probes += 1
            opened.in_doubt = doubted  # it was rotated, and nothing was written since
            behind_seconds = asked_at - opened.last_taken_at + opened.lag.late_seconds
            if not end.rest.lines and behind_seconds < patience.rotation_seconds:
                opened.compared_at = asked_at  # it was rotated once: the last line taken was the file's last
            elif doubted and opened.compared_at <= opened.last_taken_at:
                opened.found_empty = True
            if self._empty_probes <= EMPTY_PROBES:
                wait_seconds = patience.empty_seconds
        else:
            self._empty_probes = 0
            if not ring.endswith(end.last):
                opened.awaited = end.last
                return patience.stalled_seconds, True
            self._probes += 1
            opened.in_doubt, opened.caught_up = False, True
            opened.lag.compared(asked_at)
            if not end.rest.lines:  # else it has more, once its container has ended
                opened.compared_at = asked_at
        # A container that has ended prints no more, and its stream should end.
        return (patience.stalled_seconds, True) if ended else (wait_seconds, False)
