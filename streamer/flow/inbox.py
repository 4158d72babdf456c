"""A shard's bounded inbox of batches."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence

from streamer.model import LogBatch, Target


class Inbox:
    """Batches on their way from the followers of a shard to its one task.

    Bounded by bytes: `put` waits while it is full, the follower stops reading, and TCP carries the pressure to
    the log's file, which is the buffer. A cancelled `put` has put nothing; a cancelled `wait` has taken nothing.
    """

    def __init__(self, capacity_bytes: int, many_lines: int = 1) -> None:
        self._capacity_bytes = capacity_bytes
        self._many_lines = many_lines
        self._batches: deque[LogBatch] = deque()
        self._pending_bytes = 0
        self._pending_lines = 0
        self._closed = False
        self._filled = asyncio.Event()
        self._many = asyncio.Event()
        self._full = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[LogBatch]:
        return iter(self._batches)

    @property
    def pending_bytes(self) -> int:
        """The size of what waits."""
        return self._pending_bytes

    @property
    def closed(self) -> bool:
        """Whether nothing more will come."""
        return self._closed

    def resize(self, capacity_bytes: int) -> None:
        """Have room for more or less from now on; what is there stays."""
        self._capacity_bytes = capacity_bytes
        self._mark()
        self._settle()

    def holds(self, target: Target) -> bool:
        """Whether a batch of this target is pending."""
        return any(batch.target == target for batch in self._batches)

    async def put(self, batch: LogBatch) -> None:
        """Hand a batch over; waits while the inbox is full. A batch larger than the inbox goes in alone."""
        while not self._room.is_set():
            await self._room.wait()
        self._batches.append(batch)
        self._pending_bytes += batch.size_bytes
        self._pending_lines += len(batch.lines)
        self._filled.set()
        self._mark()

    async def wait(self) -> None:
        """Return once a batch is there, or the inbox is closed."""
        await self._filled.wait()

    async def wait_many(self) -> None:
        """Return once `many_lines` wait or the inbox is full, or it is closed."""
        await self._many.wait()

    async def wait_full(self) -> None:
        """Return once those who want to put have to wait, or the inbox is closed."""
        await self._full.wait()

    def take(self, most_lines: int, most_bytes: int) -> list[LogBatch]:
        """Take whole batches in order until the next one would pass a bound; at least one if any is there."""
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
            self._pending_lines -= len(batch.lines)
        self._settle()
        return taken

    def put_back(self, batches: Sequence[LogBatch]) -> None:
        """Have what was taken last in front again."""
        self._batches.extendleft(reversed(batches))
        self._pending_bytes += sum(batch.size_bytes for batch in batches)
        self._pending_lines += sum(len(batch.lines) for batch in batches)
        if batches:
            self._filled.set()
        self._mark()

    def clear(self) -> None:
        """Drop what is pending: its lines will be read again from the committed positions."""
        self._batches.clear()
        self._pending_bytes = self._pending_lines = 0
        self._settle()

    def close(self) -> None:
        """Say that nothing more will be put; what is there can still be taken."""
        self._closed = True
        self._filled.set()
        self._many.set()
        self._full.set()

    def _mark(self) -> None:
        """There is more than before, or less room."""
        if self._pending_lines >= self._many_lines:
            self._many.set()
        if self._pending_bytes >= self._capacity_bytes:
            self._many.set()
            self._full.set()
            self._room.clear()

    def _settle(self) -> None:
        if self._pending_bytes < self._capacity_bytes:
            self._room.set()
            if not self._closed:
                self._full.clear()
                if self._pending_lines < self._many_lines:
                    self._many.clear()
        if not self._batches and not self._closed:
            self._filled.clear()
