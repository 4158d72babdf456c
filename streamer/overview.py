"""How the worker stands: put together of what its parts say, for the probes, /status and the gauges."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import replace
from typing import Final

from streamer import __version__
from streamer.reload import Reload
from streamer.shard.ownership import Ownership
from streamer.shard.shard import Shard
from streamer.source.discovery import Discovery
from streamer.source.fleet import Fleet
from streamer.telemetry.filters import FilterWatch
from streamer.telemetry.status import Check, CheckState, Status

_AFTER_TOPICS: Final = "not asked before the topics are verified"


class Overview:
    """Knows the parts of a worker as they come into being."""

    def __init__(self, cluster: str, view_url: str | None = None) -> None:
        self._cluster = cluster
        self._view_url = view_url
        self._began_at = asyncio.get_running_loop().time()
        self._began_ns = time.time_ns()
        self.credentials_read = False
        """Those for the API server; a plug-in that asks somebody keeps us waiting here."""
        self.topics_verified = False
        self.topics_trouble = ""
        """Why the last try to verify the topics failed; "" if it did not."""
        self.ownership: Ownership | None = None
        self.discovery: Discovery | None = None
        self.fleet: Fleet | None = None
        self.reload: Reload | None = None
        self.filters = FilterWatch()

    def checks(self) -> list[Check]:
        """What work needs, then what is worth reporting although work goes on.

        Each is unknown until a success or a failure was observed: no part of the worker that is not asked yet counts
        as well.
        """
        topics = Check.observed(
            "topics verified",
            succeeded=self.topics_verified,
            trouble="" if self.topics_verified else self.topics_trouble,
            unknown="Kafka has not answered yet"
            if self.credentials_read
            else "the kubeconfig is not read yet: its exec plug-in has not answered",
        )
        checks = [topics, self._state(), self._listed(), self._kafka(), *self._watched()]
        if self.reload is not None:  # it was read and validated at the start
            checks.append(
                Check.observed("configuration", succeeded=True, trouble=self.reload.trouble, needed=False)
            )
        return [*checks, self._found(), *self._faults()]

    def _state(self) -> Check:
        if (ownership := self.ownership) is None:
            return Check("state loaded", why=_AFTER_TOPICS)
        trouble, unknown = ownership.trouble, "not in the group of workers yet"
        if loading := ownership.loading:
            trouble = next((shard.trouble for shard in loading if shard.trouble), "")
            unknown = f"{len(loading)} of {len(ownership.shards)} shards: {trouble or 'loading'}"
            trouble = trouble and unknown
        return Check.observed("state loaded", succeeded=ownership.loaded, trouble=trouble, unknown=unknown)

    def _listed(self) -> Check:
        if (discovery := self.discovery) is None:
            return Check("pods listed", why=_AFTER_TOPICS)
        trouble = "" if discovery.settled else next(filter(None, discovery.troubles.values()), "")
        return Check.observed(
            "pods listed",
            succeeded=discovery.settled,
            trouble=trouble,
            unknown="the API server has not answered yet",
        )

    def _kafka(self) -> Check:
        shards = self._shards()
        # What keeps a shard of the first assignment from being loaded is reported there.
        loaded = self.ownership is not None and self.ownership.loaded
        troubles = (shard.trouble for shard in shards if shard.loaded or loaded)
        return Check.observed(
            "Kafka takes records",
            succeeded=any(shard.has_committed for shard in shards),
            trouble=next(filter(None, troubles), ""),
            unknown="nothing was committed yet" if shards else "no shard is ours",
            needed=False,
        )

    def _watched(self) -> list[Check]:
        if (discovery := self.discovery) is None:
            return [Check("pods watched", why=_AFTER_TOPICS, needed=False)]
        return [
            Check.observed(
                f"pods watched in {namespace}" if namespace else "pods watched",
                succeeded=discovery.was_listed(namespace),
                trouble=trouble,
                unknown="the API server has not answered yet",
                needed=False,
            )
            for namespace, trouble in discovery.troubles.items()
        ]

    def _found(self) -> Check:
        discovery = self.discovery
        return Check.observed(
            "pods found",
            succeeded=discovery is not None and discovery.has_targets,
            trouble="" if discovery is None else discovery.missing,
            unknown="no pod is listed yet",
            needed=False,
        )

    def _faults(self) -> list[Check]:
        """What a fault of ours keeps shards from doing; nothing as long as there is none."""
        found = [
            f"shard {shard.index}: {name}: {fault}"
            for shard in self._shards()
            for name, fault in shard.faults.items()
        ]
        return (
            [Check("no fault of ours", CheckState.FAILING, "; ".join(found), needed=False)] if found else []
        )

    def _shards(self) -> list[Shard]:
        return [] if self.ownership is None else list(self.ownership.shards.values())

    def status(self) -> Status:
        """Everything, at this moment."""
        now_ns = time.time_ns()
        checks = self.checks()
        fenced = Counter[int]() if self.ownership is None else self.ownership.fenced
        up_seconds = asyncio.get_running_loop().time() - self._began_at
        blind_seconds = 0.0 if self.discovery is None else self.discovery.blind_seconds
        status = Status(
            cluster=self._cluster,
            checks=checks,
            shards=[replace(shard.status(now_ns), fenced=fenced[shard.index]) for shard in self._shards()],
            filters=self.filters.status(),
            targets=[] if self.fleet is None else self.fleet.status(now_ns),
            blind_seconds=blind_seconds,
            refused_pods=0 if self.discovery is None else self.discovery.refused,
            facts={
                "version": __version__,
                "up_seconds": round(up_seconds, 3),
                "started_ns": self._began_ns,
                **({} if self._view_url is None else {"view_url": self._view_url}),
            },
        )
        return status if status.ready else replace(status, blind_seconds=up_seconds)
