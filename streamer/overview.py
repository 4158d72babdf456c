"""How the worker stands: put together of what its parts say, for the probes, /status and the gauges."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from streamer import __version__
from streamer.shard.shard import Shard
from streamer.source.discovery import Discovery
from streamer.source.fleet import Fleet
from streamer.telemetry.status import Check, Status


class Overview:
    """Knows the parts of a worker as they come into being."""

    def __init__(self, cluster: str) -> None:
        self._cluster = cluster
        self._began_at = asyncio.get_running_loop().time()
        self._began_ns = time.time_ns()
        self.topics_trouble = "Kafka has not answered yet"
        """Why the topics are not verified; "" once they are."""
        self.shards: Sequence[Shard] = ()
        self.discovery: Discovery | None = None
        self.fleet: Fleet | None = None

    def checks(self) -> list[Check]:
        """What work needs, then what is worth telling although work goes on."""
        shards, discovery = self.shards, self.discovery
        loading = [shard for shard in shards if not shard.loaded]
        state = ""
        if not shards:
            state = "no shard is ours yet"
        elif loading:
            told = next((shard.trouble for shard in loading if shard.trouble), "loading")
            state = f"{len(loading)} of {len(shards)} shards: {told}"
        listed = (
            "the API server has not answered yet" if discovery is None else discovery.trouble or "listing"
        )
        troubled = next((shard.trouble for shard in shards if shard.loaded and shard.trouble), "")
        return [
            Check("topics verified", self.topics_trouble),
            Check("state loaded", state),
            Check("pods listed", "" if discovery is not None and discovery.complete else listed),
            Check("Kafka takes records", troubled, needed=False),
            Check("pods watched", "" if discovery is None else discovery.trouble, needed=False),
            Check("pods found", "" if discovery is None else discovery.missing, needed=False),
        ]

    def status(self) -> Status:
        """Everything, at this moment."""
        now_ns = time.time_ns()
        checks = self.checks()
        waiting = any(check.why for check in checks if check.needed)
        up_seconds = asyncio.get_running_loop().time() - self._began_at
        blind_seconds = 0.0 if self.discovery is None else self.discovery.blind_seconds
        return Status(
            cluster=self._cluster,
            checks=checks,
            shards=[shard.status(now_ns) for shard in self.shards],
            targets=[] if self.fleet is None else self.fleet.status(now_ns),
            blind_seconds=up_seconds if waiting else blind_seconds,
            facts={"version": __version__, "up_seconds": round(up_seconds, 3), "started_ns": self._began_ns},
        )
