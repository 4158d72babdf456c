"""The HTTP side: routes, middlewares, start and stop."""

from __future__ import annotations

import collections
import json
import re
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Self

from aiohttp import web

from streamer.simulator import discovery
from streamer.simulator.access import Access
from streamer.simulator.cluster import watch_event
from streamer.simulator.faults import Faults
from streamer.simulator.listing import PodLists, bookmark_event, parse_version, send_watch
from streamer.simulator.selectors import SelectorError, pod_selector
from streamer.simulator.status import ApiError, json_response, pod_not_found
from streamer.simulator.streams import (
    LogOptions,
    OpenStream,
    boolean,
    choose_container,
    choose_instance,
    send_log,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from streamer.simulator.cluster import Cluster
    from streamer.simulator.pods import Json

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class SimulatedApiServer:
    """Serves a cluster on a loopback port; `async with`, or `start` and `stop` (and `start` again).

    `port` 0 takes a free one, and keeps it over stop and start. `token`: the bearer token to ask for.
    `bookmark_seconds`: how often a watch that allows bookmarks gets one. `minor_version`: of Kubernetes 1.
    `faults` and `access.denied` may be changed at any time; `requests` counts what was asked for pods and their logs,
    by verb and resource (`list`, `watch`, `get`, `get/log`), refused or not, `log_opens` the logs by (namespace, pod);
    `streams` holds what is open.
    """

    def __init__(
        self,
        cluster: Cluster,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        token: str | None = None,
        bookmark_seconds: float = 60,
        minor_version: int = 36,
    ) -> None:
        self.cluster = cluster
        self.host = host
        self.port = port
        self.faults = Faults()
        self.access = Access(token)
        self.streams: set[OpenStream] = set()
        self.requests: collections.Counter[str] = collections.Counter()
        self.log_opens: collections.Counter[tuple[str, str]] = collections.Counter()
        self._bookmark_seconds = bookmark_seconds
        self._minor_version = minor_version
        self._lists = PodLists(cluster)
        self._hung_nodes: set[str] = set()
        self._runner: web.AppRunner | None = None

    # Life

    @property
    def url(self) -> str:
        """Where the server listens, without a slash at the end."""
        return f"http://{self.host}:{self.port}"

    async def start(self) -> None:
        """Listen."""
        app = web.Application(middlewares=[self._middleware])
        pod = "/api/v1/namespaces/{namespace}/pods/{name}"
        app.router.add_get("/api/v1/pods", self._pods)
        app.router.add_get("/api/v1/namespaces", self._namespaces)
        app.router.add_get("/api/v1/namespaces/{namespace}/pods", self._pods)
        app.router.add_get(pod, self._pod)
        app.router.add_get(pod + "/log", self._log)
        app.router.add_post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", self.access.review)
        discovery.add_routes(app, self._minor_version)
        # A handler whose client has gone is cancelled; else a silent follow would live for ever.
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self.host, self.port, backlog=4096)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self, *, abort: bool = True) -> None:
        """Stop listening and end what is open: by reset, as a killed server does, or cleanly."""
        runner, self._runner = self._runner, None
        if runner is None:
            return
        for site in list(runner.sites):
            await site.stop()
        if abort and runner.server is not None:
            for connection in list(runner.server.connections):
                if connection.transport is not None:
                    connection.transport.abort()
        self.cut()
        await runner.cleanup()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def kubeconfig(self, path: str | Path) -> Path:
        """Write a kubeconfig that leads here; kubectl itself never sends a token over plain HTTP."""
        user = {"token": self.access.token} if self.access.token else {}
        context = {"cluster": "simulated", "user": "simulated", "namespace": "falco"}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "simulated", "cluster": {"server": self.url}}],
            "users": [{"name": "simulated", "user": user}],
            "contexts": [{"name": "simulated", "context": context}],
            "current-context": "simulated",
        }
        path = Path(path)
        path.write_text(json.dumps(config, indent=2) + "\n")  # JSON is YAML
        path.chmod(0o600)
        return path

    def cut(self, path: str = "", *, abort: bool = False) -> int:
        """End the open logs and watches whose path and query match a regular expression; their number."""
        struck = [stream for stream in self.streams if re.search(path, stream.path)]
        for stream in struck:
            if abort:
                stream.abort()
            else:
                stream.cut()
        return len(struck)

    def hang(self, path: str = "") -> int:
        """Leave open logs and watches half open, as a load balancer does; their number. New ones work."""
        struck = [stream for stream in self.streams if re.search(path, stream.path)]
        for stream in struck:
            stream.hang()
        return len(struck)

    def hang_nodes(self, *nodes: str) -> None:
        """Let kubelets stand still: their open logs bring nothing, and new ones are not answered."""
        self._hung_nodes.update(nodes)
        for stream in self.streams:
            if stream.node in self._hung_nodes:
                stream.hang()

    def resume_nodes(self) -> None:
        """Let them go on."""
        hung, self._hung_nodes = self._hung_nodes, set()
        for stream in self.streams:
            if stream.node in hung:
                stream.resume()

    # What every request passes

    @web.middleware
    async def _middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self._count(request)
        try:
            fault = self.faults.for_request(request.path_qs)
            if fault is not None and fault.gate is not None:
                await fault.gate.wait()
            if fault is not None and fault.status is not None:
                return web.Response(status=fault.status, headers=fault.headers, body=fault.body)
            self.access.user(request)
            return await handler(request)
        except ApiError as error:
            return error.response()
        except SelectorError as error:
            return ApiError(400, str(error)).response()
        except web.HTTPNotFound:
            return web.Response(status=404, text="404 page not found\n")

    def _count(self, request: web.Request) -> None:
        if "/pods" in request.path:
            one = "name" in request.match_info
            verb = "get" if one else "watch" if boolean(request.query, "watch") else "list"
            self.requests[f"{verb}/log" if request.path.endswith("/log") else verb] += 1

    @contextmanager
    def _open(self, request: web.Request, wake: Callable[[], None], node: str = "") -> Iterator[OpenStream]:
        stream = OpenStream(request.path_qs, request, wake, node)
        if node in self._hung_nodes:
            stream.hang()
        self.streams.add(stream)
        try:
            yield stream
        except ConnectionError:
            pass  # the client has gone, or a fault has cut it off
        finally:
            self.streams.discard(stream)

    # The resources

    async def _namespaces(self, request: web.Request) -> web.Response:
        self.access.check(request, "list", "namespaces")
        items = [
            {"metadata": {"name": name}, "status": {"phase": "Active"}}
            for name in sorted(self.cluster.namespaces)
        ]
        metadata = {"resourceVersion": str(self.cluster.resource_version)}
        return json_response(
            {"kind": "NamespaceList", "apiVersion": "v1", "metadata": metadata, "items": items}
        )

    async def _pod(self, request: web.Request) -> web.Response:
        namespace, name = request.match_info["namespace"], request.match_info["name"]
        self.access.check(request, "get", "pods", name=name, namespace=namespace)
        pod = self.cluster.pods.get((namespace, name))
        if pod is None:
            raise pod_not_found(name)
        return json_response(self.cluster.object(pod))

    async def _pods(self, request: web.Request) -> web.StreamResponse:
        query = request.query
        namespace = request.match_info.get("namespace")
        watch = boolean(query, "watch")
        self.access.check(request, "watch" if watch else "list", "pods", namespace=namespace)
        matches = pod_selector(query.get("labelSelector", ""), query.get("fieldSelector", ""), namespace)
        if watch:
            return await self._watch(request, matches)
        limit = int(query.get("limit") or 0)
        return json_response(self._lists.page(matches, limit, query.get("continue", "")))

    async def _watch(self, request: web.Request, matches: Callable[[Json], bool]) -> web.StreamResponse:
        query, cluster = request.query, self.cluster
        bookmarks = boolean(query, "allowWatchBookmarks")
        version = parse_version(query.get("resourceVersion", ""))
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        with self._open(request, cluster.wake) as stream:
            await response.prepare(request)
            if version == 0:
                # "Any version will do": the present state comes first.
                version = cluster.resource_version
                events = [watch_event("ADDED", pod) for pod in self._lists.current(matches)]
                if bookmarks:
                    events.append(bookmark_event(version, initial_events_end=True))
                if events:
                    await response.write(b"".join(events))
            await send_watch(
                stream,
                response,
                cluster,
                matches,
                version,
                # Without a timeout the real server takes one of 30 to 60 minutes.
                timeout_seconds=float(query.get("timeoutSeconds") or 1800),
                bookmark_seconds=self._bookmark_seconds if bookmarks else 0,
            )
        return response

    async def _log(self, request: web.Request) -> web.StreamResponse:
        namespace, name = request.match_info["namespace"], request.match_info["name"]
        self.access.check(request, "get", "pods/log", name=name, namespace=namespace)
        options = LogOptions.parse(request.query, name, self.cluster.clock_ns())
        pod = self.cluster.pods.get((namespace, name))
        if pod is None:
            raise pod_not_found(name)
        container = choose_container(pod, options.container)
        if pod.node is None:
            return web.Response(status=204)
        instance = choose_instance(pod, container, previous=options.previous)
        self.log_opens[namespace, name] += 1
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        with self._open(request, instance.log.wake, pod.node) as stream:
            await stream.check()
            stream.fault = self.faults.for_log(name)
            # The kubelet commits the header before it reads: what fails later comes inside a 200.
            await response.prepare(request)
            reader = options.reader(instance.log, rotation_bugs=self.faults.rotation_bugs)
            await send_log(stream, response, reader)
        return response
