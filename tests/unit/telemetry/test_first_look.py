"""What the log says some seconds after the start, where nothing was published."""

from __future__ import annotations

import pytest

from streamer.model import Ledger, Target
from streamer.telemetry.first_look import silence
from streamer.telemetry.status import (
    Check,
    CheckState,
    FilterStatus,
    ShardStatus,
    Status,
    StreamState,
    TargetStatus,
)

TARGET = Target("falco", "falco-a", "u", "falco", "node-1")


def following(state: StreamState = StreamState.FOLLOWING) -> TargetStatus:
    opened = state is StreamState.FOLLOWING
    return TargetStatus(
        TARGET, state, running=opened, unread_seconds=0, behind_seconds=0, quiet_seconds=0, opened=opened
    )


def shard(ledger: Ledger) -> ShardStatus:
    return ShardStatus(0, True, 1, ledger, 0, 0.0, 0.0, 0, 0, 0)


def test_of_all_that_is_waited_for_the_first_is_named() -> None:
    checks = [
        Check("topics verified", CheckState.OK),
        Check("pods listed", CheckState.UNKNOWN, "the API server has not answered yet"),
        Check("state loaded", CheckState.UNKNOWN, "loading"),
    ]
    found = silence(Status("c", checks), 8)
    assert found is not None
    assert found.cause == "pods listed: the API server has not answered yet, after 8 s"
    assert "falco-streamer doctor" in found.fix


def test_what_fails_has_said_so_itself() -> None:
    checks = [Check("topics verified", CheckState.FAILING, "refused"), Check("pods listed")]
    assert silence(Status("c", checks), 8) is None


def test_a_container_that_does_not_start_is_named() -> None:
    found = silence(Status("c", targets=[following(StreamState.PENDING)]), 8)
    assert found is not None
    assert found.cause == "the container has not started in falco/falco-a"
    assert found.fix.startswith("kubectl describe pod -n falco falco-a")


def test_of_several_containers_one_that_runs_is_enough() -> None:
    targets = [following(StreamState.PENDING), following()]
    assert silence(Status("c", targets=targets), 8) is None


@pytest.mark.parametrize(
    ("ledger", "cause"),
    [
        (Ledger(lines=7, log_lines=7), "no alert in the first 7 lines"),
        (Ledger(lines=9, alerts=9, filtered=9), "filters have dropped all 9 alerts: noise (9)"),
        (Ledger(lines=9, alerts=9, filtered=8, published=1), None),
        (Ledger(lines=9, log_lines=4, invalid=5, dead_lettered=5), None),
        (Ledger(), None),
    ],
)
def test_by_what_became_of_the_lines(ledger: Ledger, cause: str | None) -> None:
    noise = FilterStatus("noise", "drop", "x", ledger.filtered, ledger.alerts, None, "", expired=False)
    status = Status("c", shards=[shard(ledger)], targets=[following()], filters=[noise])
    found = silence(status, 8)
    assert (found and found.cause) == cause
