"""The main job on real parts: pods' logs through the API server into Kafka's topics, each alert exactly once."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from streamer.simulator import AlertGenerator
from tests.integration.installation import Installation, installed
from tests.integration.oracle import oracle
from tests.integration.worker import WorkerProcess
from tests.testbed.apiserver import KubeApiServer
from tests.testbed.client import KubeApi
from tests.testbed.kafka import Kafka
from tests.testbed.kubelet import Kubelet

pytestmark = pytest.mark.real

ALERTS, PODS, NAMESPACES = 10_000, 20, 3


@pytest.fixture
async def installation(
    api_server: KubeApiServer, api: KubeApi, kubelet: Kubelet, kafka: Kafka
) -> AsyncIterator[Installation]:
    generator = AlertGenerator(7)
    async with installed(
        api_server, api, kubelet, kafka, pods=PODS, namespaces=NAMESPACES, generator=generator
    ) as made:
        yield made


def check_records(installation: Installation, records: list[Any]) -> None:
    """Every alert written is there once, where and as it should be; but for Falco's own reports, nothing else is."""
    reports = [orjson.loads(record.value)["rule"] for record in records if record.topic.endswith(".health")]
    written = [orjson.loads(alert)["rule"] for _, alert in installation.written]
    assert sorted(reports) == sorted(rule for rule in written if rule.startswith("Falco internal:"))
    records = [record for record in records if not record.topic.endswith(".health")]
    expected = Counter((f"{pod.namespace}/{pod.name}".encode(), alert) for pod, alert in installation.written)
    assert Counter((record.key, record.value) for record in records) == expected
    by_key: dict[bytes, dict[str, list[bytes]]] = {}
    for record in records:
        alert = orjson.loads(record.value)
        headers = dict(record.headers)
        priority = alert["priority"].lower()
        assert record.topic == f"{installation.name}.alerts.{priority}"
        assert headers["priority"] == priority.encode()
        assert headers["rule"].decode() == alert["rule"]
        assert headers["kind"] == b"alert"
        assert headers["content-type"] == b"application/json"
        assert headers["ce_specversion"] == b"1.0"
        assert headers["ce_type"] == b"org.falco.alert.v1"
        assert headers["ce_time"].decode() == alert["time"]
        assert headers["cluster"].decode() == installation.name
        assert headers["ce_source"].endswith(record.key.rpartition(b"/")[2])
        assert len(headers) == len(record.headers) == 11
        by_key.setdefault(record.key, {}).setdefault(record.topic, []).append(record.value)
    assert len({dict(record.headers)["ce_id"] for record in records}) == len(records)
    for pod in installation.pods:  # order by key and topic is the order of the log
        key = f"{pod.namespace}/{pod.name}".encode()
        wrote = [alert for writer, alert in installation.written if writer is pod]
        for topic, values in by_key[key].items():
            assert values == [
                alert for alert in wrote if topic.endswith(f".{orjson.loads(alert)['priority'].lower()}")
            ]


async def test_ten_thousand_alerts_arrive_exactly_once_over_a_restart_in_mid_stream(
    installation: Installation, tmp_path: Path
) -> None:
    worker = WorkerProcess(tmp_path, installation.settings())
    async with oracle(installation.kafka.bootstrap, installation.topics) as seen:
        with worker.shown_on_failure():
            installation.write(ALERTS // 4)  # before the worker is there
            await worker.start()
            await seen.until(lambda seen: len(seen.records) >= ALERTS // 8)

            # Stopped in mid stream: logs are written to before, during and after.
            async with asyncio.TaskGroup() as tasks:
                stopping = tasks.create_task(worker.stop(signal.SIGTERM))
                while not stopping.done():
                    installation.write(PODS)
                    await asyncio.sleep(0)
                assert stopping.result() == 0
            installation.write(max(0, ALERTS - len(installation.written)))

            await worker.start()
            await seen.until(lambda seen: seen.alerts >= len(installation.written))
            assert await worker.stop(signal.SIGTERM) == 0
        await seen.read_to_end()
        assert len(installation.written) >= ALERTS
        check_records(installation, seen.records)
    await check_state(installation)
    last = [event for event in worker.events() if event["event"] == "worker_stopped"][-1]
    assert last["balanced"]
    assert last["published"] == last["lines"] == len(installation.written)


async def check_state(installation: Installation) -> None:
    """The state topic holds each target's position, after exactly the lines that were written."""
    live: dict[tuple[int, bytes], dict[str, Any]] = {}
    async with oracle(installation.kafka.bootstrap, [installation.state_topic]) as state:
        await state.read_to_end()
        for record in state.records:
            live[record.partition, record.key] = orjson.loads(record.value)
    wrote = Counter(pod.uid for pod, _ in installation.written)
    positions = {key: value for (_, key), value in live.items() if key.startswith(b"position/")}
    assert {value["target"]["uid"]: value["lines"] for value in positions.values()} == wrote
    ledgers = [value for (_, key), value in live.items() if key == b"ledger"]
    assert sum(ledger["published"] for ledger in ledgers) == len(installation.written)
