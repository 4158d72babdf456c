"""The simulator as a ClusterDriver."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import aiohttp

from streamer.simulator import Cluster, SimulatedApiServer
from streamer.simulator.pods import Pod
from tests.contract.driver import FALCO

TOKEN = "the-administrator's"


class SimulatedDriver:
    """A namespace of a simulated cluster."""

    namespace = "falco"

    def __init__(self, cluster: Cluster, server: SimulatedApiServer, session: aiohttp.ClientSession) -> None:
        self.cluster = cluster
        self.server = server
        self._session = session

    @asynccontextmanager
    async def open(
        self, path: str, params: Mapping[str, str] = {}, *, authorization: str | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        headers = {"Authorization": authorization or f"Bearer {TOKEN}"}
        async with self._session.get(path, params=params, headers=headers) as answer:
            yield answer

    async def post(self, path: str, body: object) -> tuple[int, dict[str, object]]:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with self._session.post(path, json=body, headers=headers) as answer:
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
        pod = self.cluster.add_pod(
            self.namespace,
            name,
            labels=labels,
            containers=containers,
            node="node-1" if scheduled else None,
            waiting=not started,
        )
        return pod.uid

    async def schedule(self, name: str) -> None:
        self.cluster.schedule(self._pod(name), "node-1")

    async def start(self, name: str) -> None:
        for container in self._pod(name).containers:
            self.cluster.start_container(self._pod(name), container)

    async def end(self, name: str, *, exit_code: int = 0) -> None:
        self.cluster.terminate(self._pod(name), self._first(name), exit_code=exit_code)

    async def restart(self, name: str) -> None:
        self.cluster.restart_container(self._pod(name), self._first(name), exit_code=1)

    async def back_off(self, name: str) -> None:
        self.cluster.crash(self._pod(name), self._first(name), exit_code=1)

    async def label(self, name: str, key: str, value: str | None) -> None:
        self.cluster.set_label(self._pod(name), key, value)

    async def delete(self, name: str) -> None:
        self.cluster.delete_pod(self._pod(name))

    async def forget_history(self) -> None:
        self.cluster.forget_history()

    def line(self, name: str, text: bytes, at: int, *, container: str | None = None) -> None:
        self.cluster.append(self._pod(name), text, container=container or self._first(name), time_ns=at)

    def part(self, name: str, text: bytes, at: int) -> None:
        self.cluster.log(self._pod(name), self._first(name)).append_partial(text, at)

    def rotate(self, name: str) -> None:
        self.cluster.rotate(self._pod(name), self._first(name))

    def _pod(self, name: str) -> Pod:
        return self.cluster.pod(self.namespace, name)

    def _first(self, name: str) -> str:
        return next(iter(self._pod(name).containers))


@asynccontextmanager
async def simulated() -> AsyncIterator[SimulatedDriver]:
    cluster = Cluster(seed=0)
    async with (
        SimulatedApiServer(cluster, token=TOKEN) as server,
        aiohttp.ClientSession(server.url) as session,
    ):
        yield SimulatedDriver(cluster, server, session)
