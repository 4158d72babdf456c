"""A simulated cluster behind a real port."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from streamer.simulator import Cluster, SimulatedApiServer


@pytest.fixture
async def cluster() -> Cluster:
    return Cluster(seed=1)


@pytest.fixture
async def server(cluster: Cluster) -> AsyncIterator[SimulatedApiServer]:
    async with SimulatedApiServer(cluster) as running:
        yield running
