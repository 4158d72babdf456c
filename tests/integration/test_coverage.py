"""Coverage records on real parts: who counts alerts can tell a quiet Falco from one that nobody hears.

Here it takes seconds until a Falco counts as silent or blind, not minutes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import orjson
import pytest

from streamer.app import Worker
from streamer.config import Settings
from streamer.flow.stop import StopLadder
from streamer.model import Coverage
from streamer.shard import coverage
from streamer.simulator import AlertGenerator
from streamer.telemetry.metrics import REGISTRY
from tests.integration.installation import Installation, installed
from tests.integration.oracle import Oracle, oracle
from tests.testbed.apiserver import KubeApiServer
from tests.testbed.client import KubeApi
from tests.testbed.fixtures import parts_or_skip
from tests.testbed.kafka import Kafka
from tests.testbed.kubelet import Kubelet
from tests.testbed.pod import Pod

pytestmark = pytest.mark.real

SILENT_SECONDS, BLIND_SECONDS, COVERAGE_SECONDS = 8.0, 2.0, 5.0
TEXT = "10:00:00.123456789: Notice A shell was spawned in a container with an attached terminal (user=root)"


@pytest.fixture
async def installation(
    api_server: KubeApiServer, api: KubeApi, kubelet: Kubelet, kafka: Kafka
) -> AsyncIterator[Installation]:
    async with installed(
        api_server, api, kubelet, kafka, pods=1, namespaces=1, generator=AlertGenerator(3)
    ) as made:
        yield made


@asynccontextmanager
async def running(settings: Mapping[str, Any]) -> AsyncIterator[Worker]:
    stop = StopLadder()
    worker = Worker(Settings.model_validate(settings), stop)
    working = asyncio.create_task(worker.run())
    try:
        yield worker
    finally:
        stop.request()
        assert await working


class CoverageRecords:
    """What was told of each pod."""

    def __init__(self, seen: Oracle) -> None:
        self._seen = seen

    def of(self, pod: Pod) -> list[dict[str, Any]]:
        """All of it, in order."""
        values = [orjson.loads(record.value) for record in self._seen.records]
        return [
            value
            for value in values
            if value.get("health") == "coverage" and value["target"]["uid"] == pod.uid
        ]

    def states(self, pod: Pod) -> list[str]:
        """The states that it went through."""
        return [value["coverage"] for value in self.of(pod) if value["changed"]]

    async def until(self, last: Mapping[Pod, str]) -> None:
        """Wait until the last that was told of each pod is this."""
        await self._seen.until(
            lambda _: all(self.states(pod)[-1:] == [state] for pod, state in last.items()), seconds=40
        )
        assert {pod.name: self.states(pod)[-1:] for pod in last} == {
            pod.name: [state] for pod, state in last.items()
        }


def gauge() -> dict[str, float | None]:
    name = "falco_streamer_target_coverage"
    return {state: REGISTRY.get_sample_value(name, {"coverage": state}) for state in Coverage}


async def test_every_target_is_told_of_at_each_change_and_now_and_then(
    installation: Installation, kafka: Kafka, api_server: KubeApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coverage, "SILENT_SECONDS", SILENT_SECONDS)
    monkeypatch.setattr(coverage, "BLIND_SECONDS", BLIND_SECONDS)
    settings = installation.settings(health={"coverage_seconds": COVERAGE_SECONDS})
    (falco,), (speaking,) = installation.clusters, installation.pods
    generator = AlertGenerator(4)
    quiet, text, crashed = [await falco.add_pod(name) for name in ("quiet", "text", "crashed")]

    talking = [speaking]

    async def talk() -> None:
        while True:
            for pod in talking:
                pod.log().line(generator.alert(time.time_ns(), "node"))
            await asyncio.sleep(0.5)

    with parts_or_skip(), Kubelet(api_server.authority) as far_kubelet:
        node = f"{falco.node}-far"
        await falco.add_node(node, kubelet=far_kubelet)
        far = await falco.add_pod("far", node=node)
        everyone = (speaking, quiet, text, crashed, far)
        for pod in everyone:
            pod.log().line("Falco version: 0.42.0 (x86_64)")
        async with oracle(kafka.bootstrap, [f"{installation.name}.health"]) as seen:
            reported = CoverageRecords(seen)
            async with running(settings) as worker:
                background = asyncio.create_task(talk())
                await reported.until(dict.fromkeys(everyone, "following"))

                text.log().line(TEXT)
                await crashed.back_off()
                await asyncio.to_thread(far_kubelet.kill)
                last = {speaking: "following", quiet: "silent", text: "text", crashed: "blind", far: "blind"}
                await reported.until(last)
                assert gauge() == {"following": 1, "silent": 1, "text": 1, "blind": 2}

                await text.restart()  # with `falco.json_output: true`
                await crashed.restart()
                await asyncio.to_thread(far_kubelet.start)
                talking += [quiet, text, crashed, far]
                await reported.until(dict.fromkeys(everyone, "following"))
                background.cancel()
            await seen.read_to_end()
            ledger = worker.ledger
            assert ledger.health_records == len(seen.records)
            assert ledger.gaps == 0

    assert reported.states(speaking) == ["following"]
    assert reported.states(quiet)[:3] == ["following", "silent", "following"]
    for pod in everyone:
        told = reported.of(pod)
        for before, after in pairwise(told):
            assert after["changed"] == (after["coverage"] != before["coverage"])
            assert after["changed"] or after["since"] == before["since"]
        assert any(not value["changed"] for value in told), "it is told now and then although nothing changes"
