"""What is wanted and what it is called, with real parts: a pattern for topics, `min_priority`, static fields."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest

from streamer.model import Priority
from streamer.simulator import AlertGenerator
from tests.integration.installation import Installation, installed
from tests.integration.oracle import PRIORITIES, oracle
from tests.integration.worker import WorkerProcess
from tests.testbed.apiserver import KubeApiServer
from tests.testbed.client import KubeApi
from tests.testbed.kafka import Kafka
from tests.testbed.kubelet import Kubelet
from tests.testbed.topics import create_topic

pytestmark = pytest.mark.real

ALERTS = 900
FILTERED = 'falco_streamer_filtered_alerts_total{filter="min_priority"}'
FIELDS = {"environment": "production", "team": "Plattform Zürich"}


@pytest.fixture
async def installation(
    api_server: KubeApiServer, api: KubeApi, kubelet: Kubelet, kafka: Kafka
) -> AsyncIterator[Installation]:
    async with installed(
        api_server, api, kubelet, kafka, pods=2, namespaces=1, generator=AlertGenerator(17)
    ) as made:
        yield made


async def test_urgent_alerts_are_on_topics_of_the_pattern_with_the_static_fields(
    installation: Installation, tmp_path: Path
) -> None:
    settings = installation.settings(
        min_priority="warning", records={"annotate": True, "fields": FIELDS}, health={"coverage_seconds": 1}
    )
    settings["topics"]["alerts"] = "<prefix>.<cluster>.<priority>"
    topics = [f"{installation.name}.{installation.name}.{priority}" for priority in PRIORITIES]
    health = f"{installation.name}.health"
    for topic in topics:
        await create_topic(installation.kafka.bootstrap, topic, partitions=3)
    worker = WorkerProcess(tmp_path, settings)
    installation.write(ALERTS)
    written = [alert for _, alert in installation.written]
    wanted = [alert for alert in written if is_wanted(alert)]
    async with oracle(installation.kafka.bootstrap, [*topics, health], FIELDS) as seen:
        with worker.shown_on_failure():
            await worker.start()
            await seen.until(lambda seen: seen.alerts >= len(wanted) and bool(seen.of(health)))
            shown = await worker.metrics()
            assert await worker.stop(signal.SIGTERM) == 0
        await seen.read_to_end()
    alerts = [record for record in seen.records if record.topic != health]
    assert Counter(record.value.partition(b',"falco_streamer":')[0] + b"}" for record in alerts) == Counter(
        wanted
    )
    for record in alerts:
        assert record.topic == f"{installation.name}.{installation.name}.{priority_of(record.value).label}"
        assert orjson.loads(record.value)["falco_streamer"].items() >= FIELDS.items()
    assert seen.of(health)
    for record in seen.records:
        headers = {name: value.decode() for name, value in record.headers}
        assert headers.items() >= FIELDS.items()
    stopped = worker.events()[-1]
    assert (stopped["event"], stopped["balanced"]) == ("worker_stopped", True)
    assert (stopped["published"], stopped["filtered"]) == (len(wanted), len(written) - len(wanted))
    assert 0 < len(wanted) < len(written)
    # What was read after the last record on a topic may not have been committed yet.
    assert 0 < shown[FILTERED] <= stopped["filtered"]


def priority_of(alert: bytes) -> Priority:
    found = Priority.parse(orjson.loads(alert)["priority"])
    assert found is not None
    return found


def is_wanted(alert: bytes) -> bool:
    reports_on_falco = orjson.loads(alert)["rule"].startswith("Falco internal:")
    return reports_on_falco or priority_of(alert) <= Priority.WARNING
