"""Prometheus' own checker on the page that a worker serves."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from streamer.model import Ledger
from streamer.telemetry.gauges import shown
from streamer.telemetry.http import HttpServer
from streamer.telemetry.status import Check, CheckState, ShardStatus, Status, StreamState, TargetStatus
from tests.testbed import parts
from tests.testbed.fixtures import parts_or_skip
from tests.unit.transform.samples import FALCO

pytestmark = pytest.mark.real


@pytest.fixture
async def page() -> AsyncIterator[str]:
    """The metrics of a worker that is at work."""
    shard = ShardStatus(0, True, 1, Ledger(), 0, 0.0, 0.0, 3, 100, 1)
    target = TargetStatus(FALCO, StreamState.FOLLOWING, True, 0.0, 0.0, 900.0)
    status = Status("prod-eu-1", [Check("pods listed", CheckState.OK)], [shard], [target])
    with shown(lambda: status):
        async with (
            HttpServer("127.0.0.1", 0, lambda: status).serving() as port,
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{port}/metrics") as answer,
        ):
            yield await answer.text()


@pytest.fixture(scope="module")
def promtool() -> Path:
    with parts_or_skip():
        return parts.promtool()


def check(promtool: Path, page: str) -> tuple[int, str]:
    command = [str(promtool), "check", "metrics"]
    done = subprocess.run(command, input=page, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.timeout(1200)  # the first time it is built
async def test_promtool_has_nothing_to_say_against_the_page(promtool: Path, page: str) -> None:
    assert "falco_streamer_lag_seconds" in page
    assert check(promtool, page) == (0, "")


async def test_promtool_would_say_it(promtool: Path, page: str) -> None:
    status, said = check(promtool, page + "# TYPE falco_streamer_lines counter\nfalco_streamer_lines 1\n")
    assert status != 0
    assert "falco_streamer_lines" in said
