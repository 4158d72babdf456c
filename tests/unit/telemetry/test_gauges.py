"""The gauges, and the one number that shows a worker that is behind or blind."""

from __future__ import annotations

from dataclasses import replace

from streamer.model import Ledger
from streamer.telemetry.gauges import shown
from streamer.telemetry.metrics import REGISTRY
from streamer.telemetry.status import Check, CheckState, ShardStatus, Status, StreamState, TargetStatus
from tests.unit.transform.samples import FALCO

SHARD = ShardStatus(0, True, 1, Ledger(), 0, 0.0, 0.0, 3, 100, 1)
TARGET = TargetStatus(FALCO, StreamState.FOLLOWING, True, 0.0, 0.0, 900.0)
WELL = Status("prod-eu-1", [Check("pods listed", CheckState.OK)], [SHARD], [TARGET])


def gauge(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(f"falco_streamer_{name}", labels)


def test_gauges_tell_of_this_moment_and_end_with_their_worker() -> None:
    now = WELL
    with shown(lambda: now):
        assert gauge("open_windows") == 3
        assert gauge("storms") == 1
        assert gauge("shards", state="loaded") == 1
        assert gauge("shards", state="loading") == 0
        assert gauge("targets", state="following") == 1
        assert gauge("ready") == 1
        now = replace(now, targets=[], checks=[Check("pods listed", CheckState.FAILING, "no right")])
        assert gauge("targets", state="following") == 0
        assert gauge("ready") == 0
        now = replace(now, checks=[Check("pods listed")])
        assert gauge("ready") == 0
        now = replace(now, checks=[Check("pods listed", CheckState.OK), Check("pods found", needed=False)])
        assert gauge("ready") == 1
    assert gauge("ready") is None


def test_a_ledger_that_does_not_balance_is_seen() -> None:
    wrong = replace(SHARD, ledger=Ledger(lines=1))
    with shown(lambda: replace(WELL, shards=[wrong])):
        assert gauge("ledger_balanced") == 0


def test_the_lag_is_nothing_while_a_quiet_cluster_is_followed() -> None:
    assert WELL.lag_seconds == 0
    assert Status("just begun").lag_seconds == 0


def test_the_lag_is_that_of_whatever_is_worst() -> None:
    behind = replace(TARGET, behind_seconds=20.0)
    unread = replace(TARGET, state=StreamState.WAITING, unread_seconds=30.0)
    uncommitted = replace(SHARD, oldest_line_seconds=40.0)
    assert replace(WELL, targets=[TARGET, behind]).lag_seconds == 20
    assert replace(WELL, targets=[behind, unread]).lag_seconds == 30
    assert replace(WELL, targets=[unread], shards=[SHARD, uncommitted]).lag_seconds == 40
    assert replace(WELL, blind_seconds=50.0, shards=[uncommitted]).lag_seconds == 50


def test_a_container_that_does_not_run_is_no_lag_of_ours() -> None:
    crashed = replace(TARGET, state=StreamState.WAITING, running=False, unread_seconds=600.0)
    assert replace(WELL, targets=[crashed]).lag_seconds == 0


def test_a_stream_that_cannot_be_opened_is_no_backlog_and_no_blindness_of_the_whole_worker() -> None:
    dead = replace(TARGET, state=StreamState.WAITING, unread_seconds=600.0)
    status = replace(WELL, targets=[TARGET, dead])
    with shown(lambda: status):
        assert gauge("lag_seconds") == 600
        assert gauge("backlog_seconds") == 0
        assert gauge("blind_seconds") == 0
        status = replace(status, blind_seconds=3.0, shards=[replace(SHARD, oldest_line_seconds=4.0)])
        assert gauge("backlog_seconds") == 4
        assert gauge("blind_seconds") == 3
        status = replace(status, targets=[replace(TARGET, behind_seconds=5.0)])
        assert gauge("backlog_seconds") == 5
