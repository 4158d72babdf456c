"""What clients ask before they ask for pods: version, health, and which resources there are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from streamer.simulator.status import json_response

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from streamer.simulator.pods import Json

CORE_RESOURCES: Json = {
    "kind": "APIResourceList",
    "groupVersion": "v1",
    "resources": [
        {
            "name": "namespaces",
            "singularName": "namespace",
            "namespaced": False,
            "kind": "Namespace",
            "verbs": ["list"],
        },
        {
            "name": "pods",
            "singularName": "pod",
            "namespaced": True,
            "kind": "Pod",
            "verbs": ["get", "list", "watch"],
            "shortNames": ["po"],
        },
        {"name": "pods/log", "singularName": "", "namespaced": True, "kind": "Pod", "verbs": ["get"]},
    ],
}

DOCUMENTS: dict[str, Json] = {
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": []},
    "/api/v1": CORE_RESOURCES,
}


def version(minor: int) -> Json:
    """What a server of Kubernetes 1.`minor` says of itself."""
    return {
        "major": "1",
        "minor": str(minor),
        "gitVersion": f"v1.{minor}.3+simulated",
        "gitCommit": "0000000000000000000000000000000000000000",
        "gitTreeState": "clean",
        "buildDate": "2026-01-01T00:00:00Z",
        "goVersion": "none",
        "compiler": "none",
        "platform": "linux/amd64",
    }


def add_routes(app: web.Application, minor_version: int) -> None:
    """Add the fixed answers to an application."""
    for path, document in {"/version": version(minor_version), **DOCUMENTS}.items():
        app.router.add_get(path, _fixed(document))
    for path in ("/healthz", "/livez", "/readyz"):
        app.router.add_get(path, _healthy)


def _fixed(document: Json) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(request: web.Request) -> web.Response:  # noqa: ARG001
        return json_response(document)

    return answer


async def _healthy(request: web.Request) -> web.Response:  # noqa: ARG001
    return web.Response(text="ok")
