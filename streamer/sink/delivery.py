"""Sending batches and waiting for every acknowledgement, and what a refusal means."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import aiokafka.errors as kafka_errors

from streamer.model import Reason
from streamer.sink.guarded import GuardedProducer, look_at
from streamer.sink.packing import Batch

_GRACE_SECONDS: Final = 1.0
"""After one failure the other partitions get so long to say theirs, so that one round finds all refusals."""

_REFUSALS: Final = {
    kafka_errors.MessageSizeTooLargeError: Reason.RECORD_TOO_LARGE,
    kafka_errors.RecordListTooLargeError: Reason.RECORD_TOO_LARGE,
    kafka_errors.RecordTooLargeError: Reason.RECORD_TOO_LARGE,
    kafka_errors.InvalidTimestampError: Reason.INVALID_TIMESTAMP,
}


class Delivery:
    """One round of batches on their way."""

    def __init__(self, producer: GuardedProducer) -> None:
        self._producer = producer
        self._unacknowledged = dict[int, Batch]()
        self.failures: list[tuple[Batch, BaseException]] = []

    async def run(self, lanes: Sequence[Sequence[Batch]]) -> bool:
        """Send each partition's batches in their order; True if all were acknowledged, else see `failures`.

        Returns soon after the first failure. May be cancelled.
        """
        tasks = set[asyncio.Task[None]]()
        waiting = set[asyncio.Future[Any]]()
        singles: list[tuple[Batch, asyncio.Future[Any]]] = []
        try:
            for lane in lanes:
                self._unacknowledged.update((id(batch), batch) for batch in lane)
                if len(lane) == 1:
                    singles.append((lane[0], await self._producer.send(lane[0])))
                elif lane:
                    tasks.add(asyncio.create_task(self._send_in_turn(lane)))
            waiting |= tasks
            waiting.update(future for _, future in singles)
            if waiting:
                _, rest = await asyncio.wait(waiting, return_when=asyncio.FIRST_EXCEPTION)
                if rest:
                    await asyncio.wait(rest, timeout=_GRACE_SECONDS)
        finally:
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks)
            for task in tasks:
                look_at(task)  # its failure stands in `failures`
            for batch, future in singles:
                self._settle(batch, future)
        return not self._unacknowledged

    def unacknowledged(self) -> str:
        """Which partitions have not answered, for a message."""
        names = sorted({f"{batch.topic}/{batch.partition}" for batch in self._unacknowledged.values()})
        return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")

    def refusals(self) -> list[tuple[Batch, Reason]]:
        """The batches that Kafka refused for what is in them."""
        return [(batch, _REFUSALS[type(error)]) for batch, error in self.failures if type(error) in _REFUSALS]

    async def _send_in_turn(self, lane: Sequence[Batch]) -> None:
        """Send one partition's batches: handing over the next waits until the one before is on the wire."""
        sent: list[tuple[Batch, asyncio.Future[Any]]] = []
        try:
            for batch in lane:
                if any(_failed(future) for _, future in sent[-2:]):
                    break  # what follows a failure in a partition fails for its sequence number alone
                try:
                    future = await self._producer.send(batch)
                except kafka_errors.KafkaError as error:
                    self.failures.append((batch, error))
                    raise
                sent.append((batch, future))
            for _, future in sent:
                await future
        finally:
            for batch, future in sent:
                self._settle(batch, future)

    def _settle(self, batch: Batch, future: asyncio.Future[Any]) -> None:
        if not future.done() or future.cancelled():
            return
        error = future.exception()
        if error is None:
            self._unacknowledged.pop(id(batch), None)
        else:
            self.failures.append((batch, error))


def _failed(future: asyncio.Future[Any]) -> bool:
    return future.done() and (future.cancelled() or future.exception() is not None)
