"""Which pods there are, by a list and a watch that break in every way."""

from __future__ import annotations

import asyncio
import gzip
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
import pytest

from streamer.simulator import Cluster, SimulatedApiServer
from streamer.simulator.status import ApiError as Refusal
from streamer.source.api import connect
from streamer.source.discovery import Discovery
from streamer.source.pods import ANYWHERE, Origin
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
    server: SimulatedApiServer,
    tmp_path: Path,
    *,
    selectors: Sequence[str] = ("app=falco",),
    namespaces: Sequence[str] = ("falco",),
    origin: Origin = ANYWHERE,
    watch_seconds: float = 60.0,
) -> AsyncIterator[Seen]:
    async with connect(server.kubeconfig(tmp_path / "kubeconfig"), None) as api, asyncio.TaskGroup() as tasks:
        discovery = Discovery(
            api,
            selectors,
            namespaces,
            "falco",
            origin=origin,
            watch_seconds=watch_seconds,
            quiet_seconds=0.2,
        )
        seen = Seen(discovery)
        running = tasks.create_task(discovery.run())
        await eventually(lambda: discovery.settled)
        yield seen
        running.cancel()


def add(cluster: Cluster, name: str, namespace: str = "falco") -> None:
    cluster.add_pod(namespace, name, labels={"app": "falco"})


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


FORBIDDEN = Refusal(403, 'pods is forbidden: User "us" cannot list resource "pods"', details={"kind": "pods"})
FOREVER = 1_000_000


async def test_a_forbidden_namespace_keeps_no_other_from_being_seen(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path
) -> None:
    add(cluster, "a", "good")
    add(cluster, "b", "bad")
    server.faults.refuse("/namespaces/bad/pods", FORBIDDEN, times=FOREVER)
    async with discovering(server, tmp_path, namespaces=("bad", "good")) as seen:
        await seen.until_present("a")
        discovery = seen.discovery
        assert "no right to list pods in namespace bad" in discovery.troubles["bad"]
        assert discovery.troubles["good"] == ""
        assert discovery.blind_seconds > 0
        await discovery.listed("good")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(discovery.listed("bad"), 0.01)
        recovered: list[str] = []
        discovery.on_recovery = recovered.append
        server.faults.clear()
        await seen.until_present("a", "b")
        assert recovered == ["bad"]
        await eventually(lambda: (discovery.troubles["bad"], discovery.blind_seconds) == ("", 0))


async def test_it_is_not_settled_before_one_scope_is_listed(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path
) -> None:
    fault = server.faults.refuse("/namespaces/", FORBIDDEN, times=4)
    async with discovering(server, tmp_path, namespaces=("one", "two")) as seen:
        assert fault.struck >= 2
        assert any(scope.was_listed.is_set() for scope in seen.discovery._scopes)


async def test_a_pod_that_cannot_be_read_costs_that_pod(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path
) -> None:
    for name in "abc":
        add(cluster, name)
    items = [cluster.object(cluster.pod("falco", name)) for name in "abc"]
    broken = items[1] | {"status": {"containerStatuses": [{"name": "falco", "restartCount": "many"}]}}
    listed = {"metadata": {"resourceVersion": str(cluster.resource_version)}, "items": [items[0], broken]}
    server.faults.answer("limit=", 200, body=orjson.dumps(listed), content_type="application/json")
    changed = {"type": "MODIFIED", "object": broken}
    also = {"type": "ADDED", "object": items[2]}
    body = b"".join(orjson.dumps(each) + b"\n" for each in (changed, also))
    server.faults.answer("watch=true", 200, body=body, content_type="application/json")
    async with discovering(server, tmp_path) as seen:
        await seen.until_present("a", "c")
        assert seen.discovery.troubles == {"falco": ""}
        cluster.set_label(cluster.pod("falco", "b"), "team", "x")
        await seen.until_present("a", "b", "c")


async def test_an_internal_error_in_taking_a_change_costs_that_change(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path
) -> None:
    add(cluster, "a")
    async with discovering(server, tmp_path) as seen:
        await seen.until_present("a")

        def fail(change: PodChange) -> None:
            if change.view.target.pod == "b":
                raise RuntimeError("an internal error")
            seen.take(change)

        seen.discovery.on_change = fail
        for name in "bc":
            add(cluster, name)
        await eventually(lambda: "c" in seen.present)
        assert seen.discovery.troubles == {"falco": ""}


async def test_two_selectors_show_a_pod_once(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path
) -> None:
    both = {"app": "falco", "app.kubernetes.io/name": "falco"}
    pod = cluster.add_pod("falco", "a", labels=both)
    async with discovering(server, tmp_path, selectors=("app=falco", "app.kubernetes.io/name=falco")) as seen:
        await eventually(lambda: len(watches(server)) == 2)
        cluster.set_label(pod, "app", None)
        cluster.crash(pod)
        await eventually(lambda: len(seen.changes) == 2)
        assert seen.present == {"a"}
        cluster.delete_pod(pod)
        await eventually(lambda: not seen.present)
    assert seen.departed == ["a"]
    assert seen.changes[-1].view.deleting


@pytest.mark.parametrize(
    ("origin", "fix"),
    [
        (Origin(owners=("DaemonSet/real",)), "controlled by DaemonSet/falco, not by DaemonSet/real"),
        (Origin(service_accounts=("real",)), "its service account is falco, not real"),
    ],
)
async def test_a_pod_that_only_has_the_labels_is_refused(
    cluster: Cluster,
    server: SimulatedApiServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    origin: Origin,
    fix: str,
) -> None:
    add(cluster, "a")
    add(cluster, "b")
    async with discovering(server, tmp_path, origin=origin) as seen:
        await eventually(lambda: seen.discovery.refused == 2)
        assert not seen.present
        assert seen.discovery.missing == "no matching pod has the owner or service account that is set"
        told = capsys.readouterr().out
        assert told.count("pod_refused") == 1
        assert fix in told
    accepted = Origin(owners=("DaemonSet/falco",), service_accounts=("falco",))
    async with discovering(server, tmp_path, origin=accepted) as seen:
        await seen.until_present("a", "b")
        assert seen.discovery.refused == 0
