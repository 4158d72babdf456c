"""Another number of shards: real workers before and after, on a real Kafka; nothing lost, nothing doubled."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from streamer.cli import main
from streamer.simulator import AlertGenerator
from streamer.transform.export import Export, read_export
from tests.chaos import planted
from tests.chaos.bed import Worker
from tests.integration.installation import Installation, installed
from tests.integration.oracle import Oracle, oracle
from tests.integration.test_deduplication import TREATMENT, check_decisions, settled
from tests.testbed.apiserver import KubeApiServer
from tests.testbed.client import KubeApi
from tests.testbed.kafka import Kafka
from tests.testbed.kubelet import Kubelet

pytestmark = pytest.mark.real

PODS, SHARDS = 6, 4
PATIENCE_SECONDS = 40.0


class Resharded(Installation):
    """An installation whose state moves."""

    moved_to: str = ""

    @property
    def state_topic(self) -> str:
        return self.moved_to or super().state_topic

    def settings_for(self, shards: int, topic: str) -> dict[str, Any]:
        settings = self.settings(**TREATMENT)
        kafka, topics = settings["kafka"] | {"shards": shards}, settings["topics"] | {"state": topic}
        return settings | {"kafka": kafka, "topics": topics}


@pytest.fixture
async def installation(
    api_server: KubeApiServer, api: KubeApi, kubelet: Kubelet, kafka: Kafka
) -> AsyncIterator[Resharded]:
    generator = AlertGenerator(17, combinations=60)
    async with installed(
        api_server, api, kubelet, kafka, pods=PODS, namespaces=1, generator=generator
    ) as made:
        made.__class__ = Resharded
        assert isinstance(made, Resharded)
        yield made


async def state(folder: Path, command: str, *arguments: str) -> Result:
    config = ["--config", str(folder / "streamer.yaml")]
    return await asyncio.to_thread(CliRunner().invoke, main, ["state", command, *config, *arguments])


async def export(folder: Path) -> Export:
    done = await state(folder, "export")
    assert done.exit_code == 0, done.stderr
    return read_export(done.stdout.splitlines())


async def arrive(installation: Installation, seen: Oracle) -> None:
    await seen.until(lambda seen: settled(seen, len(installation.written)), seconds=PATIENCE_SECONDS)
    assert settled(seen, len(installation.written))


async def test_workers_before_and_after_publish_each_alert_once_and_decide_as_one_that_never_stopped(
    installation: Resharded, api: KubeApi, tmp_path: Path
) -> None:
    topic = installation.state_topic
    worker = Worker(tmp_path / "0", installation.settings_for(SHARDS, topic), ("-m", "streamer"))
    folder = tmp_path / "0"
    try:
        async with oracle(installation.kafka.bootstrap, installation.topics) as seen:
            for turn, count in enumerate([6, SHARDS], 1):
                await seen.read_to_end()
                before = len(seen.records)
                await worker.start()
                installation.write(PODS)
                await seen.until(lambda seen, before=before: len(seen.records) > before)  # type: ignore[misc]
                installation.write(1200)
                await worker.kill()  # in mid work, with windows open and transactions under way
                done = await reshard_when_it_may(folder, count)
                assert done.exit_code == 0, done.stderr
                was, topic = await export(folder), topic_of(done)
                assert {tuple(held) for held in was.shards.values()} == {("moved",)}
                folder = tmp_path / str(turn)
                worker = Worker(folder, installation.settings_for(count, topic), ("-m", "streamer"))
                assert len((await export(folder)).shards) == count
            await worker.start()
            installation.write(600)
            await arrive(installation, seen)
            assert await worker.stop() == 0
            await seen.read_to_end()
        installation.moved_to = topic
        await check_decisions(installation, api, folder / "streamer.yaml", seen)
    finally:
        await worker.kill()


async def reshard_when_it_may(folder: Path, count: int) -> Result:
    """Refused until the group has missed the worker that was killed."""
    first = await state(folder, "reshard", "--to", str(count), "--yes")
    assert first.exit_code == 1
    assert "workers are running (1)" in first.stderr
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        done = await state(folder, "reshard", "--to", str(count), "--yes")
        if done.exit_code != 1 or time.monotonic() > deadline:
            return done
        await asyncio.sleep(0.5)


def topic_of(done: Result) -> str:
    return str(done.stdout.split("topics.state: ")[1].partition(",")[0])


async def test_a_worker_frozen_before_its_commit_can_do_nothing_when_it_wakes_after_the_reshard(
    installation: Resharded, api: KubeApi, tmp_path: Path
) -> None:
    assert planted.__file__ is not None
    old = installation.settings_for(SHARDS, installation.state_topic)
    sleeper = Worker(tmp_path / "old", old, ("-P", planted.__file__, "freeze_before_commit"))
    successor: Worker | None = None
    try:
        async with oracle(installation.kafka.bootstrap, installation.topics) as seen:
            await sleeper.start()
            while not (tmp_path / "old" / "fault-was-planted").exists():
                installation.write(PODS)
                await asyncio.sleep(0.1)
            await asyncio.to_thread(sleeper.process.freeze)
            done = await reshard_when_it_may(tmp_path / "old", 6)
            assert done.exit_code == 0, done.stderr
            installation.moved_to = topic_of(done)
            settings = installation.settings_for(6, installation.moved_to)
            successor = Worker(tmp_path / "new", settings, ("-m", "streamer"))
            sleeper.process.resume()
            told = await sleeper.until_heard("state_unreadable", PATIENCE_SECONDS)
            assert f"this state was moved to the topic {installation.moved_to} with 6 shards" in told["cause"]
            await successor.start()
            installation.write(1000)
            await arrive(installation, seen)
            await sleeper.stop()
            installation.write(500)
            await arrive(installation, seen)
            assert await successor.stop() == 0
            await seen.read_to_end()
        await check_decisions(installation, api, tmp_path / "new" / "streamer.yaml", seen)
        assert sleeper.tracebacks() == successor.tracebacks() == 0
    finally:
        await sleeper.kill()
        if successor is not None:
            await successor.kill()
