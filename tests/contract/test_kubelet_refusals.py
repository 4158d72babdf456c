"""What the simulator can be told to answer for a kubelet is, word for word, what the real API server answers."""

import asyncio
import shutil

import pytest

from streamer.simulator.status import kubelet_down, kubelet_has_not
from tests.contract.asking import NOON, log, log_path, refused
from tests.contract.real import real
from tests.testbed.apiserver import KubeApiServer
from tests.testbed.kubelet import Kubelet

pytestmark = pytest.mark.real


async def test_a_pod_that_only_the_api_server_knows(api_server: KubeApiServer, kubelet: Kubelet) -> None:
    async with real(api_server, kubelet) as api:
        uid = await api.create_pod("p")
        shutil.rmtree(kubelet.root / f"{api.namespace}_p_{uid}")
        assert await refused(api, log_path(api, "p")) == kubelet_has_not("p").status()


async def test_a_kubelet_that_is_down(api_server: KubeApiServer, kubelet: Kubelet) -> None:
    async with real(api_server, kubelet) as api:
        await api.create_pod("p")
        api.line("p", b"one", NOON)
        await asyncio.to_thread(kubelet.kill)
        try:
            said = kubelet_down(api.namespace, "p", host=f"127.0.0.1:{kubelet.port}")
            assert await refused(api, log_path(api, "p")) == said.status()
        finally:
            await asyncio.to_thread(kubelet.start)
        assert await log(api, "p") == b"one\n"
