"""The composition root: makes the parts, owns their tasks, and stops them in order."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from functools import partial

import structlog

from streamer.config import Settings
from streamer.flow.backoff import Backoff
from streamer.flow.membership import Membership
from streamer.flow.stop import StopLadder
from streamer.flow.uncommitted import Uncommitted
from streamer.model import Ledger, Position, Target
from streamer.overview import Overview
from streamer.plan import plan_of
from streamer.reload import Reload, ReloadError
from streamer.shard.division import misfit
from streamer.shard.ownership import Ownership
from streamer.shard.shard import CommitPolicy, Shard
from streamer.sink import (
    HOW_TO_GRANT,
    Connection,
    GroupMembership,
    KafkaUnavailable,
    ShardProducer,
    TopicsUnfit,
    glance,
    prepare_topics,
    unwritable,
)
from streamer.sink.packing import TopicLimits
from streamer.source.api import KubernetesApi, connect
from streamer.source.discovery import Discovery
from streamer.source.fleet import Fleet
from streamer.source.pods import Origin
from streamer.telemetry.failure import log_failure
from streamer.telemetry.findings import Findings
from streamer.telemetry.first_look import telling_silence
from streamer.telemetry.gauges import shown
from streamer.telemetry.http import HttpServer
from streamer.telemetry.log import configure, telling_left_out
from streamer.telemetry.progress import telling_progress
from streamer.telemetry.status import TargetStatus
from streamer.telemetry.watchdog import watched

log = structlog.get_logger()


class Worker:
    """Follows the targets of its shards and publishes what they say, until it is asked to stop.

    Which shards are its own is for the group of workers to say, unless another `membership` is given. `reload` looks
    after the configuration's file, where there is one.
    """

    def __init__(
        self,
        settings: Settings,
        stop: StopLadder,
        *,
        membership: Membership | None = None,
        reload: Reload | None = None,
        check_crcs: bool = True,
    ) -> None:
        self._settings = settings
        self._reload = reload
        self._stop = stop
        self._connection = Connection(settings.kafka, check_crcs=check_crcs)
        self.membership: Membership = membership or GroupMembership(
            self._connection,
            cluster=settings.cluster,
            state_topic=settings.topic_names.state,
            instance_id=settings.kafka.group_instance_id,
        )
        self.ownership: Ownership | None = None
        """None until the topics have been verified."""
        self._limits: dict[str, TopicLimits] | None = None
        """What each topic takes; None until they have been prepared."""
        self._findings = Findings()
        self.overview = Overview(settings.cluster, settings.http.view_url)
        self.overview.reload = reload
        self.overview.filters.take(settings.every_filter)

    @property
    def shards(self) -> Mapping[int, Shard]:
        """The shards that are ours now, by index."""
        return {} if self.ownership is None else self.ownership.shards

    @property
    def fenced(self) -> Mapping[int, int]:
        """How often each shard was taken from us while we wrote, by index."""
        return {} if self.ownership is None else self.ownership.fenced

    @property
    def ledger(self) -> Ledger:
        """The sum of our shards' committed ledgers."""
        return Ledger() if self.ownership is None else self.ownership.ledger

    async def run(self) -> bool:
        """Work until the stop ladder says so; True if everything that was read is committed by the end.

        Raises `TopicsUnfit`, `ApiConfigError` and `ListenError`, which only a change of configuration can fix.
        """
        kubernetes = self._settings.kubernetes
        http = HttpServer(self._settings.http.host, self._settings.http.port, self.overview.status)
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(watched())
            await stack.enter_async_context(telling_left_out())
            stack.enter_context(shown(self.overview.status))
            await stack.enter_async_context(telling_progress(self.overview.status))
            await stack.enter_async_context(telling_silence(self.overview.status))
            await stack.enter_async_context(self.overview.filters.reporting())
            await stack.enter_async_context(http.serving())
            api = await stack.enter_async_context(connect(kubernetes.kubeconfig, kubernetes.context))
            self.overview.credentials_read = True
            if self._reload is not None:
                await stack.enter_async_context(self._reload.watching(self._apply))
            self._limits = limits = await self._topic_limits()
            if limits is None:  # stopped before Kafka ever answered
                return True
            self.overview.topics_verified = True
            return await self._follow(api, self._shard_maker(limits))

    async def _apply(self, settings: Settings) -> None:
        """Go on under other settings, each shard after its transaction under way. Raises `ReloadError`."""
        plan, commit = plan_of(settings), _commit_policy(settings)  # before anything is changed: it may fail
        if self._limits is not None:  # else all topics are prepared still
            self._limits |= await self._prepare_new_topics(settings)
        self._settings = settings
        configure(settings.log.level, settings.log.format)
        self.overview.filters.take(settings.every_filter)
        for shard in self.shards.values():
            shard.adjust(commit, settings.health.coverage_seconds)
            shard.replan(plan)

    async def _prepare_new_topics(self, settings: Settings) -> dict[str, TopicLimits]:
        """Prepare the topics that come with other settings. One that we may not write would stop its shards."""
        new = {spec.name for spec in settings.topic_specs} - {
            spec.name for spec in self._settings.topic_specs
        }
        if not new:
            return {}
        try:
            limits = await prepare_topics(self._connection, settings)
            missing = await unwritable(self._connection, settings, new)
        except (KafkaUnavailable, TopicsUnfit) as error:
            raise ReloadError(str(error)) from error
        if missing:
            raise ReloadError(f"not allowed: {', '.join(map(str, missing))}; {HOW_TO_GRANT}")
        return limits

    async def _topic_limits(self) -> dict[str, TopicLimits] | None:
        """Prepare the topics as soon as Kafka is there; None if a stop comes before that."""
        backoff = Backoff(0.2, 5.0)
        while not self._stop.requested:
            settings = self._settings
            try:
                limits = await self._prepare_topics(settings)
                if settings.topic_specs == self._settings.topic_specs:  # else there was a reload meanwhile
                    return limits
            except KafkaUnavailable as error:
                self.overview.topics_trouble = error.cause
                log.warning("kafka_unavailable", cause=error.cause, fix=error.fix)
                await self._stop.wait_for(backoff.next_seconds())
        return None

    async def _prepare_topics(self, settings: Settings) -> dict[str, TopicLimits] | None:
        """Prepare the topics; None if a stop comes first: a broker that never answers must not hold it up."""
        preparing = asyncio.create_task(self._verify_topics(settings))
        stopping = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait([preparing, stopping], return_when=asyncio.FIRST_COMPLETED)
            return preparing.result() if preparing.done() else None
        finally:
            preparing.cancel()
            stopping.cancel()
            await asyncio.wait([preparing, stopping])

    async def _verify_topics(self, settings: Settings) -> dict[str, TopicLimits]:
        """Have the topics there and fit, and the state in its topic ours."""
        limits = await prepare_topics(self._connection, settings)
        ledger = await glance(self._connection, settings.topic_names.state, "ledger")
        if (fault := misfit(settings.cluster, settings.kafka.shards, ledger)) is not None:
            raise TopicsUnfit([fault])
        return limits

    def _shard_maker(self, limits: dict[str, TopicLimits]) -> Callable[[int], Shard]:
        uncommitted = Uncommitted(self._settings.kubernetes.max_uncommitted_bytes)

        def make(index: int) -> Shard:
            settings = self._settings  # as they are by now
            publisher = ShardProducer(
                self._connection,
                cluster=settings.cluster,
                shard=index,
                state_topic=settings.topic_names.state,
                topics=[spec.name for spec in settings.topic_specs if spec.kind != "state"],
                limits=limits,
            )
            return Shard(
                index,
                plan_of(settings),
                publisher,
                _commit_policy(settings),
                uncommitted=uncommitted,
                coverage_seconds=settings.health.coverage_seconds,
                on_commit=self._findings.report,
            )

        return make

    async def _follow(self, api: KubernetesApi, make_shard: Callable[[int], Shard]) -> bool:
        settings, kubernetes = self._settings, self._settings.kubernetes
        self.overview.discovery = discovery = Discovery(
            api,
            kubernetes.selectors,
            kubernetes.namespaces,
            kubernetes.container,
            origin=Origin(kubernetes.owners, kubernetes.service_accounts),
        )
        log.info("worker_started", cluster=settings.cluster, api=api.host, shards=settings.kafka.shards)
        async with asyncio.TaskGroup() as tasks:
            adoptions: dict[int, asyncio.Task[None]] = {}

            def gained(shard: Shard) -> None:
                shard.on_realign = realigned
                shard.statuses = partial(_statuses, fleet, shard)
                for view in discovery.views():
                    if ownership.owner_of(view.target.uid) is shard:
                        fleet.update(view)
                adopt(shard)

            def realigned(shard: Shard) -> None:
                fleet.restart(shard)
                adoptions[shard.index].cancel()
                if not self._stop.requested:  # who had the shard may have followed pods that we never saw
                    adopt(shard)

            def adopt(shard: Shard) -> None:
                adopting = _adopt(shard, discovery, fleet)
                adoptions[shard.index] = tasks.create_task(adopting, name=f"adopt {shard.index}")

            def lost(shard: Shard) -> None:
                adoptions[shard.index].cancel()
                fleet.release(shard)

            self.ownership = ownership = Ownership(
                self.membership, tasks, make_shard, settings.kafka.shards, on_gained=gained, on_lost=lost
            )
            self.overview.ownership = ownership
            self.overview.fleet = fleet = Fleet(
                api,
                lambda target: ownership.owner_of(target.uid),
                max_line_bytes=kubernetes.max_line_bytes,
                from_now=kubernetes.start == "now",
            )
            discovery.on_change, discovery.on_recovery = fleet.take, fleet.wake
            joined = tasks.create_task(self.membership.run(), name="membership")
            owning = tasks.create_task(ownership.run(), name="ownership")
            async with fleet:
                discovering = tasks.create_task(discovery.run(), name="discovery")
                await self._stop.wait()
                log.info("worker_stopping", signal=self._stop.signal_name, targets=len(fleet))
                ownership.gain_no_more()  # nobody would load it, or adopt its targets
                for source in [discovering, *adoptions.values()]:
                    source.cancel()
            drained = await self._drain(ownership)
            owning.cancel()
            joined.cancel()  # only now: what is committed is what the others go on from
        log.info("worker_stopped", drained=drained, **self.ledger.as_dict())
        return drained

    async def _drain(self, ownership: Ownership) -> bool:
        """Commit what was read, within the grace period. What is left over is not lost: it is read again."""
        grace_seconds = self._settings.shutdown.grace_seconds
        late = await ownership.drain(grace_seconds)
        if late:
            log.warning(
                "not_drained",
                shards=late,
                grace_seconds=grace_seconds,
                consequence="nothing is lost: the next start reads on from the last commit",
            )
        return not late


