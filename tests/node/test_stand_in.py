"""The stand-in for a kubelet, which all quicker tests read from, answers as a real node does."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator

import pytest

from tests.node.labs import Answer, Lab, lab
from tests.testbed.node import Node

pytestmark = [pytest.mark.real, pytest.mark.node]

SECONDS = 20


@pytest.fixture(params=["stand-in", "node"])
async def pod(request: pytest.FixtureRequest, node: Node) -> AsyncIterator[Lab]:
    async with lab(node, request.param) as made:
        yield made


async def test_the_log_of_a_running_container_and_its_tail(pod: Lab) -> None:
    await pod.create(20)
    assert await _ask(pod) == (200, _text(pod.written(0)))
    assert await _ask(pod, tailLines="3") == (200, _text(pod.written(0)[-3:]))
    assert await _ask(pod, tailLines="0") == (200, b"")
    assert await _ask(pod, limitBytes="5") == (200, pod.written(0)[0][:5])


async def test_a_container_that_has_not_started(pod: Lab) -> None:
    await pod.create_waiting()
    for params in ({}, {"follow": "true"}):
        status, text = await _ask(pod, **params)
        assert status == 400
        assert b'container \\"falco\\" in pod \\"falco\\" is waiting to start: ContainerCreating' in text


async def test_a_container_that_has_no_previous_instance(pod: Lab) -> None:
    await pod.create(1)
    status, text = await _ask(pod, previous="true")
    assert status == 400
    assert b'previous terminated container \\"falco\\" in pod \\"falco\\" not found' in text


async def test_a_follow_of_a_tail_ends_cleanly_with_its_container(pod: Lab) -> None:
    await pod.create(20)
    async with asyncio.timeout(SECONDS), pod.open(follow="true", tailLines="2") as answer:
        assert await answer.content.readline() == pod.written(0)[-2] + b"\n"
        await pod.crash()
        assert await answer.content.read() == _text(pod.written(0)[-1:])
    assert await _ask(pod) == (200, _text(pod.written(1)))
    assert await _ask(pod, previous="true") == (200, _text(pod.written(0)))
    assert await _ask(pod, previous="true", follow="true") == (200, _text(pod.written(0)))


async def test_a_previous_instance_that_was_removed_is_an_error_text_with_status_200(pod: Lab) -> None:
    await pod.create(20)
    await pod.crash()
    await pod.remove(0)
    for params in ({}, {"follow": "true"}, {"tailLines": "1"}):
        assert await _ask(pod, previous="true", **params) == (
            200,
            b"unable to retrieve container logs for containerd://<id>",
        )
    assert await _ask(pod) == (200, _text(pod.written(1)))


async def test_a_container_that_was_removed_before_its_pod_object_is_one_as_well(pod: Lab) -> None:
    await pod.create(20)
    async with asyncio.timeout(SECONDS), pod.open(follow="true") as answer:
        await pod.delete_and_keep()
        assert await answer.content.read() == _text(pod.written(0))
    for params in ({}, {"follow": "true"}):
        status, text = await _ask(pod, **params)
        assert status == 200
        # The kubelet removes the file before the container: for a moment it is the file that is missing.
        assert text == b"unable to retrieve container logs for containerd://<id>" or (
            text.startswith(b"failed to try resolving symlinks in path ")
            and text.endswith(b"no such file or directory")
        )


@pytest.mark.parametrize("grace", [True, False], ids=["with-grace", "without-grace"])
async def test_the_stream_of_a_deleted_pod_brings_everything_and_ends_cleanly(pod: Lab, grace: bool) -> None:
    await pod.create(20, endless=True)
    async with asyncio.timeout(SECONDS), pod.open(follow="true") as answer:
        assert await answer.content.readline() == pod.written(0)[0] + b"\n"
        await pod.delete(grace=grace)
        assert await answer.content.read() == _text(pod.written(0)[1:])
    status, text = await _ask(pod)
    assert status == 404
    assert b'pods \\"falco\\" not found' in text


async def test_a_line_without_a_newline_comes_with_the_end_of_a_deleted_pod(pod: Lab) -> None:
    await pod.create(20, unfinished=True)
    async with asyncio.timeout(SECONDS), pod.open(follow="true") as answer:
        await pod.delete(grace=True)
        body = await answer.content.read()
    assert len(pod.written(0)) == 21
    assert body == _text(pod.written(0)).removesuffix(b"\n")


async def _ask(pod: Lab, **params: str) -> Answer:
    """Ask for the log; a container's id is masked."""
    async with asyncio.timeout(SECONDS), pod.open(**params) as answer:
        return answer.status, re.sub(rb"containerd://[0-9a-f]{64}", b"containerd://<id>", await answer.read())


def _text(lines: list[bytes]) -> bytes:
    return b"".join(line + b"\n" for line in lines)
