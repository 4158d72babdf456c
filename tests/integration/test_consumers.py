"""The Python example on what a real worker has written to a real broker."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiokafka import AIOKafkaProducer
from jsonschema import Draft202012Validator

from streamer.simulator import AlertGenerator
from tests.integration.installation import Installation, installed
from tests.integration.oracle import Oracle, oracle
from tests.integration.worker import WorkerProcess
from tests.schemas import schemas
from tests.testbed.apiserver import KubeApiServer
from tests.testbed.client import KubeApi
from tests.testbed.kafka import Kafka
from tests.testbed.kubelet import Kubelet

pytestmark = pytest.mark.real

CONSUMER = Path(__file__).parents[2] / "examples" / "consumers" / "python" / "consumer.py"
# Short windows, so that summaries come while the test runs; a low limit, so that some alerts overflow.
TREATMENT: dict[str, Any] = {
    "dedupe": {"window_seconds": [1], "max_variants": 2},
    "limits": {"target": {"rate_per_minute": 6, "burst": 9}},
}


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


async def test_the_example_agrees_with_what_was_published_and_shows_nothing_that_was_aborted(
    installation: Installation, tmp_path: Path
) -> None:
    """And every record is as its schema says, on a topic of its kind."""
    worker = WorkerProcess(tmp_path, installation.settings(**TREATMENT))
    bootstrap = installation.kafka.bootstrap
    async with oracle(bootstrap, installation.topics) as seen:
        with worker.shown_on_failure():
            await worker.start()
            installation.write(1000)
            await seen.until(lambda seen: reported(seen) >= 1000)
            assert await worker.stop(signal.SIGTERM) == 0
        await seen.read_to_end()
    check_topics(installation, seen)
    await abort(bootstrap, installation.alert_topics[5])

    found = await consumed(installation)
    ids = [record["id"] for record in found]
    assert len(ids) == len(set(ids))
    assert "aborted" not in ids
    of_alerts = [record for record in seen.records if kind(record) in {"alert", "summary"}]
    assert {record["id"]: (record["kind"], record["count"], record["commands"]) for record in found} == {
        dict(record.headers)["ce_id"].decode(): (kind(record), count(record), commands(record))
        for record in of_alerts
    }
    assert sum(record["count"] for record in found) == 1000
    shown = {command for record in found for command in record["commands"]}
    assert shown == {command_of(orjson.loads(alert)) for _, alert in installation.written}


def check_topics(installation: Installation, seen: Oracle) -> None:
    """A topic of alerts holds Falco's bytes alone; records validate against the published schemas as they are."""
    written = {alert for _, alert in installation.written}
    kinds = defaultdict[str, set[str]](set)
    for record in seen.records:
        kinds[record.topic.removeprefix(f"{installation.name}.").partition(".")[0]].add(kind(record))
        schema = schemas()[f"urn:falco-streamer:schema:{dict(record.headers)['ce_type'].decode()}"]
        Draft202012Validator(schema).validate(orjson.loads(record.value))
        if kind(record) == "alert":
            assert record.value in written
    assert kinds["alerts"] == kinds["overflow"] == {"alert"}
    assert kinds["summaries"] == {"summary"}
    for record in seen.of(f"{installation.name}.summaries"):
        value = orjson.loads(record.value)
        assert value["summary"]["count"] == sum(each["count"] for each in value["summary"]["variants"])


def kind(record: Any) -> str:
    return str(dict(record.headers)["kind"], "ascii")


def count(record: Any) -> int:
    """How many alerts a record stands for."""
    return int(orjson.loads(record.value)["summary"]["count"]) if kind(record) == "summary" else 1


def commands(record: Any) -> list[str | None]:
    """The command line of each variant that a record shows."""
    value = orjson.loads(record.value)
    variants = value["summary"]["variants"] if kind(record) == "summary" else [{"fields": {}}]
    return [command_of({"output_fields": value["output_fields"] | each["fields"]}) for each in variants]


def command_of(alert: Any) -> str | None:
    return (alert.get("output_fields") or {}).get("proc.cmdline")


def reported(seen: Oracle) -> int:
    return sum(count(record) for record in seen.records if kind(record) in {"alert", "summary"})


async def consumed(installation: Installation) -> list[dict[str, Any]]:
    """What the example consumer prints of the topics of alerts, of overflow and of summaries."""
    pattern = rf"{installation.name}\.(alerts\..*|overflow|summaries)"
    command = [sys.executable, CONSUMER, "--bootstrap", installation.kafka.bootstrap, "--topics", pattern]
    command += ["--group", installation.name, "--until-quiet-seconds", "8"]
    done = await asyncio.to_thread(
        subprocess.run,
        [str(part) for part in command],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return [orjson.loads(line) for line in done.stdout.splitlines()]