def _commit_policy(settings: Settings) -> CommitPolicy:
    given = settings.kafka.commit
    return CommitPolicy(
        given.interval_seconds, given.quiet_interval_seconds, given.max_lines, given.max_bytes
    )


def _statuses(fleet: Fleet, shard: Shard) -> list[TargetStatus]:
    return fleet.status(time.time_ns(), shard)


async def _adopt(shard: Shard, discovery: Discovery, fleet: Fleet) -> None:
    """See to the targets that a shard knows. A fault of ours in that costs a pause, not the worker its life."""
    backoff = Backoff(1.0, 60.0)
    while True:
        try:
            await _adopt_all(shard, discovery, fleet)
        except Exception as error:
            log_failure("adoption_failed", error, shard=shard.index)
            await asyncio.sleep(backoff.next_seconds())
        else:
            return


async def _adopt_all(shard: Shard, discovery: Discovery, fleet: Fleet) -> None:
    """Adopt the targets of each namespace as soon as its own pods are listed."""
    by_namespace: dict[str, list[tuple[Target, Position]]] = defaultdict(list)
    for target, position in await shard.stored():
        by_namespace[target.namespace].append((target, position))

    async def adopt(namespace: str) -> None:
        await discovery.listed(namespace)
        ours = discovery.covers(namespace)
        fleet.adopt(by_namespace[namespace], last_of=discovery.last_of, ours=ours)

    async with asyncio.TaskGroup() as tasks:
        for namespace in by_namespace:
            tasks.create_task(adopt(namespace), name=f"adopt {shard.index} {namespace}")
