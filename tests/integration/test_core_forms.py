"""Workers with the compiled core and with Python's take turns at one state, on a real Kafka."""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest

from streamer.simulator import AlertGenerator
from tests.integration.installation import Installation, installed
from tests.integration.oracle import Oracle, oracle
from tests.integration.worker import WorkerProcess
from tests.schemas import check_records
from tests.testbed import compiled
from tests.testbed.apiserver import KubeApiServer
from tests.testbed.client import KubeApi
from tests.testbed.kafka import Kafka
from tests.testbed.kubelet import Kubelet
from tests.testbed.parts import PartMissing

pytestmark = pytest.mark.real

FORMS = ("compiled", "python", "compiled", "python")
REPEATS = 5


@pytest.fixture
async def installation(
    api_server: KubeApiServer, api: KubeApi, kubelet: Kubelet, kafka: Kafka
) -> AsyncIterator[Installation]:
    generator = AlertGenerator(13)
    async with installed(api_server, api, kubelet, kafka, pods=4, namespaces=1, generator=generator) as made:
        yield made


@pytest.fixture
def compiled_path() -> Iterator[str]:
    try:
        with compiled.installed() as environment:
            yield environment["PYTHONPATH"]
    except PartMissing as missing:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(missing))


class FormedWorker(WorkerProcess):
    """A worker whose core has the form that is asked for."""

    def __init__(self, folder: Path, settings: Mapping[str, Any], compiled_path: str) -> None:
        super().__init__(folder, settings)
        self.form = ""
        self._compiled_path = compiled_path

    @property
    def command(self) -> Sequence[str]:
        path = self._compiled_path if self.form == "compiled" else ""
        return ["env", f"PYTHONPATH={path}", "PYTHONSAFEPATH=1", *super().command]


async def test_each_form_goes_on_where_the_other_was_killed(
    installation: Installation, compiled_path: str, tmp_path: Path
) -> None:
    assert sys.executable
    dedupe = {"window_seconds": [5, 10]}
    worker = FormedWorker(tmp_path, installation.settings(dedupe=dedupe), compiled_path)
    generator, lines = AlertGenerator(17), 0
    wrote = Counter[bytes]()
    async with oracle(installation.kafka.bootstrap, installation.topics) as seen:
        with worker.shown_on_failure():
            for turn, worker.form in enumerate(FORMS):
                for pod in installation.pods:
                    alerts = [
                        generator.alert(1_795_168_800_000_000_000 + turn * 1_000_000_000, pod.name)
                        for _ in range(40)
                    ]
                    pod.log().lines(alerts * REPEATS)
                    wrote.update(alerts * REPEATS)
                    lines += len(alerts) * REPEATS
                before = len(seen.records)
                await worker.start()
                await seen.until(partial(has_records, count=before + 40))
                await seen.until(partial(serves, worker=worker, times=turn + 1))
                info = [name for name in await worker.metrics() if "build_info" in name]
                assert f'core="{worker.form}"' in info[0]
                if turn < len(FORMS) - 1:
                    await worker.stop(signal.SIGKILL)
            await seen.until(partial(has_all, lines=lines), seconds=120)
            assert await worker.stop(signal.SIGTERM) == 0
        await seen.read_to_end()
    check_records(seen.records)
    assert accounted(seen.records) == lines
    published = Counter(record.value for record in seen.records if ".alerts." in record.topic)
    assert published <= wrote
    assert len({dict(record.headers)["ce_id"] for record in seen.records}) == len(seen.records)
    last = worker.said("worker_stopped")[-1]
    assert last["balanced"]
    assert (last["lines"], last["deduplicated"]) == (lines, last["summarised"])
    assert last["published"] == published.total()


def accounted(records: Sequence[Any]) -> int:
    """How many alerts are published, or stand in the counts of summaries."""
    summaries = [record.value for record in records if record.topic.endswith(".summaries")]
    published = sum(".alerts." in record.topic for record in records)
    return int(published + sum(orjson.loads(value)["summary"]["count"] for value in summaries))


def has_records(seen: Oracle, count: int) -> bool:
    return len(seen.records) >= count


def has_all(seen: Oracle, lines: int) -> bool:
    return accounted(seen.records) >= lines


def serves(_: Oracle, worker: WorkerProcess, times: int) -> bool:
    return len(worker.said("http_serving")) == times
