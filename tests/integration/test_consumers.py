"""The Python example on what a real worker has written to a real broker."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiokafka import AIOKafkaProducer

from streamer.simulator import AlertGenerator
from tests.integration.installation import Installation, installed
from tests.integration.oracle import oracle
from tests.integration.worker import WorkerProcess
from tests.testbed.apiserver import KubeApiServer
from tests.testbed.client import KubeApi
from tests.testbed.kafka import Kafka
from tests.testbed.kubelet import Kubelet

pytestmark = pytest.mark.real

CONSUMER = Path(__file__).parents[2] / "examples" / "consumers" / "python" / "consumer.py"
DEDUPLICATED: dict[str, Any] = {"dedupe": {"window_seconds": [1]}}


@pytest.fixture
async def installation(
    api_server: KubeApiServer, api: KubeApi, kubelet: Kubelet, kafka: Kafka
) -> AsyncIterator[Installation]:
    generator = AlertGenerator(3, combinations=20)
    async with installed(api_server, api, kubelet, kafka, pods=2, namespaces=1, generator=generator) as made:
        yield made


async def abort(bootstrap: str, topic: str) -> None:
    """Leave aborted records behind, as a worker does that is killed in mid transaction."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id=f"abort-{topic}")
    await producer.start()
    try:
        await producer.begin_transaction()
        headers = [("kind", b"alert"), ("ce_id", b"aborted")]
        await producer.send_and_wait(topic, b"{}", headers=headers)
        await producer.abort_transaction()
    finally:
        await producer.stop()


async def test_the_example_counts_every_alert_once_and_shows_nothing_that_was_aborted(
    installation: Installation, tmp_path: Path
) -> None:
    worker = WorkerProcess(tmp_path, installation.settings(**DEDUPLICATED))
    bootstrap = installation.kafka.bootstrap
    async with oracle(bootstrap, installation.topics) as seen:
        with worker.shown_on_failure():
            await worker.start()
            installation.write(1000)

            def told() -> int:
                summaries = [r for r in seen.records if dict(r.headers)["kind"] == b"summary"]
                return seen.alerts + sum(int(orjson.loads(r.value)["summary"]["count"]) for r in summaries)

            await seen.until(lambda _: told() >= 1000)
            assert await worker.stop(signal.SIGTERM) == 0
    await abort(bootstrap, installation.alert_topics[5])

    pattern = rf"{installation.name}\.(alerts\..*|summaries|overflow)"
    command = [sys.executable, CONSUMER, "--bootstrap", bootstrap, "--topics", pattern]
    command += ["--group", installation.name, "--until-quiet-seconds", "8"]
    done = await asyncio.to_thread(
        subprocess.run,
        [str(part) for part in command],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    found = [orjson.loads(line) for line in done.stdout.splitlines()]
    ids = [record["id"] for record in found]
    assert len(ids) == len(set(ids))
    assert "aborted" not in ids
    assert {record["kind"] for record in found} == {"alert", "summary"}
    assert sum(record["count"] for record in found) == 1000
