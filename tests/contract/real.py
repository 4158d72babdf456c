"""The test bed's API server and log endpoint as a ClusterDriver."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import aiohttp

from tests.contract.driver import FALCO
from tests.testbed.apiserver import KubeApiServer
from tests.testbed.client import KubeApi
from tests.testbed.cluster import FalcoCluster
from tests.testbed.kubelet import Kubelet
from tests.testbed.pod import Pod

RECORD_BYTES = 16384  # containerd's max_container_log_line_size


class RealDriver:
    """A namespace of a real API server."""

    def __init__(self, server: KubeApiServer, cluster: FalcoCluster, stranger: aiohttp.ClientSession) -> None:
        self._server = server
        self.namespace = cluster.namespace
        self._cluster = cluster
        self._stranger = stranger
        self._pods: dict[str, Pod] = {}

    @asynccontextmanager
    async def open(
        self, path: str, params: Mapping[str, str] = {}, *, authorization: str | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        session = self._cluster.api._session
        assert session is not None
        if authorization is None:
            async with session.get(path, params=params) as answer:
                yield answer
        else:
            headers = {"Authorization": authorization}
            async with self._stranger.get(path, params=params, headers=headers) as answer:
                yield answer

    async def post(self, path: str, body: object) -> tuple[int, dict[str, object]]:
        session = self._cluster.api._session
        assert session is not None
        async with session.post(path, json=body) as answer:
            return answer.status, await answer.json()

    async def create_pod(
        self,
        name: str,
        *,
        labels: Mapping[str, str] = FALCO,
        containers: Sequence[str] = ("falco",),
        scheduled: bool = True,
        started: bool = True,
    ) -> str:
        pod = await self._cluster.add_pod(
            name, labels=labels, containers=containers, scheduled=scheduled, started=started
        )
        self._pods[name] = pod
        return pod.uid

    async def schedule(self, name: str) -> None:
        await self._pods[name].schedule(self._cluster.node)
        await self._pods[name].report()

    async def start(self, name: str) -> None:
        await self._pods[name].start()

    async def end(self, name: str, *, exit_code: int = 0) -> None:
        await self._pods[name].end(exit_code=exit_code)

    async def restart(self, name: str) -> None:
        await self._pods[name].restart()

    async def back_off(self, name: str) -> None:
        await self._pods[name].back_off()

    async def label(self, name: str, key: str, value: str | None) -> None:
        await self._pods[name].label({key: value})

    async def delete(self, name: str) -> None:
        await self._pods[name].delete()

    async def forget_history(self) -> None:
        # A new server's watch cache begins with what it lists at its start.
        await asyncio.to_thread(self._server.kill)
        await asyncio.to_thread(self._server.start)

    def line(self, name: str, text: bytes, at: int, *, container: str | None = None) -> None:
        log = self._pods[name].log(container)
        while len(text) > RECORD_BYTES:
            log.part(text[:RECORD_BYTES], at=at)
            text = text[RECORD_BYTES:]
        log.line(text, at=at)

    def part(self, name: str, text: bytes, at: int) -> None:
        self._pods[name].log().part(text, at=at)

    def rotate(self, name: str) -> None:
        self._pods[name].log().rotate()


@asynccontextmanager
async def real(server: KubeApiServer, kubelet: Kubelet) -> AsyncIterator[RealDriver]:
    trust = ssl.create_default_context(cafile=str(server.authority.certificate))
    async with (
        KubeApi(server.kubeconfig) as admin,
        FalcoCluster(admin, kubelet) as cluster,
        aiohttp.ClientSession(server.url, connector=aiohttp.TCPConnector(ssl=trust)) as stranger,
    ):
        yield RealDriver(server, cluster, stranger)
