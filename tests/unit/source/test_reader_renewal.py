"""When streams that are opened together are replaced."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import cast

from streamer.model import LogBatch, Target
from streamer.source.api import KubernetesApi
from streamer.source.patience import PATIENCE
from streamer.source.pod_status import PodStatusCache
from streamer.source.pods import PodView
from streamer.source.probes import ProbeTurns
from streamer.source.progress import Progress
from streamer.source.reader import Reader
from streamer.source.search import TargetLog
from streamer.source.stream import Where
from tests.unit.flow.virtual_time import in_virtual_time

HOUR = 3600.0
TARGET = Target("falco", "falco-a", "uid", "falco", "node-1")


def reader() -> Reader:
    async def put(_: LogBatch) -> None:
        return

    api = cast("KubernetesApi", None)
    view = PodView(TARGET, None, running=True, deleting=False, finished=False)
    status = PodStatusCache(api, view, PATIENCE)
    where = Where("falco", "falco-a", "falco")
    log = TargetLog(api, where, 1000)
    return Reader(log, Progress(TARGET, None, put), status, PATIENCE, ProbeTurns(0.25))


@in_virtual_time
async def test_streams_that_are_opened_together_are_not_renewed_together() -> None:
    now = asyncio.get_running_loop().time()
    ages = sorted(reader()._renew_at() - now for _ in range(1000))
    assert 2.0 * HOUR <= ages[0] < 2.2 * HOUR
    assert 3.3 * HOUR < ages[-1] <= 3.52 * HOUR
    assert max(later - earlier for earlier, later in pairwise(ages)) < 0.1 * HOUR


@in_virtual_time
async def test_renewals_that_failed_together_are_not_tried_again_together() -> None:
    now = asyncio.get_running_loop().time()
    waits = sorted(reader()._renew_again_at() - now for _ in range(1000))
    assert 0.06 * HOUR <= waits[0] < 0.08 * HOUR
    assert 0.22 * HOUR < waits[-1] <= 0.24 * HOUR
    assert max(later - earlier for earlier, later in pairwise(waits)) < 0.01 * HOUR
