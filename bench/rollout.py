"""What a rollout of Falco costs in discovery: CPU of taking the watch's events, in process.

The events are those of a DaemonSet's rollout as an API server sends them, in objects of real size. The HTTP client is
left out: what it costs depends on TLS.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, cast

import aiohttp
import orjson

from streamer.simulator import Cluster
from streamer.source.api import KubernetesApi
from streamer.source.discovery import Discovery

SELECTORS: Final = ("app.kubernetes.io/name=falco", "app=falco")
_CHUNK_BYTES: Final = 64 * 1024
_SPEC_BYTES: Final = 4 * 1024
"""A pod of Falco's chart with its environment, mounts, volumes and tolerations."""
_OBJECT_BYTES: Final = 8 * 1024
"""The same with its managed fields."""

Json = dict[str, Any]


class _Events(KubernetesApi):
    """Lists `pods`, then sends `body` to one watch of each selector."""

    def __init__(self, pods: list[Json], body: bytes, matching: int) -> None:
        self._pods = pods
        self._body = body
        self._matching = SELECTORS[:matching]
        self.left = matching
        self.sent = asyncio.Event()

    async def get(self, path: str, params: Mapping[str, str] | None = None, **_: Any) -> Json:
        assert path == "/api/v1/pods"
        assert params is not None
        shown = self._pods if params["labelSelector"] in self._matching else []
        return {"metadata": {"resourceVersion": "1"}, "items": shown}

    @asynccontextmanager
    async def lines(
        self, path: str, params: Mapping[str, str], **_: Any
    ) -> AsyncIterator[aiohttp.StreamReader]:
        assert path == "/api/v1/pods"
        yield cast(aiohttp.StreamReader, _Body(self, params["labelSelector"] in self._matching))

    @property
    def body(self) -> bytes:
        return self._body


class _Body:
    def __init__(self, api: _Events, matches: bool) -> None:
        self._api = api
        self._matches = matches

    async def iter_any(self) -> AsyncIterator[bytes]:
        api = self._api
        if self._matches:
            for begin in range(0, len(api.body), _CHUNK_BYTES):
                yield api.body[begin : begin + _CHUNK_BYTES]
                await asyncio.sleep(0)
            api.left -= 1
            if not api.left:
                api.sent.set()
        await asyncio.Event().wait()


def _grown(pod: Json) -> Json:
    """As large as a real one."""
    volumes: list[Json] = []
    managed: list[Json] = []
    grown = pod | {
        "metadata": pod["metadata"] | {"managedFields": managed},
        "spec": pod["spec"] | {"volumes": volumes},
    }
    while len(orjson.dumps(grown)) < _SPEC_BYTES:
        name = f"volume-{len(volumes)}"
        volumes.append({"name": name, "hostPath": {"path": f"/var/lib/{name}/of/the/host", "type": ""}})
    while len(orjson.dumps(grown)) < _OBJECT_BYTES:
        fields: Json = {
            f'k:{{"mountPath":"/host/{n}"}}': {".": {}, "f:mountPath": {}, "f:name": {}} for n in range(8)
        }
        managed.append({"manager": "kubelet", "operation": "Update", "fieldsV1": {"f:spec": fields}})
    return grown


def _rollout(count: int) -> tuple[list[Json], bytes, int]:
    """The pods before it, and the events: each pod is deleted and another one takes its place."""
    cluster = Cluster(seed=1, history=10 * count)
    for n in range(count):
        cluster.add_pod("falco", f"falco-{n:05}", node=f"node-{n:05}")
    before = [_grown(cluster.object(pod)) for pod in cluster.pods.values()]
    version = cluster.resource_version
    for n in range(count):
        cluster.delete_pod(cluster.pod("falco", f"falco-{n:05}"))
        new = cluster.add_pod("falco", f"falco-new-{n:05}", node=None)
        cluster.schedule(new, f"node-{n:05}")
        cluster.set_label(new, "pod-template-generation", "2")  # its init containers have run
        cluster.start_container(new)
        cluster.set_label(new, "ready", "true")
    events = list(_events(cluster, version))
    return before, b"".join(events), len(events)


def _events(cluster: Cluster, version: int) -> Iterator[bytes]:
    for change in cluster.changes_since(version):
        kind = "DELETED" if change.after is None else "MODIFIED" if change.before else "ADDED"
        shown = _grown(change.after or change.before or {})
        shown["metadata"]["resourceVersion"] = str(change.version)
        yield orjson.dumps({"type": kind, "object": shown}) + b"\n"


async def measure(before: list[Json], body: bytes, matching: int) -> tuple[float, int]:
    """CPU seconds of a rollout whose pods match so many selectors, and how many changes came of it."""
    api = _Events(before, body, matching)
    changes = 0

    def count(_: object) -> None:
        nonlocal changes
        changes += 1

    discovery = Discovery(api, SELECTORS, (), "falco")
    running = asyncio.create_task(discovery.run())
    discovery.on_change = count
    await discovery.listed()
    begun = time.process_time()
    await api.sent.wait()
    seconds = time.process_time() - begun
    running.cancel()
    await asyncio.wait([running])
    return seconds, changes - len(before)  # without the list's


def bench(pods: int) -> str:
    """The table of this benchmark."""
    before, body, events = _rollout(pods)
    lines = [
        f"### A rollout of {pods:,} pods: {events:,} events of {len(body) // events:,} bytes",
        "",
        "| selectors that match | CPU | an event | changes handed over |",
        "|---:|---:|---:|---:|",
    ]
    for matching in (1, 2):
        seconds, changes = asyncio.run(measure(before, body, matching))
        each = seconds / events / matching * 1e6
        lines.append(f"| {matching} | {seconds:.2f} s | {each:.0f} µs | {changes:,} |")
    return "\n".join(lines) + "\n"
