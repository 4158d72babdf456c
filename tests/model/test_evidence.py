"""What a stream's end is worth after what happened to it, in virtual time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from typing import Any, TypeVar
from unittest import mock

from streamer.model import Gap, GapReason
from streamer.source.api import ApiError
from streamer.source.reader import Reader
from tests.model.run import Container, Plan, Run, Write, scaled
from tests.model.server import Weather
from tests.model.worker import Line
from tests.unit.flow.virtual_time import VirtualTimeLoop

Result = TypeVar("Result")


def played(course: Coroutine[Any, Any, Result]) -> Result:
    random.seed(1)
    with scaled(Plan(())), asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(course)


def output_of(run: Run) -> list[Line | Gap]:
    (output,) = run.committed.output.values()
    return output


def gaps_of(run: Run) -> list[GapReason]:
    return [item.reason for item in output_of(run) if isinstance(item, Gap)]


async def _removed(run: Run) -> None:
    """The pod is deleted: its container ends and is removed at once, and its object goes a second later."""
    server, pod = run.server, run.pod
    assert pod is not None
    server.cluster.begin_deletion(pod)
    server.publish()
    await asyncio.sleep(0.1)
    run.banner()
    server.cluster.terminate(pod)
    server.publish()
    server.lose_ended()
    await asyncio.sleep(1.9)
    for opened in server._open:
        opened.body.end("clean")  # also one that has missed a file
    await asyncio.sleep(0.8)
    server.cluster.remove_pod(pod)
    server.publish()
    await asyncio.sleep(100.0)


def test_a_pod_that_cannot_be_requested_when_its_stream_ends_says_nothing_against_the_stream() -> None:
    """The API server fails once; the node has served the log to its end."""

    async def course() -> list[GapReason]:
        run = Run(Plan(()))
        worker = await run.begin()
        await asyncio.sleep(60.0)
        asked = 0
        ask = run.server.pod

        async def pod(namespace: str, name: str, **given: Any) -> dict[str, Any]:
            nonlocal asked
            asked += 1
            if asked == 1:
                raise ApiError(500, "away")
            return await ask(namespace, name, **given)

        with mock.patch.object(run.server, "pod", pod):
            await _removed(run)
        assert asked
        await worker.die(None)
        return gaps_of(run)

    assert played(course()) == []


def test_a_stream_that_was_renewed_is_not_believed_for_what_the_one_before_was_compared_with() -> None:
    """It stalls at once: what is written then is missed, and its container is gone before it is checked."""

    async def course() -> list[GapReason]:
        run = Run(Plan(()))
        worker = await run.begin()
        renew, renewed = Reader._renew, asyncio.Event()

        async def noted(reader: Reader, opened: Any) -> Any:
            run.banner()  # it is taken from the new stream's first lines
            other = await renew(reader, opened)
            renewed.set()
            return other

        with mock.patch.object(Reader, "_renew", noted):
            await renewed.wait()
        run.server.stall()
        await _removed(run)
        await worker.die(None)
        return gaps_of(run)

    assert played(course()) == [GapReason.POD_GONE]


def test_who_is_forbidden_is_woken_when_the_api_server_answers_again() -> None:
    async def course() -> int:
        run = Run(Plan(()))
        worker = await run.begin()
        await asyncio.sleep(60.0)
        run.server.outage = ApiError(403, "forbidden")
        run.server.cut("dirty")
        await asyncio.sleep(3.0)
        run.server.outage = None
        await run._happen(Write(1))
        assert worker._fleet is not None
        worker._fleet.wake("")
        await asyncio.sleep(2.0)
        await worker.die(None)
        return sum(isinstance(item, Line) for item in output_of(run))

    assert played(course()) == 2


def test_a_server_that_asks_for_a_pause_gets_it_whatever_the_watch_reports() -> None:
    async def course() -> int:
        run = Run(Plan((), Weather()))
        worker = await run.begin()
        await asyncio.sleep(60.0)
        run.server.outage = ApiError(429, "slower", retry_after_seconds=20.0)
        run.server.cut("dirty")
        await asyncio.sleep(1.0)
        asked = sum(run.server.requests.values())
        await run._happen(Container("restart"))
        await asyncio.sleep(15.0)
        asked = sum(run.server.requests.values()) - asked
        await worker.die(None)
        return asked

    assert played(course()) == 0


def test_a_log_that_is_rotated_while_the_status_is_awaited_is_read() -> None:
    """The position was rotated away, and the status may be older than the log: that takes 5 s to find out."""

    async def course() -> list[bytes]:
        run = Run(Plan(()))
        worker = await run.begin()
        await asyncio.sleep(60.0)
        await run._happen(Container("restart"))
        await run._happen(Write(3))
        await asyncio.sleep(60.0)
        await worker.die(None)
        assert run.pod is not None
        run.server.cluster.rotate(run.pod)
        await run._happen(Write(70))
        worker = run._start()
        await asyncio.sleep(3.0)
        before = run.number
        run.server.cluster.rotate(run.pod)
        await run._happen(Write(1))
        await asyncio.sleep(10.0)
        await worker.die(None)
        lines = [item.raw for item in output_of(run) if isinstance(item, Line)]
        assert gaps_of(run) == [GapReason.ROTATION_UNSEEN]
        return [
            b'{"n":%d}' % number
            for number in range(before - 69, before + 2)
            if not any(line.endswith(b'{"n":%d}' % number) for line in lines)
        ]

    assert played(course()) == []
