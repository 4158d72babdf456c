"""A shard's bounded inbox of batches."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

from streamer.flow.uncommitted import Share
from streamer.model import LogBatch, Target


class Inbox:
    """Batches on their way from the followers of a shard to its one task.

    Bounded by bytes: `put` waits while `share` is used up, the follower stops reading, and TCP carries the pressure to
    the log's file, which is the buffer. What is taken counts until it is `settled`. A cancelled `put` has put nothing;
    a cancelled `wait` has taken nothing. It is full once `full_bytes` are pending, or somebody waits to put.
    """

    def __init__(self, share: Share, full_bytes: int, many_lines: int = 1) -> None:
        self._share = share
        self._full_bytes = full_bytes
        self._many_lines = many_lines
        self._waiting = 0
        self._batches: deque[LogBatch] = deque()
        self._pending_bytes = 0
        self._pending_lines = 0
        self._closed = False
        self._ended = asyncio.Event()
        self._filled = asyncio.Event()
        self._many = asyncio.Event()
        self._full = asyncio.Event()

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

    @property
    def uncommitted_bytes(self) -> int:
        """The size of what waits, and of what was taken and is not settled."""
        return self._share.held_bytes

    def full_from(self, full_bytes: int) -> None:
        """Be full with more, or less, from now on."""
        self._full_bytes = full_bytes
        self._tell()

    def holds(self, target: Target) -> bool:
        """Whether a batch of this target is pending."""
        return any(batch.target == target for batch in self._batches)

    async def put(self, batch: LogBatch) -> None:
        """Hand a batch over; waits while there is no room. One that is larger than all room goes in alone."""
        if not self._share.take_at_once(batch.size_bytes):
            self._waiting += 1
            self._tell()
            try:
                await self._share.take(batch.size_bytes)
            finally:
                self._waiting -= 1
                self._tell()
        if self._share.closed:
            return
        self._batches.append(batch)
        self._pending_bytes += batch.size_bytes
        self._pending_lines += len(batch.lines)
        self._tell()

    async def wait(self) -> None:
        """Return once a batch is there, or the inbox is closed."""
        await self._filled.wait()

    async def wait_closed(self) -> None:
        """Return once the inbox is closed."""
        await self._ended.wait()

    async def wait_many(self) -> None:
        """Return once `many_lines` are pending or the inbox is full, or it is closed."""
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
        self._tell()
        return taken

    def settled(self, batches: Iterable[LogBatch]) -> None:
        """What was taken is committed, or dropped: there is room for others."""
        self._share.give(sum(batch.size_bytes for batch in batches))

    def put_back(self, batches: Sequence[LogBatch]) -> None:
        """Have what was taken last in front again."""
        self._batches.extendleft(reversed(batches))
        self._pending_bytes += sum(batch.size_bytes for batch in batches)
        self._pending_lines += sum(len(batch.lines) for batch in batches)
        self._tell()

    def clear(self) -> None:
        """Drop what is pending: its lines will be read again from the committed positions."""
        pending_bytes = self._pending_bytes
        self._batches.clear()
        self._pending_bytes = self._pending_lines = 0
        self._tell()
        self._share.give(pending_bytes)

    def close(self) -> None:
        """Say that nothing more will be put; what is there can still be taken."""
        self._closed = True
        self._ended.set()
        self._tell()

    def abandon(self) -> None:
        """Nothing more will be taken: leave the room to others. What is put from now on is dropped."""
        self._share.close()

    def _tell(self) -> None:
        """Let those know who wait for what is there now."""
        full = self._closed or self._waiting > 0 or self._pending_bytes >= self._full_bytes
        _set(self._full, on=full)
        _set(self._many, on=full or self._pending_lines >= self._many_lines)
        _set(self._filled, on=self._closed or bool(self._batches))


def _set(event: asyncio.Event, *, on: bool) -> None:
    if on:
        event.set()
    else:
        event.clear()
