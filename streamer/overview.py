"""How the worker stands: put together of what its parts say, for the probes, /status and the gauges."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import replace

from streamer import __version__
from streamer.reload import Reload
from streamer.shard.ownership import Ownership
from streamer.shard.shard import Shard
from streamer.source.discovery import Discovery
from streamer.source.fleet import Fleet
from streamer.telemetry.filters import FilterWatch
from streamer.telemetry.status import Check, Status


class Overview:
    """Knows the parts of a worker as they come into being."""

    def __init__(self, cluster: str) -> None:
        self._cluster = cluster
        self._began_at = asyncio.get_running_loop().time()
        self._began_ns = time.time_ns()
        self.topics_trouble = "Kafka has not answered yet"
        """Why the topics are not verified; "" once they are."""
        self.ownership: Ownership | None = None
        self.discovery: Discovery | None = None
        self.fleet: Fleet | None = None
        self.reload: Reload | None = None
        self.filters = FilterWatch()

    def checks(self) -> list[Check]:
        """What work needs, then what is worth telling although work goes on."""
        shards, discovery = self._shards(), self.discovery
        state = "no shard is ours yet" if self.ownership is None else self.ownership.trouble
        if self.ownership is not None and (loading := self.ownership.loading):
            told = next((shard.trouble for shard in loading if shard.trouble), "loading")
            state = f"{len(loading)} of {len(shards)} shards: {told}"
        watched = {"": ""} if discovery is None else discovery.troubles
        listed = ""
        if discovery is None:
            listed = "the API server has not answered yet"
        elif not discovery.settled:
            listed = next(filter(None, watched.values()), "listing")
        troubled = next((shard.trouble for shard in shards if shard.loaded and shard.trouble), "")
        return [
            Check("topics verified", self.topics_trouble),
            Check("state loaded", state),
            Check("pods listed", listed),
            Check("Kafka takes records", troubled, needed=False),
            *(
                Check(f"pods watched in {namespace}" if namespace else "pods watched", why, needed=False)
                for namespace, why in watched.items()
            ),
            Check("configuration", "" if self.reload is None else self.reload.trouble, needed=False),
            Check("pods found", "" if discovery is None else discovery.missing, needed=False),
        ]

    def _shards(self) -> list[Shard]:
        return [] if self.ownership is None else list(self.ownership.shards.values())

    def status(self) -> Status:
        """Everything, at this moment."""
        now_ns = time.time_ns()
        checks = self.checks()
        fenced = Counter[int]() if self.ownership is None else self.ownership.fenced
        waiting = any(check.why for check in checks if check.needed)
        up_seconds = asyncio.get_running_loop().time() - self._began_at
        blind_seconds = 0.0 if self.discovery is None else self.discovery.blind_seconds
        return Status(
            cluster=self._cluster,
            checks=checks,
            shards=[replace(shard.status(now_ns), fenced=fenced[shard.index]) for shard in self._shards()],
            filters=self.filters.status(),
            targets=[] if self.fleet is None else self.fleet.status(now_ns),
            blind_seconds=up_seconds if waiting else blind_seconds,
            refused_pods=0 if self.discovery is None else self.discovery.refused,
            facts={"version": __version__, "up_seconds": round(up_seconds, 3), "started_ns": self._began_ns},
        )
