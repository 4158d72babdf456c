"""Lists of pods in pages, each a snapshot, and the watch that goes on from where a list ended."""

from __future__ import annotations

import asyncio
import base64
from collections import OrderedDict
from typing import TYPE_CHECKING

import orjson

from streamer.simulator.cluster import GoneError, watch_event
from streamer.simulator.status import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp import web

    from streamer.simulator.cluster import Cluster
    from streamer.simulator.pods import Json
    from streamer.simulator.streams import OpenStream

_TOKEN_START = base64.urlsafe_b64encode(b'{"v":"meta.k8s.io/v1"').decode().rstrip("=")[:-1]

BOOKMARK_BEFORE_END_SECONDS = 2
"""A watch with a timeout gets a bookmark so long before it, if anything has happened."""

SNAPSHOTS = 64
"""How many unfinished lists are kept; the continue token of an older one is answered with 410."""


class PodLists:
    """Lists of pods, with the rest of every list whose next page may still be asked for."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._rests: OrderedDict[str, tuple[int, list[Json]]] = OrderedDict()
        self._count = 0

    def page(self, matches: Callable[[Json], bool], limit: int, token: str) -> Json:
        """One PodList; `limit` 0 is everything."""
        if token:
            found = self._rests.get(token)
            if not token.startswith(_TOKEN_START):
                raise ApiError(400, "invalid continue token: continue key is not valid")
            if found is None:
                text = "The provided continue parameter is too old to display a consistent list result."
                raise ApiError(410, text)
            version, pods = found
        else:
            version = self._cluster.resource_version
            pods = list(self.current(matches))
        metadata: Json = {"resourceVersion": str(version)}
        if limit and len(pods) > limit:
            metadata["continue"] = self._keep(version, pods[limit:])
            metadata["remainingItemCount"] = len(pods) - limit
            pods = pods[:limit]
        items = [{k: v for k, v in pod.items() if k not in {"kind", "apiVersion"}} for pod in pods]
        return {"kind": "PodList", "apiVersion": "v1", "metadata": metadata, "items": items}

    def current(self, matches: Callable[[Json], bool]) -> list[Json]:
        """The pods that match now, in the order of their keys."""
        cluster = self._cluster
        pods = (cluster.object(cluster.pods[key]) for key in sorted(cluster.pods))
        return [pod for pod in pods if matches(pod)]

    def _keep(self, version: int, rest: list[Json]) -> str:
        self._count += 1
        first = rest[0]["metadata"]
        start = f"{first['namespace']}/{first['name']}"
        content = {"v": "meta.k8s.io/v1", "rv": version, "start": start, "n": self._count}
        token = base64.urlsafe_b64encode(orjson.dumps(content)).decode().rstrip("=")
        self._rests[token] = (version, rest)
        if len(self._rests) > SNAPSHOTS:
            self._rests.popitem(last=False)
        return token


def parse_version(text: str) -> int:
    """A resource version from a query; 0 is any. Anything but a number is a 500, as with the real server."""
    try:
        return int(text or 0)
    except ValueError:
        message = (
            f'resourceVersion: Invalid value: "{text}": strconv.ParseUint: parsing "{text}": invalid syntax'
        )
        raise ApiError(500, message) from None


def gone_event(error: GoneError) -> bytes:
    """The event that ends a watch whose resource version is too old."""
    return watch_event("ERROR", ApiError(410, str(error)).status())


def bookmark_event(version: int, *, initial_events_end: bool = False) -> bytes:
    """An event that says only how far the watch has come."""
    metadata: Json = {"resourceVersion": str(version)}
    if initial_events_end:
        metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
    spec_and_status: Json = {"spec": {"containers": None}, "status": {}}
    return watch_event(
        "BOOKMARK", {"kind": "Pod", "apiVersion": "v1", "metadata": metadata} | spec_and_status
    )


async def send_watch(
    stream: OpenStream,
    response: web.StreamResponse,
    cluster: Cluster,
    matches: Callable[[Json], bool],
    version: int,
    *,
    timeout_seconds: float,
    bookmark_seconds: float,
) -> None:
    """Send the changes after a resource version until the timeout; `bookmark_seconds` 0: no bookmarks."""
    now = asyncio.get_running_loop().time
    deadline = now() + timeout_seconds
    next_bookmark = min(now() + bookmark_seconds, deadline - BOOKMARK_BEFORE_END_SECONDS)
    if not bookmark_seconds or next_bookmark < now():
        next_bookmark = deadline
    sent = version
    first = True
    while not stream.is_cut:
        await stream.check()
        try:
            changes = cluster.changes_since(version)
        except GoneError as error:
            # A watch that was too slow is only closed; the answer comes to its next request.
            if first:
                await response.write(gone_event(error))
            return
        first = False
        if changes:
            version = changes[-1].version
            body = b"".join(event for change in changes if (event := change.event(matches)))
            if body:
                sent = version
                await response.write(body)
            continue
        try:
            async with asyncio.timeout_at(min(deadline, next_bookmark)):
                await cluster.changed()
        except TimeoutError:
            if now() >= deadline:
                return
            # Only what the client does not know yet is worth a bookmark.
            if version > sent:
                sent = version
                await response.write(bookmark_event(version))
            next_bookmark = now() + bookmark_seconds
