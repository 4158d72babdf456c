"""What only a cluster of brokers, or a broker with a small disk, can suffer: nothing is lost, nothing doubled."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Sequence
from pathlib import Path

import aiohttp
import pytest

from tests.chaos.bed import Bed, Site, Worker
from tests.chaos.load import Kind
from tests.chaos.run import RATE, Play, Report, playing
from tests.testbed import PartMissing
from tests.testbed.apiserver import KubeApiServer
from tests.testbed.cluster import FalcoCluster
from tests.testbed.kafka import Kafka
from tests.testbed.small_disk import SmallDisk

pytestmark = pytest.mark.real

OUTAGE_SECONDS = 15.0
"""Longer than the worker's patience for one transaction."""
QUOTA_BYTES = 100_000
"""A second, for each shard's producer."""
BURST_LINES = 300
DISK_BYTES = 128 * 1024 * 1024


def exactly_once(report: Report, play: Play) -> None:
    assert report.violations == [], f"\n{report}"
    assert report.verdict.missing == 0
    assert not report.verdict.gaps
    assert play.conductor.worker.heard("publish_failed"), "the outage was not noticed at all"


async def test_two_of_three_brokers_are_lost(
    kafka_brokers: Sequence[Kafka], cluster: FalcoCluster, api_server: KubeApiServer, tmp_path: Path
) -> None:
    """One in-sync replica is left of the two that a write needs; before that one leader moves, and nothing stops."""
    every = ",".join(broker.bootstrap for broker in kafka_brokers)
    site = Site(tmp_path, cluster, api_server.kubeconfig, every, every)
    await site.create_topics()
    async with playing(site, seed=21) as play:
        await play.conductor.worker.start()
        async with play.conductor.load(play.printer):
            await play.conductor.settle("the start")
            await asyncio.to_thread(kafka_brokers[0].kill)
            await play.conductor.settle("the first loss")
            await asyncio.to_thread(kafka_brokers[1].kill)
            await asyncio.sleep(OUTAGE_SECONDS)
            for broker in kafka_brokers[:2]:
                await asyncio.to_thread(broker.spawn)
            for broker in kafka_brokers[:2]:
                await asyncio.to_thread(broker.wait_ready)
            await play.conductor.settle("the return")
        exactly_once(await play.finish(), play)


async def test_brokers_are_restarted_one_after_the_other(
    kafka_brokers: Sequence[Kafka], cluster: FalcoCluster, api_server: KubeApiServer, tmp_path: Path
) -> None:
    """Leaders and coordinators move away in good order, and nothing of ours runs into its time."""
    every = ",".join(broker.bootstrap for broker in kafka_brokers)
    site = Site(tmp_path, cluster, api_server.kubeconfig, every, every)
    await site.create_topics()
    async with playing(site, seed=22) as play:
        await play.conductor.worker.start()
        async with play.conductor.load(play.printer):
            await play.conductor.settle("the start")
            for broker in kafka_brokers:
                await asyncio.to_thread(broker.stop)
                await play.conductor.settle("a broker's end")
                await asyncio.to_thread(broker.start)
                await play.conductor.settle("its return")
        report = await play.finish()
    assert report.violations == [], f"\n{report}"
    assert report.verdict.missing == 0
    assert not report.verdict.gaps
    worker = play.conductor.worker
    assert not [told for told in worker.heard("publish_failed") if "within" in told["cause"]]
    assert not worker.heard("shard_realigned")


async def test_a_quota_slows_us_down_and_breaks_nothing(own_servers: Bed) -> None:
    """More waits than a transaction's time suffices for: it has to be cut."""
    async with playing(own_servers, 23, RATE / 3, kafka={"compression": "none"}) as play:
        conductor, worker = play.conductor, play.conductor.worker
        await worker.start()
        async with conductor.load(play.printer):
            await conductor.settle("the start")
            before = await slow_transactions(worker)
            await asyncio.to_thread(own_servers.kafka.limit_producers, QUOTA_BYTES)
            for pod in conductor.pods.values():
                play.printer.print(pod, BURST_LINES, Kind.ALERT)
            await conductor.settle("a burst")
            assert await slow_transactions(worker) > before, "the quota was never reached"
            await asyncio.to_thread(own_servers.kafka.limit_producers, 1000 * QUOTA_BYTES)
            await conductor.settle("the quota's end")
        report = await play.finish()
    assert report.violations == [], f"\n{report}"
    assert report.verdict.missing == 0
    assert not [gap for gap in report.verdict.gaps if gap.endswith("certain")]


async def slow_transactions(worker: Worker) -> int:
    """How many took longer than a second, as the worker tells it."""
    port = worker.heard("http_serving")[-1]["port"]
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/metrics") as answer:
        page = await answer.text()
    name = r"^falco_streamer_transaction_duration_seconds"
    (quick,) = re.findall(rf'{name}_bucket{{le="1.0"}} (\S+)$', page, re.MULTILINE)
    (every,) = re.findall(rf"{name}_count (\S+)$", page, re.MULTILINE)
    return int(float(every) - float(quick))


async def test_the_brokers_disk_is_full(
    cluster: FalcoCluster, api_server: KubeApiServer, tmp_path: Path
) -> None:
    try:
        with SmallDisk(tmp_path / "disk", DISK_BYTES) as disk:
            folder = {"log.dirs": str(disk.path / "data")}
            with Kafka(extra_properties=folder, prefix=disk.inside) as kafka:
                await fill_under_load(
                    Site(tmp_path, cluster, api_server.kubeconfig, *[kafka.bootstrap] * 2), kafka, disk
                )
    except PartMissing as missing:
        pytest.skip(str(missing))


async def fill_under_load(site: Site, kafka: Kafka, disk: SmallDisk) -> None:
    await site.create_topics()
    async with playing(site, seed=22) as play:
        await play.conductor.worker.start()
        async with play.conductor.load(play.printer):
            await play.conductor.settle("the start")
            await asyncio.to_thread(disk.fill)
            full_since = time.monotonic()
            while kafka.process.running:  # with its only disk gone, a broker ends by itself
                assert time.monotonic() < full_since + 60, "the broker does not mind"
                await asyncio.sleep(0.1)
            assert kafka.process.has_said("No space left on device")
            await asyncio.sleep(OUTAGE_SECONDS)
            disk.free()
            await asyncio.to_thread(kafka.start)
            await play.conductor.settle("the return")
        exactly_once(await play.finish(), play)
