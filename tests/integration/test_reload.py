"""The configuration's file swapped under load, on real parts: no alert is lost, none is doubled, each is told once."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from streamer.simulator import AlertGenerator
from tests.integration.installation import Installation, installed
from tests.integration.oracle import Oracle, oracle
from tests.integration.worker import WorkerProcess
from tests.testbed.apiserver import KubeApiServer
from tests.testbed.client import KubeApi
from tests.testbed.kafka import Kafka
from tests.testbed.kubelet import Kubelet

pytestmark = pytest.mark.real

DEDUPLICATED: dict[str, Any] = {"dedupe": {"window_seconds": [600]}, "limits": {"enabled": False}}
OTHER_KEYS: dict[str, Any] = {
    "dedupe": {"window_seconds": [600], "group_fields": {"syscall": ["proc.name", "user.name"]}},
    "limits": {"enabled": False},
}


@pytest.fixture
async def installation(
    api_server: KubeApiServer, api: KubeApi, kubelet: Kubelet, kafka: Kafka
) -> AsyncIterator[Installation]:
    generator = AlertGenerator(5, combinations=40)
    async with installed(api_server, api, kubelet, kafka, pods=4, namespaces=1, generator=generator) as made:
        yield made


def told(seen: Oracle) -> int:
    """How many alerts are on the topics, or in the counts of summaries."""
    summaries = [record for record in seen.records if dict(record.headers)["kind"] == b"summary"]
    return seen.alerts + sum(int(orjson.loads(record.value)["summary"]["count"]) for record in summaries)


async def test_reloads_under_load_lose_and_double_nothing(installation: Installation, tmp_path: Path) -> None:
    worker = WorkerProcess(tmp_path, installation.settings())
    settings = yaml.safe_load(worker.config.read_text())
    events = ["config_reloaded", "config_reloaded", "config_refused", "config_reloaded"]
    files = [
        yaml.safe_dump({**settings, **DEDUPLICATED}),
        yaml.safe_dump({**settings, **OTHER_KEYS}),
        "dedupe: {window_seconds: [never]}\n",
        yaml.safe_dump(settings),
    ]

    def reloads() -> list[str]:
        return [event["event"] for event in worker.events() if event["event"].startswith("config_")]

    async with oracle(installation.kafka.bootstrap, installation.topics) as seen:
        with worker.shown_on_failure():
            await worker.start()
            installation.write(500)
            await seen.until(lambda seen: seen.alerts >= 500)
            for number, text in enumerate(files, 1):
                swapped = worker.config.with_suffix(".new")
                swapped.write_text(text)
                swapped.replace(worker.config)
                async with asyncio.timeout(30):
                    while reloads() != events[:number]:
                        installation.write(20)
                        await asyncio.sleep(0.05)
                installation.write(500)
            await seen.until(lambda seen: told(seen) >= len(installation.written))
            assert await worker.stop(signal.SIGTERM) == 0
        await seen.read_to_end()
    assert told(seen) == len(installation.written)
    ids = [dict(record.headers)["ce_id"] for record in seen.records]
    assert len(ids) == len(set(ids))
    reasons = {
        orjson.loads(record.value)["summary"]["reason"]
        for record in seen.records
        if dict(record.headers)["kind"] == b"summary"
    }
    assert reasons == {"reload"}
