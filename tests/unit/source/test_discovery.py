"""Which pods there are, by a list and a watch that break in every way."""

from __future__ import annotations

import asyncio
import gzip
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
import pytest

from streamer.simulator import Cluster, SimulatedApiServer
from streamer.source.api import connect
from streamer.source.discovery import Discovery
from streamer.source.podset import PodChange
from tests.flow.following import eventually

DEEP = b'{"type":"ADDED","object":' + b"[" * 10_000 + b"]" * 10_000 + b"}"
NO_OBJECTS = {
    "a proxy's page": b"<html>\n<body>502</body>\n</html>\n",
    "a compressed answer that is cut off": gzip.compress(b'{"items":[]}' * 100)[:40],
    "JSON too deep": DEEP + b"\n",
    "no object": b"[]\n",
    "an event of nothing": b'{"type":"ADDED"}\n',
    "a pod that is none": b'{"type":"ADDED","object":{"metadata":{}},"items":[7]}\n',
    "keys twice": b'{"type":"ADDED","type":1,"object":{"metadata":3,"metadata":4},"items":1,"items":2}\n',
    "half a line": b'{"type":"ADDED","object":{"meta',
    "NUL": b"\0\0\0\n",
}


@pytest.fixture
async def cluster() -> Cluster:
    return Cluster(seed=1)


@pytest.fixture
async def server(cluster: Cluster) -> AsyncIterator[SimulatedApiServer]:
    async with SimulatedApiServer(cluster) as running:
        yield running


class Seen:
    """What a discovery has handed over so far."""

    def __init__(self, discovery: Discovery) -> None:
        self.discovery = discovery
        self.changes: list[PodChange] = []
        self.present: set[str] = set()
        discovery.on_change = self.take

    def take(self, change: PodChange) -> None:
        self.changes.append(change)
        (self.present.add if change.present else self.present.discard)(change.view.target.pod)

    @property
    def departed(self) -> list[str]:
        return [change.view.target.pod for change in self.changes if not change.present]

    async def until_present(self, *names: str) -> None:
        await eventually(lambda: self.present == set(names))
        assert {view.target.pod for view in self.discovery.views()} == set(names)


@asynccontextmanager
async def discovering(
    server: SimulatedApiServer, tmp_path: Path, *, watch_seconds: float = 60.0
) -> AsyncIterator[Seen]:
    async with connect(server.kubeconfig(tmp_path / "kubeconfig"), None) as api, asyncio.TaskGroup() as tasks:
        discovery = Discovery(
            api, ["app=falco"], ["falco"], "falco", watch_seconds=watch_seconds, quiet_seconds=0.2
        )
        seen = Seen(discovery)
        running = tasks.create_task(discovery.run())
        await discovery.listed()
        yield seen
        running.cancel()


def add(cluster: Cluster, name: str) -> None:
    cluster.add_pod("falco", name, labels={"app": "falco"})


def watches(server: SimulatedApiServer) -> list[int]:
    """The resource versions from which the open watches began."""
    found = (re.search(r"watch=true.*resourceVersion=(\d+)", stream.path) for stream in server.streams)
    return [int(match[1]) for match in found if match]


@pytest.mark.parametrize("abort", [True, False])
async def test_a_watch_that_breaks_goes_on_where_it_was(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path, abort: bool
) -> None:
    add(cluster, "a")
    async with discovering(server, tmp_path) as seen:
        await eventually(lambda: bool(watches(server)))
        cluster.delete_pod(cluster.pod("falco", "a"))
        add(cluster, "b")
        await seen.until_present("b")
        so_far = cluster.resource_version
        server.cut("watch", abort=abort)
        await eventually(lambda: watches(server) == [so_far])
        add(cluster, "c")
        await seen.until_present("b", "c")
    assert seen.departed == ["a"]


async def test_who_left_while_nothing_was_watched_is_told_as_departed(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path
) -> None:
    add(cluster, "a")
    add(cluster, "b")
    async with discovering(server, tmp_path) as seen:
        await eventually(lambda: bool(watches(server)))
        await server.stop()
        cluster.delete_pod(cluster.pod("falco", "a"))
        cluster.forget_history()  # so that only a new list can tell
        await server.start()
        await seen.until_present("b")
    assert seen.departed == ["a"]


async def test_a_half_open_watch_is_replaced(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path
) -> None:
    add(cluster, "a")
    async with discovering(server, tmp_path, watch_seconds=1.0) as seen:
        await eventually(lambda: bool(watches(server)))
        assert server.hang("watch") == 1
        add(cluster, "b")
        await seen.until_present("a", "b")


async def test_a_pod_that_is_told_of_in_one_breath_with_an_error_is_told(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path
) -> None:
    add(cluster, "a")
    item = cluster.object(cluster.pod("falco", "a"))
    other = item | {"metadata": item["metadata"] | {"name": "b", "uid": "of-b"}}
    error = {"type": "ERROR", "object": {"kind": "Status", "code": 500, "message": "no"}}
    body = b"".join(orjson.dumps(each) + b"\n" for each in ({"type": "ADDED", "object": other}, error))
    fault = server.faults.answer("watch=true", 200, body=body, content_type="application/json")
    async with discovering(server, tmp_path) as seen:
        await eventually(lambda: fault.struck == 1 and bool(watches(server)))
        await eventually(lambda: any(change.view.target.pod == "b" for change in seen.changes))


@pytest.mark.parametrize("body", NO_OBJECTS.values(), ids=NO_OBJECTS.keys())
@pytest.mark.parametrize("request_", ["watch=true", "limit="])
async def test_an_answer_that_is_not_what_it_should_be_is_asked_for_again(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path, request_: str, body: bytes
) -> None:
    add(cluster, "a")
    fault = server.faults.answer(request_, 200, times=2, body=body, content_type="application/json")
    async with discovering(server, tmp_path) as seen:
        await eventually(lambda: fault.struck == 2 and bool(watches(server)))
        add(cluster, "b")
        await seen.until_present("a", "b")
