"""A shard's bounded inbox of batches."""

from __future__ import annotations

import asyncio
from collections import deque

from streamer.model import LogBatch


class Inbox:
    """Batches on their way from the followers of a shard to its one task.

    Bounded by bytes: `put` waits while it is full, the follower stops reading, and TCP carries the pressure to
    the log's file, which is the buffer. A cancelled `put` has put nothing; a cancelled `wait` has taken nothing.
    """

    def __init__(self, capacity_bytes: int) -> None:
        self._capacity_bytes = capacity_bytes
        self._batches: deque[LogBatch] = deque()
        self._pending_bytes = 0
        self._filled = asyncio.Event()
        self._emptied = asyncio.Event()
        self._emptied.set()

    def __len__(self) -> int:
        return len(self._batches)

    async def put(self, batch: LogBatch) -> None:
        """Hand a batch over; waits while the inbox is full. A batch larger than the inbox goes in alone."""
        while self._pending_bytes >= self._capacity_bytes:
            self._emptied.clear()
            await self._emptied.wait()
        self._batches.append(batch)
        self._pending_bytes += batch.size_bytes
        self._filled.set()

    async def wait(self) -> None:
        """Return once a batch is there."""
        await self._filled.wait()

    @property
    def full(self) -> bool:
        """Whether those who want to put have to wait."""
        return self._pending_bytes >= self._capacity_bytes

    def take(self, most_lines: int, most_bytes: int) -> list[LogBatch]:
        """Take batches in their order, whole, until the next one would pass a bound; at least one if any is there."""
        taken: list[LogBatch] = []
        lines = size_bytes = 0
        while self._batches:
            batch = self._batches[0]
            lines += len(batch.lines)
            size_bytes += batch.size_bytes
            if taken and (lines > most_lines or size_bytes > most_bytes):
                break
            taken.append(self._batches.popleft())
            self._pending_bytes -= batch.size_bytes
        if not self._batches:
            self._filled.clear()
        self._emptied.set()
        return taken

    def clear(self) -> None:
        """Drop what is pending: its lines will be read again from the committed positions."""
        self._batches.clear()
        self._pending_bytes = 0
        self._filled.clear()
        self._emptied.set()
