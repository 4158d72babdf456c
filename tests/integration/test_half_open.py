"""Connections to Kafka that go half open: found out by the kernel, before any limit of a request or of ours."""

from __future__ import annotations

from collections import Counter

import pytest

from streamer.sink.connection import REQUEST_TIMEOUT_MS
from streamer.sink.guarded import TRANSACTION_TIMEOUT_MS
from streamer.sink.liveness import SILENT_SECONDS
from streamer.sink.membership import SESSION_SECONDS
from streamer.sink.producer import OPERATION_SECONDS
from tests.chaos.bed import Bed
from tests.chaos.run import playing

pytestmark = pytest.mark.real


def test_the_limits_are_in_the_order_that_recovery_relies_on() -> None:
    """The kernel, then a request, then a transaction of ours, then the broker's clock; and a member is not missed."""
    assert SILENT_SECONDS < REQUEST_TIMEOUT_MS / 1000 < OPERATION_SECONDS < TRANSACTION_TIMEOUT_MS / 1000
    assert SILENT_SECONDS < SESSION_SECONDS


async def test_where_nothing_is_confirmed_no_transaction_and_no_membership_ends(own_servers: Bed) -> None:
    """All connections to Kafka are cut off at once and stay so; the worker has to make new ones by itself."""
    async with playing(own_servers, seed=11, log={"level": "debug"}) as play:
        conductor, worker = play.conductor, play.conductor.worker
        await worker.start()
        async with conductor.load(play.printer):
            await conductor.settle("the start")
            before = own_servers.kafka_proxy.connections
            own_servers.kafka_proxy.vanish()
            await conductor.settle("the silence")
            assert own_servers.kafka_proxy.connections > before
        report = await play.finish()
    assert report.violations == [], f"\n{report}"
    assert report.verdict.missing == 0
    assert report.verdict.gaps == Counter()
    # It was the kernel that gave up, and nobody else before it: no request (10 s), no transaction (12 s), not the
    # group, which would have missed us after 10 s.
    assert {told["cause"] for told in worker.heard("kafka_connection_silent")} == {
        f"nothing was confirmed for {SILENT_SECONDS:.0f} s"
    }
    assert not [told for told in worker.heard("publish_failed") if "within" in told["cause"]]
    assert len(worker.heard("shards_assigned")) == 1
    assert not worker.heard("group_failed")
