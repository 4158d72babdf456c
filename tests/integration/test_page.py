"""The live page in a real browser: it is shown as it is meant, and names and reasons in it can do nothing."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from streamer.model import Ledger, Target
from streamer.telemetry.http import HttpServer
from streamer.telemetry.status import Check, CheckState, ShardStatus, Status, StreamState, TargetStatus
from tests.testbed.browser import Shown, show
from tests.testbed.fixtures import parts_or_skip

pytestmark = pytest.mark.real

HOSTILE = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
LEDGER = Ledger(lines=4_000, alerts=3_000, log_lines=1_000, published=2_000, deduplicated=1_000)
SHARD = ShardStatus(3, True, 12_345, LEDGER, 2_048, 0.0, 0.0, 17, 2, 0, "working")
WELL = Status("prod-eu-1", [Check("topics verified", CheckState.OK)], [SHARD])


async def shown(status: Status, folder: Path) -> Shown:
    async with HttpServer("127.0.0.1", 0, lambda: status).serving() as port:
        with parts_or_skip():
            return await asyncio.to_thread(show, f"http://127.0.0.1:{port}/", folder)


async def test_it_is_shown_with_its_style_and_without_a_complaint(tmp_path: Path) -> None:
    found = await shown(WELL, tmp_path)
    assert '<p class="big well">All is well</p>' in found.document
    assert "<td>✓ topics verified</td><td>ok</td>" in found.document
    assert ".well { color:" in found.document
    assert found.complaints == []


async def test_what_others_have_named_is_text(tmp_path: Path) -> None:
    targets = [
        TargetStatus(
            Target("falco", HOSTILE, "u", HOSTILE, HOSTILE), StreamState.WAITING, True, 90.0, 0.0, 90.0
        )
    ]
    status = replace(
        WELL, cluster=HOSTILE, checks=[Check("kafka", CheckState.FAILING, HOSTILE)], targets=targets
    )
    found = await shown(status, tmp_path)
    assert "<script>" not in found.document
    assert "<img" not in found.document
    assert found.document.count("&lt;script&gt;") >= 5
    assert "<title>owned</title>" not in found.document
    assert found.complaints == []
