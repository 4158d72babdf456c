"""`falco-streamer` with a fault planted into its sink, to see that the judge turns red.

`python -P planted.py FAULT run ...`: each fault strikes once in the life of a worker's folder, also over restarts.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any
from zlib import crc32

from streamer.cli import main
from streamer.model import Publication
from streamer.sink.delivery import Delivery
from streamer.sink.guarded import GuardedProducer
from streamer.sink.packing import Batch
from streamer.sink.producer import ShardProducer
from streamer.transform import outcome, writer
from streamer.transform.parse import parse
from streamer.transform.summary import Part, summary_values

_AFTER = 10
"""Commits or batches that go well before."""
_calls = count()
_sign = Path("fault-was-planted").absolute()


def _strikes_now(after: int = _AFTER) -> bool:
    if next(_calls) < after or _sign.exists():
        return False
    _sign.touch()
    return True


def nothing() -> None:
    """For comparison: all else is as with a fault."""


def skip_one_send() -> None:
    """One batch of alerts is taken for sent that never was."""
    send = GuardedProducer.send

    async def planted(self: GuardedProducer, batch: Batch) -> asyncio.Future[Any]:
        if ".alerts." not in batch.topic or not _strikes_now():
            return await send(self, batch)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        future.set_result(None)
        return future

    GuardedProducer.send = planted  # type: ignore[method-assign]


def skip_one_state_write() -> None:
    """One position is left out of a transaction that has alerts; a crash follows, or the next would mend it."""
    publish = ShardProducer.publish

    async def planted(self: ShardProducer, publication: Publication, **how: frozenset[str]) -> None:
        places = [change for change in publication.changes if change.key.startswith("position/")]
        alerts = {record.key for record in publication.records if ".alerts." in record.topic}
        ours = [change for change in places if change.key.split("/")[2].encode() in alerts_of(alerts)]
        if not ours or not _strikes_now():
            await publish(self, publication, **how)
            return
        changes = [change for change in publication.changes if change is not ours[0]]
        await publish(self, replace(publication, changes=changes), **how)
        os.kill(os.getpid(), signal.SIGKILL)

    ShardProducer.publish = planted  # type: ignore[method-assign]


def alerts_of(keys: set[bytes]) -> set[bytes]:
    """The pods' names in the records' keys, which are `namespace/pod`."""
    return {key.rpartition(b"/")[2] for key in keys}


def commit_despite_a_failure() -> None:
    """One transaction is committed although Kafka refused a batch of it."""
    run = Delivery.run

    async def planted(self: Delivery, lanes: Sequence[Sequence[Batch]]) -> bool:
        return await run(self, lanes) or (bool(self.failures) and _strikes_now(after=0))

    Delivery.run = planted  # type: ignore[method-assign]


def freeze_before_commit() -> None:
    """The process stands still when all of a transaction is written and acknowledged, but not committed."""
    commit = GuardedProducer.commit

    async def planted(self: GuardedProducer) -> None:
        if _strikes_now():
            os.kill(os.getpid(), signal.SIGSTOP)
        await commit(self)

    GuardedProducer.commit = planted  # type: ignore[method-assign]


def fail_at_some_lines() -> None:
    """The core fails at some alerts, by their bytes: the same ones each time that they are read."""

    def planted(body: bytes, *others: Any) -> Any:
        if is_bad_line(body):
            raise ValueError(body.decode())
        return parse(body, *others)

    outcome.parse = planted  # type: ignore[assignment, attr-defined]


def is_bad_line(body: bytes) -> bool:
    """Whether `fail_at_some_lines` fails at it: one of 50."""
    return crc32(body) % 50 == 0


def fail_at_some_summaries() -> None:
    """The core fails at summaries of some rules."""
    values = summary_values

    def planted(part: Part, *others: Any, **named: Any) -> list[bytes]:
        if is_bad_rule(part.sample.rule):
            raise ValueError(part.sample.body.decode())
        return values(part, *others, **named)

    writer.summary_values = planted  # type: ignore[attr-defined]


def is_bad_rule(rule: str) -> bool:
    """Whether `fail_at_some_summaries` fails at it: one of 2."""
    return crc32(rule.encode()) % 2 == 0


FAULTS = {
    each.__name__: each
    for each in (
        nothing,
        skip_one_send,
        skip_one_state_write,
        commit_despite_a_failure,
        freeze_before_commit,
        fail_at_some_lines,
        fail_at_some_summaries,
    )
}

if __name__ == "__main__":
    FAULTS[sys.argv.pop(1)]()
    main()
