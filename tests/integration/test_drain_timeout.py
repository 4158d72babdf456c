"""Ends that come too early: the worker's, with lines that Kafka has not taken, and a pod's, with a silent stream."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from streamer.model import GapReason
from streamer.source import actor
from tests.chaos.bed import Bed
from tests.chaos.load import Kind
from tests.chaos.run import playing
from tests.flow.following import Recorder, following, numbered

pytestmark = pytest.mark.real

GRACE_SECONDS = 2.0
UNSENT = 20


async def test_a_shutdown_that_runs_out_of_time_says_so_and_loses_nothing(own_servers: Bed) -> None:
    """Kafka stands still, lines wait in the worker, and its grace period is over before Kafka is back."""
    async with playing(own_servers, seed=9, shutdown={"grace_seconds": GRACE_SECONDS}) as play:
        conductor, worker = play.conductor, play.conductor.worker
        await worker.start()
        async with conductor.load(play.printer):
            await conductor.settle("the start")
        await asyncio.to_thread(own_servers.kafka.freeze)
        for pod in conductor.pods.values():
            play.printer.print(pod, UNSENT, Kind.ALERT)
        # Only now is it known that they are in the worker and not in Kafka.
        await worker.until_heard("publish_failed", 40)
        for pod in conductor.pods.values():
            play.printer.print(pod, UNSENT, Kind.ALERT)

        assert await worker.stop() == 1
        (told,) = worker.heard("not_drained")
        assert (told["level"], told["grace_seconds"]) == ("warning", GRACE_SECONDS)
        assert told["shards"] >= 1
        assert "nothing is lost" in told["consequence"]
        (stopped,) = worker.heard("worker_stopped")
        assert stopped["drained"] is False
        assert stopped["balanced"]
        assert stopped["alerts"] < sum(line.kind is Kind.ALERT for line in play.journal.lines())

        own_servers.kafka.resume()
        await worker.start()
        async with conductor.load(play.printer):
            await conductor.settle("the next worker's start")
        report = await play.finish()
    assert report.violations == [], f"\n{report}"
    assert report.verdict.missing == 0
    assert report.verdict.gaps == Counter()
    assert worker.heard("worker_stopped")[-1]["drained"] is True


@dataclass(frozen=True)
class BehindProxy:
    """The real API server, as a worker of the bed finds it."""

    bed: Bed

    def kubeconfig(self, _: Path) -> Path:
        return self.bed.kubeconfig


async def test_a_deleted_pod_whose_stream_is_half_open_is_given_up_with_a_gap(
    own_servers: Bed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it wrote last can be read by nobody any more: the gap says that this may be so."""
    monkeypatch.setattr(actor, "_DRAIN_SECONDS", 3.0)  # a minute, in earnest
    api, namespaces = BehindProxy(own_servers), (own_servers.cluster.namespace,)
    pod, other = [await own_servers.cluster.add_pod(name) for name in ("falco-a", "falco-b")]
    recorder = Recorder()
    async with following(api, recorder, tmp_path, namespaces=namespaces, watch_seconds=2.0):
        for each in (pod, other):
            each.log().lines(numbered(0, 5))
            await recorder.until_read(each.name, numbered(0, 5))
        own_servers.api_proxy.hang()
        pod.log().lines(numbered(5, 8))
        await pod.delete()
        other.log().lines(numbered(5, 8))
        await recorder.until(lambda: bool(recorder.gaps), seconds=60)
        await recorder.until_done("falco-a")
        await recorder.until(lambda: len(recorder.lines["falco-b"]) == 8, seconds=60)
    assert recorder.lines == {"falco-a": numbered(0, 5), "falco-b": numbered(0, 8)}
    (gap,) = recorder.gaps
    assert (gap.reason, gap.certain) == (GapReason.POD_GONE, False)
    assert "was closed" in gap.detail
