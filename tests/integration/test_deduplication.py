"""Deduplication on real parts: killed again and again, the worker decides as one that reads the logs in one go."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest

from streamer.config import load
from streamer.model import DigestRing, LogBatch, Target
from streamer.plan import plan_of
from streamer.simulator import AlertGenerator
from streamer.transform.process import Processor
from streamer.transform.read import LineReader
from streamer.transform.state import ShardState
from tests.integration.installation import Installation, installed
from tests.integration.oracle import Oracle, oracle
from tests.integration.worker import WorkerProcess
from tests.testbed.apiserver import KubeApiServer
from tests.testbed.client import KubeApi
from tests.testbed.kafka import Kafka
from tests.testbed.kubelet import Kubelet
from tests.testbed.pod import Pod

pytestmark = pytest.mark.real

ALERTS, PODS, KILLS = 6_000, 6, 3
# Short windows, so that some end and grow while the test runs; a low limit, so that some alerts overflow.
TREATMENT: dict[str, Any] = {
    "dedupe": {"window_seconds": [1, 2, 4], "max_variants": 3},
    "limits": {"rate_per_minute": 30, "burst": 5, "target": {"rate_per_minute": 480, "burst": 45}},
}


@pytest.fixture
async def installation(
    api_server: KubeApiServer, api: KubeApi, kubelet: Kubelet, kafka: Kafka
) -> AsyncIterator[Installation]:
    generator = AlertGenerator(11, combinations=60)
    async with installed(
        api_server, api, kubelet, kafka, pods=PODS, namespaces=1, generator=generator
    ) as made:
        yield made


def kind(record: Any) -> str:
    return str(dict(record.headers)["kind"], "ascii")


def counted(records: list[Any]) -> int:
    return sum(
        orjson.loads(record.value)["summary"]["count"] for record in records if kind(record) == "summary"
    )


async def test_a_worker_that_is_killed_decides_as_one_that_never_was(
    installation: Installation, api: KubeApi, tmp_path: Path
) -> None:
    worker = WorkerProcess(tmp_path, installation.settings(**TREATMENT))
    async with oracle(installation.kafka.bootstrap, installation.topics) as seen:
        with worker.shown_on_failure():
            for _ in range(KILLS):
                await worker.start()
                before = len(seen.records)
                installation.write(PODS)
                await seen.until(lambda seen, before=before: len(seen.records) > before)  # type: ignore[misc]
                installation.write(ALERTS // KILLS)
                assert await worker.stop(signal.SIGKILL) == -signal.SIGKILL
            await worker.start()
            await seen.until(lambda seen: settled(seen, len(installation.written)))
            assert await worker.stop(signal.SIGTERM) == 0
        await seen.read_to_end()

    await check_decisions(installation, api, worker.config, seen)


async def check_decisions(installation: Installation, api: KubeApi, config: Path, seen: Oracle) -> None:
    """Nothing is lost or doubled, the ledgers of all shards add up, and each log was decided as if read at once."""
    assert settled(seen, len(installation.written))
    assert len({dict(record.headers)["ce_id"] for record in seen.records}) == len(seen.records)
    ledger = Counter[str]()
    for value in (await ledgers(installation)).values():
        ledger.update({name: count for name, count in value.items() if type(count) is int})
    assert ledger["lines"] == ledger["alerts"] == len(installation.written)
    assert ledger["deduplicated"] == ledger["summarised"] == counted(seen.records)
    assert ledger["summarised"] > len(installation.written) // 3
    assert ledger["published"] + ledger["limited"] == seen.alerts
    assert ledger["limited"] > 0
    of_summaries = {record.topic for record in seen.records if kind(record) == "summary"}
    assert of_summaries == {f"{installation.name}.summaries"}
    assert {kind(record) for record in seen.records if record.topic not in of_summaries} <= {
        "alert",
        "health",
    }
    for pod in installation.pods:
        await check_pod(installation, api, config, pod, seen)


def settled(seen: Oracle, written: int) -> bool:
    return seen.alerts + counted(seen.records) == written


async def check_pod(installation: Installation, api: KubeApi, config: Path, pod: Pod, seen: Oracle) -> None:
    """What was published of a pod is what its log gives when it is read at once."""
    async with api.open_log(pod.namespace, pod.name, container="falco", timestamps="true") as response:
        log = await response.read()
    expected = in_one_go(config, Target(pod.namespace, pod.name, pod.uid, "falco", "some node"), log)
    key = f"{pod.namespace}/{pod.name}".encode()
    found: dict[str, list[bytes]] = {}
    sums = Counter[tuple[str, str]]()
    for record in seen.records:
        if record.key == key and kind(record) == "alert":
            found.setdefault(record.topic, []).append(record.value)
        if record.key == key and kind(record) == "summary":
            sums.update(sums_of(record.value))
    assert (found, sums) == expected


def in_one_go(
    config: Path, target: Target, log: bytes
) -> tuple[dict[str, list[bytes]], Counter[tuple[str, str]]]:
    """The alerts by topic, and the summed counts, of a whole log."""
    reader = LineReader(1_000_000)
    read = reader.feed(log)
    batch = LogBatch(target, read.lines, read.times_ns, DigestRing(), len(log))
    settings = load(config, [], {})
    processor = Processor(plan_of(settings), ShardState(settings.cluster))
    publications = [processor.process([batch], 0), processor.publish_due(0, everything=True)]
    found: dict[str, list[bytes]] = {}
    sums = Counter[tuple[str, str]]()
    for record in [record for made in publications if made is not None for record in made.records]:
        if kind(record) == "alert":
            found.setdefault(record.topic, []).append(record.value)
        elif kind(record) == "summary":
            sums.update(sums_of(record.value))
    return found, sums


def sums_of(value: bytes) -> Mapping[tuple[str, str], int]:
    summary = orjson.loads(value)
    return {(summary["rule"], summary["summary"]["head_id"]): summary["summary"]["count"]}


async def ledgers(installation: Installation) -> dict[int, dict[str, Any]]:
    """The last committed ledger of each shard."""
    async with oracle(installation.kafka.bootstrap, [installation.state_topic]) as state:
        await state.read_to_end()
    return {
        record.partition: orjson.loads(record.value) for record in state.records if record.key == b"ledger"
    }
