"""An owner that stands still in mid transaction, while another process takes over: nothing of it is lost or doubled."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from streamer.simulator import AlertGenerator
from tests.chaos import planted
from tests.chaos.bed import Worker
from tests.integration.installation import Installation, installed
from tests.integration.oracle import oracle
from tests.integration.test_deduplication import TREATMENT, check_decisions, settled
from tests.testbed.apiserver import KubeApiServer
from tests.testbed.client import KubeApi
from tests.testbed.kafka import Kafka
from tests.testbed.kubelet import Kubelet

pytestmark = pytest.mark.real

PODS, SHARDS = 6, 4
FROZEN_SECONDS = 40.0
"""Longer than its session (10 s), its transaction (15 s), and any connection's patience."""


@pytest.fixture
async def installation(
    api_server: KubeApiServer, api: KubeApi, kubelet: Kubelet, kafka: Kafka
) -> AsyncIterator[Installation]:
    generator = AlertGenerator(13, combinations=60)
    async with installed(
        api_server, api, kubelet, kafka, pods=PODS, namespaces=1, generator=generator
    ) as made:
        yield made


async def test_an_owner_frozen_before_its_commit_does_no_harm_when_it_wakes(
    installation: Installation, api: KubeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert planted.__file__ is not None
    settings = installation.settings(**TREATMENT)
    sleeper = Worker(tmp_path / "sleeper", settings, ("-P", planted.__file__, "freeze_before_commit"))
    successor = Worker(tmp_path / "successor", settings, ("-m", "streamer"))
    try:
        async with oracle(installation.kafka.bootstrap, installation.topics) as seen:
            monkeypatch.setenv("PYTHONHASHSEED", "1")  # what is stored must not depend on it
            await sleeper.start()
            standing = tmp_path / "sleeper" / "fault-was-planted"
            while not standing.exists():
                installation.write(PODS)
                await asyncio.sleep(0.1)
            await asyncio.to_thread(sleeper.process.freeze)
            frozen_at, before = time.monotonic(), len(seen.records)

            monkeypatch.setenv("PYTHONHASHSEED", "2")
            await successor.start()
            await seen.until(lambda seen: len(seen.records) > before)
            installation.write(2000)
            await seen.until(lambda seen: settled(seen, len(installation.written)), seconds=30)
            assert settled(seen, len(installation.written)), "the successor has not taken over"
            while time.monotonic() < frozen_at + FROZEN_SECONDS:
                installation.write(PODS)
                await asyncio.sleep(0.5)

            sleeper.process.resume()
            installation.write(1000)
            await seen.until(lambda seen: settled(seen, len(installation.written)))
            assert await sleeper.stop() == 0
            installation.write(500)
            await seen.until(lambda seen: settled(seen, len(installation.written)))
            assert await successor.stop() == 0
            await seen.read_to_end()
        await check_decisions(installation, api, tmp_path / "successor" / "streamer.yaml", seen)
        fenced = Counter(
            event["shard"] for worker in (sleeper, successor) for event in worker.heard("shard_fenced")
        )
        assert set(fenced.values()) == {1}, fenced
        assert sleeper.tracebacks() == successor.tracebacks() == 0
    finally:
        await sleeper.kill()
        await successor.kill()
