"""The embedded broker, for tests of the sink that need one that obeys."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from streamer.sink import Connection
from streamer.sink.mock_broker import MockBroker
from tests.unit.sink.samples import connection


@pytest.fixture
def broker() -> Iterator[MockBroker]:
    with MockBroker({"alerts": 1, "wide": 6, "state": 2}) as running:
        yield running


@pytest.fixture
def where(broker: MockBroker) -> Connection:
    return connection(broker.bootstrap)


@pytest.fixture(autouse=True)
async def nothing_left_behind() -> AsyncIterator[None]:
    """No test may leave a task of aiokafka's running."""
    yield
    left = {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}
    assert not left, f"left running: {left}"
