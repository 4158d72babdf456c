"""The Kafka Connect example: a real worker of Apache Kafka on a real broker."""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from aiokafka import AIOKafkaProducer

from tests.testbed import parts
from tests.testbed.connect_worker import ConnectWorker, changed
from tests.testbed.fixtures import parts_or_skip
from tests.testbed.kafka import Kafka
from tests.testbed.process import free_port
from tests.testbed.topics import create_topic

pytestmark = pytest.mark.real

EXAMPLE = Path(__file__).parents[2] / "examples" / "consumers" / "kafka-connect"
ALERTS = 50


@pytest.fixture
def prefix() -> str:
    return f"connect-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def shown(tmp_path: Path) -> Path:
    return tmp_path / "alerts.jsonl"


@pytest.fixture
def connect(kafka: Kafka, prefix: str, tmp_path: Path, shown: Path) -> Iterator[ConnectWorker]:
    """The example, with the test's addresses. It commits offsets when it stops, else not within the test."""
    worker = {
        "bootstrap.servers": kafka.bootstrap,
        "listeners": f"http://127.0.0.1:{free_port()}",
        "offset.storage.file.filename": str(tmp_path / "offsets"),
        "offset.flush.interval.ms": "600000",
        "plugin.path": "",  # all jars are on the class path
        "consumer.session.timeout.ms": "6000",
        "consumer.heartbeat.interval.ms": "1000",
    }
    text = (EXAMPLE / "file.properties").read_text()
    assert text.count("falco\\\\.(alerts") == 1
    connector = changed(text.replace("falco\\\\.(alerts", f"{prefix}\\\\.(alerts"), {"file": str(shown)})
    with parts_or_skip():
        made = ConnectWorker(changed((EXAMPLE / "worker.properties").read_text(), worker), connector)
    try:
        yield made
    finally:
        made.close()


async def write(bootstrap: str, topic: str, batch: str) -> list[bytes]:
    """Write committed alerts with aborted ones between them; return the committed ones' bytes."""
    written = []
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id=f"{topic}-{batch}")
    await producer.start()
    try:
        for n in range(ALERTS):
            for end in ("aborted", "committed"):
                await producer.begin_transaction()
                alert = b'{"rule": "caf\xc3\xa9",  "falco_streamer":{"id":"%b-%d-%b"}}' % (
                    batch.encode(),
                    n,
                    end.encode(),
                )
                await producer.send_and_wait(topic, alert, headers=[("kind", b"alert")])
                if end == "aborted":
                    await producer.abort_transaction()
                else:
                    await producer.commit_transaction()
                    written.append(alert)
    finally:
        await producer.stop()
    return written


def read(shown: Path) -> list[bytes]:
    return shown.read_bytes().splitlines() if shown.exists() else []


async def lines(connect: ConnectWorker, shown: Path, count: int) -> list[bytes]:
    """What the file has, once it has so many lines."""
    await asyncio.to_thread(connect.process.wait_until, lambda: len(read(shown)) >= count, seconds=60)
    return read(shown)


async def test_each_committed_alert_is_shown_once_and_after_a_kill_again_with_the_same_id(
    kafka: Kafka, connect: ConnectWorker, prefix: str, shown: Path
) -> None:
    topic = await create_topic(kafka.bootstrap, f"{prefix}.alerts.critical")
    first = await write(kafka.bootstrap, topic, "first")
    await asyncio.to_thread(connect.start)
    await lines(connect, shown, ALERTS)
    await asyncio.to_thread(connect.stop)
    assert read(shown) == first

    second = await write(kafka.bootstrap, topic, "second")
    await asyncio.to_thread(connect.start)
    assert await lines(connect, shown, 2 * ALERTS) == first + second
    connect.kill()

    await asyncio.to_thread(connect.start)
    await lines(connect, shown, 3 * ALERTS)
    await asyncio.to_thread(connect.stop)
    found = read(shown)
    assert found == first + second + second
    by_id = {orjson.loads(line)["falco_streamer"]["id"]: line for line in found}
    assert list(by_id.values()) == first + second


def test_the_worker_is_of_the_brokers_version() -> None:
    pins = [
        set(
            re.findall(
                r"<groupId>org\.apache\.kafka</groupId>\s*<artifactId>[^<]+</artifactId>\s*<version>([^<]+)",
                text,
            )
        )
        for text in ((parts.HERE / name).read_text() for name in ("pom.xml", "connect/pom.xml"))
    ]
    assert pins[0] == pins[1]
    assert len(pins[0]) == 1
