"""A fault planted into the core of a real worker, on a real Kafka: it costs what it is about, over restarts as well."""

from __future__ import annotations

import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest

from streamer.simulator import AlertGenerator
from tests.chaos import planted
from tests.integration.installation import Installation, installed
from tests.integration.oracle import Oracle, oracle
from tests.integration.worker import WorkerProcess
from tests.schemas import check_records
from tests.testbed.apiserver import KubeApiServer
from tests.testbed.client import KubeApi
from tests.testbed.kafka import Kafka
from tests.testbed.kubelet import Kubelet

pytestmark = pytest.mark.real

ALERTS = 1000


@pytest.fixture
async def installation(
    api_server: KubeApiServer, api: KubeApi, kubelet: Kubelet, kafka: Kafka
) -> AsyncIterator[Installation]:
    generator = AlertGenerator(11)
    async with installed(api_server, api, kubelet, kafka, pods=4, namespaces=1, generator=generator) as made:
        yield made


class SpoiltWorker(WorkerProcess):
    """A worker with a fault of `tests/chaos/planted.py`."""

    def __init__(self, folder: Path, settings: Mapping[str, Any], fault: str) -> None:
        super().__init__(folder, settings)
        self._fault = fault

    @property
    def command(self) -> Sequence[str]:
        assert planted.__file__ is not None
        return [sys.executable, "-P", planted.__file__, self._fault, "run", "--config", str(self.config)]

    def check_log(self, event: str, texts: set[bytes]) -> None:
        """The fault was said, and no alert's text with it."""
        assert self.said(event)
        log = self.log.read_bytes()
        for text in texts:
            assert orjson.dumps(orjson.loads(text)["output"])[1:-1] not in log


async def test_a_line_at_which_the_core_fails_is_one_dead_letter_over_kills(
    installation: Installation, tmp_path: Path
) -> None:
    worker = SpoiltWorker(tmp_path, installation.settings(), "fail_at_some_lines")
    async with oracle(installation.kafka.bootstrap, installation.topics) as seen:
        with worker.shown_on_failure():
            for turn in range(3):
                installation.write(ALERTS // 3)
                await worker.start()
                before = len(seen.records)
                await seen.until(partial(has_records, count=before + ALERTS // 6))
                if turn < 2:
                    await worker.stop(signal.SIGKILL)
            letters = [body for _, body in installation.written if planted.is_bad_line(body)]
            await seen.until(lambda seen: len(seen.of(f"{installation.name}.dead-letter")) >= len(letters))
            await seen.until(
                lambda seen: seen.alerts >= len(installation.written) - len(letters), seconds=120
            )
            assert await worker.stop(signal.SIGTERM) == 0
        await seen.read_to_end()
    check_records(seen.records)
    found = [orjson.loads(one.value) for one in seen.of(f"{installation.name}.dead-letter")]
    assert {letter["reason"] for letter in found} == {"internal_error"}
    assert sorted(letter["line"].encode() for letter in found) == sorted(letters)
    assert len(letters) > 5
    published = Counter(record.value for record in seen.records if ".alerts." in record.topic)
    assert published == Counter(body for _, body in installation.written if not planted.is_bad_line(body))
    worker.check_log("line_failed", set(letters))
    last = worker.said("worker_stopped")[-1]
    assert last["balanced"]
    assert (last["lines"], last["dead_lettered"]) == (len(installation.written), len(letters))


async def test_a_summary_at_which_the_core_fails_is_accounted_for_over_a_kill(
    installation: Installation, tmp_path: Path
) -> None:
    settings = installation.settings(dedupe={"window_seconds": [2, 4]})
    worker = SpoiltWorker(tmp_path, settings, "fail_at_some_summaries")
    body = [installation._generator.alert(1_795_168_800_000_000_000, "node") for _ in range(20)]
    async with oracle(installation.kafka.bootstrap, installation.topics) as seen:
        with worker.shown_on_failure():
            for turn in range(2):
                for pod in installation.pods:
                    pod.log().lines(body * 5)
                await worker.start()
                await seen.until(partial(has_records, count=1 + turn * 20))
                await worker.stop(signal.SIGKILL)
            await worker.start()
            lines = 2 * 5 * len(body) * len(installation.pods)
            await seen.until(lambda seen: accounted(installation, seen.records) >= lines, seconds=120)
            assert await worker.stop(signal.SIGTERM) == 0
        await seen.read_to_end()
    check_records(seen.records)
    assert accounted(installation, seen.records) == lines
    stand_ins = [
        one for one in map(orjson.loads, values(seen.records, ".health")) if one["health"] == "internal_error"
    ]
    assert stand_ins
    assert not any(
        planted.is_bad_rule(orjson.loads(one)["rule"]) for one in values(seen.records, ".summaries")
    )
    worker.check_log("part_failed", set(body))
    last = worker.said("worker_stopped")[-1]
    assert last["balanced"]
    assert last["lines"] == lines
    assert last["deduplicated"] == last["summarised"]


def values(records: Sequence[Any], topic: str) -> list[bytes]:
    return [record.value for record in records if record.topic.endswith(topic)]


def accounted(installation: Installation, records: Sequence[Any]) -> int:
    """How many alerts are published, or stand in the counts of summaries and of what takes the place of one."""
    published = sum(1 for record in records if record.topic in installation.alert_topics)
    counted = sum(orjson.loads(value)["summary"]["count"] for value in values(records, ".summaries"))
    health = map(orjson.loads, values(records, ".health"))
    replaced = sum(one["count"] for one in health if one["health"] == "internal_error")
    return int(published + counted + replaced)


def has_records(seen: Oracle, count: int) -> bool:
    return len(seen.records) >= count
