"""The API under contract: the simulator's, and with `-m real` the real one."""

from collections.abc import AsyncIterator

import pytest

from tests.contract.driver import ClusterDriver
from tests.contract.real import real
from tests.contract.simulated import simulated
from tests.integration.conftest import api_server, kubelet

__all__ = ["api", "api_server", "kubelet"]


@pytest.fixture(params=["simulator", pytest.param("real", marks=pytest.mark.real)])
async def api(request: pytest.FixtureRequest) -> AsyncIterator[ClusterDriver]:
    if request.param == "simulator":
        async with simulated() as driver:
            yield driver
        return
    server, endpoint = request.getfixturevalue("api_server"), request.getfixturevalue("kubelet")
    async with real(server, endpoint) as driver_of_the_real:
        yield driver_of_the_real
