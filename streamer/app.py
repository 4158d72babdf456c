"""The composition root: makes the parts, owns their tasks, and stops them in order."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import reduce

import structlog

from streamer.config import Settings
from streamer.flow.backoff import Backoff
from streamer.flow.publishing import Publisher
from streamer.flow.stop import StopLadder
from streamer.model import Ledger, Publication, Reason, Target
from streamer.overview import Overview
from streamer.plan import plan_of
from streamer.shard.assign import shard_of
from streamer.shard.shard import CommitPolicy, Shard
from streamer.sink import Connection, KafkaUnavailable, ShardProducer, prepare_topics
from streamer.sink.packing import TopicLimits
from streamer.source.api import KubernetesApi, connect
from streamer.source.discovery import Discovery
from streamer.source.fleet import Fleet
from streamer.telemetry.gauges import shown
from streamer.telemetry.http import HttpServer
from streamer.telemetry.log import telling_left_out
from streamer.telemetry.watchdog import watched

log = structlog.get_logger()


class Worker:
    """Follows every target and publishes what it says, until it is asked to stop."""

    def __init__(self, settings: Settings, stop: StopLadder, *, check_crcs: bool = True) -> None:
        self._settings = settings
        self._stop = stop
        self._connection = Connection(settings.kafka, check_crcs=check_crcs)
        self.shards: list[Shard] = []
        self.overview = Overview(settings.cluster)

    @property
    def ledger(self) -> Ledger:
        """The sum of the shards' committed ledgers."""
        return reduce(Ledger.__add__, (shard.ledger for shard in self.shards), Ledger())

    async def run(self) -> bool:
        """Work until the stop ladder says so; True if everything that was read is committed by the end.

        Raises `TopicsUnfit`, `ApiConfigError` and `ListenError`, which only a change of configuration can mend.
        """
        kubernetes = self._settings.kubernetes
        http = HttpServer(self._settings.http.host, self._settings.http.port, self.overview.status)
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(watched())
            await stack.enter_async_context(telling_left_out())
            stack.enter_context(shown(self.overview.status))
            await stack.enter_async_context(http.serving())
            api = await stack.enter_async_context(connect(kubernetes.kubeconfig, kubernetes.context))
            limits = await self._topic_limits()
            if limits is None:  # stopped before Kafka ever answered
                return True
            self.overview.topics_trouble = ""
            self.overview.shards = self.shards = self._make_shards(limits)
            return await self._follow(api)

    async def _topic_limits(self) -> dict[str, TopicLimits] | None:
        backoff = Backoff(0.2, 5.0)
        while not self._stop.requested:
            try:
                return await self._prepare_topics()
            except KafkaUnavailable as error:
                self.overview.topics_trouble = error.cause
                log.warning("kafka_unavailable", cause=error.cause, fix=error.fix)
                await self._stop.wait_for(backoff.next_seconds())
        return None

    async def _prepare_topics(self) -> dict[str, TopicLimits] | None:
        """Prepare the topics; None if a stop comes first: a broker that never answers must not hold it up."""
        preparing = asyncio.create_task(prepare_topics(self._connection, self._settings))
        stopping = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait([preparing, stopping], return_when=asyncio.FIRST_COMPLETED)
            return preparing.result() if preparing.done() else None
        finally:
            preparing.cancel()
            stopping.cancel()
            await asyncio.wait([preparing, stopping])

    def _make_shards(self, limits: dict[str, TopicLimits]) -> list[Shard]:
        settings, plan = self._settings, plan_of(self._settings)
        commit = CommitPolicy(
            settings.kafka.commit.interval_seconds,
            settings.kafka.commit.max_lines,
            settings.kafka.commit.max_bytes,
        )

        def publisher(index: int) -> Publisher:
            return ShardProducer(
                self._connection,
                cluster=settings.cluster,
                shard=index,
                state_topic=settings.topic_names.state,
                topics=[spec.name for spec in settings.topic_specs if spec.kind != "state"],
                limits=limits,
            )

        return [
            Shard(index, plan, publisher(index), commit, on_commit=_say_what_is_malformed)
            for index in range(settings.kafka.shards)
        ]

    async def _follow(self, api: KubernetesApi) -> bool:
        kubernetes = self._settings.kubernetes
        self.overview.discovery = discovery = Discovery(
            api, kubernetes.selectors, kubernetes.namespaces, kubernetes.container
        )
        shards = self.shards
        self.overview.fleet = fleet = Fleet(
            api,
            lambda target: shards[shard_of(target.uid, len(shards))],
            max_line_bytes=kubernetes.max_line_bytes,
            from_now=kubernetes.start == "now",
        )
        log.info("worker_started", cluster=self._settings.cluster, api=api.host, shards=len(shards))
        async with asyncio.TaskGroup() as tasks:
            commits = [tasks.create_task(shard.run(), name=f"shard {shard.index}") for shard in shards]
            async with fleet:
                for shard in shards:
                    shard.on_realign = fleet.restart
                sources = [
                    tasks.create_task(discovery.run(), name="discovery"),
                    tasks.create_task(_steer(discovery, fleet), name="fleet"),
                    *(tasks.create_task(_adopt(shard, discovery, fleet), name="adopt") for shard in shards),
                ]
                await self._stop.wait()
                log.info("worker_stopping", signal=self._stop.signal_name, targets=len(fleet))
                for source in sources:
                    source.cancel()
            drained = await self._drain(shards, commits)
        log.info("worker_stopped", drained=drained, **self.ledger.as_dict())
        return drained

    async def _drain(self, shards: Sequence[Shard], commits: Sequence[asyncio.Task[None]]) -> bool:
        """Commit what was read, within the grace period. What is left over is not lost: it is read again."""
        for shard in shards:
            shard.drain()
        grace_seconds = self._settings.shutdown.grace_seconds
        _, late = await asyncio.wait(commits, timeout=grace_seconds)
        for task in late:
            task.cancel()
        if late:
            log.warning(
                "not_drained",
                shards=len(late),
                grace_seconds=grace_seconds,
                consequence="nothing is lost: the next start reads on from the last commit",
            )
        return not late


async def _adopt(shard: Shard, discovery: Discovery, fleet: Fleet) -> None:
    stored = await shard.stored()
    await discovery.listed()
    fleet.adopt(stored, discovery.targets())


async def _steer(discovery: Discovery, fleet: Fleet) -> None:
    async for wanted in discovery.changes():
        fleet.apply(wanted)


_FIXES: dict[Reason, str] = {
    Reason.TEXT_ALERT: "Falco prints its alerts as text: set `falco.json_output: true` in the Falco chart's values "
    "(`json_output: true` in falco.yaml)",
    Reason.LINE_TOO_LONG: "raise kubernetes.max_line_bytes, and the topics' max.message.bytes with it",
    Reason.RECORD_TOO_LARGE: "raise max.message.bytes of the topic",
}


def _say_what_is_malformed(publication: Publication) -> None:
    by_reason: Counter[Reason] = Counter()
    example: dict[Reason, Target] = {}
    for (target, reason), count in publication.malformed.items():
        by_reason[reason] += count
        example.setdefault(reason, target)
    for reason, count in by_reason.items():
        fix = {"fix": _FIXES[reason]} if reason in _FIXES else {}
        log.warning("dead_letters", cause=reason, count=count, example=example[reason].pod_name, **fix)
