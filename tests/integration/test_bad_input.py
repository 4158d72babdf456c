"""Bad input through the real API server and log endpoint: one outcome each, and nothing is lost beside it."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson
import pytest

from tests.chaos.bed import Site
from tests.chaos.load import Kind, noise
from tests.chaos.run import playing
from tests.integration.oracle import oracle
from tests.testbed.crilog import CriLog, record
from tests.testbed.pod import Pod

pytestmark = pytest.mark.real

PART_BYTES = 16 * 1024
HUGE_BYTES = 100 * 1024 * 1024
DEPTH = 10_000
SECONDS = 90


def alert(name: str, text: bytes = b"") -> bytes:
    return b'{"output":"%b%b","priority":"Warning","rule":"bad","output_fields":{}}' % (name.encode(), text)


def in_parts(log: CriLog, line: bytes) -> None:
    """As a runtime writes a long line: some parts, then the end of it."""
    parts = [line[at : at + PART_BYTES] for at in range(0, len(line), PART_BYTES)]
    now = time.time_ns()
    for part in parts[:-1]:
        log.raw(record(part, at=now, tag="P"))
    log.raw(record(parts[-1], at=now))


def unterminated(log: CriLog, line: bytes) -> None:
    log.raw(record(line)[:-1])


@dataclass(frozen=True)
class Bad:
    """A line, and how many lines of which outcome it is to become."""

    line: bytes
    outcome: str
    write: Callable[[CriLog, bytes], None] = CriLog.line
    ends: bool = False
    """It is the container's last."""


BAD = {
    "unterminated": Bad(alert("unterminated"), "alert", unterminated, ends=True),
    "last-is-a-part": Bad(alert("last-is-a-part"), "alert", CriLog.part, ends=True),
    "nul": Bad(alert("nul", b" \0 "), "dead-letter"),
    "not-utf-8": Bad(alert("not-utf-8", b" \xff\xfe\xc3( "), "dead-letter"),
    "crlf": Bad(alert("crlf") + b"\r", "alert"),
    "long": Bad(alert("long", noise(random.Random(1), 5 * PART_BYTES)), "alert", in_parts),
    "huge": Bad(alert("huge", b"x" * HUGE_BYTES), "dead-letter", in_parts),
    "html": Bad(b"<html><head><title>502 Bad Gateway</title></head></html>", "text"),
    "deep": Bad(
        b'{"priority":"Warning","rule":"deep","x":' + b"[" * DEPTH + b"]" * DEPTH + b"}", "dead-letter"
    ),
    "empty": Bad(b"", "text"),
}


async def test_bad_lines_cost_one_outcome_each_and_no_line_beside_them(site: Site) -> None:
    async with playing(site, seed=6) as play:
        pods: dict[str, Pod] = {name: await site.cluster.add_pod(name) for name in BAD}
        await play.conductor.worker.start()
        async with play.conductor.load(play.printer):
            await play.conductor.settle("the start")
            for name, bad in BAD.items():
                play.printer.print(pods[name], 5, Kind.ALERT)
                bad.write(pods[name].log(), bad.line)
                if bad.ends:
                    await pods[name].end()
                else:
                    play.printer.print(pods[name], 5, Kind.ALERT)
        good = [line for line in play.journal.lines() if line.kind is Kind.ALERT]
        expected = Counter(bad.outcome for bad in BAD.values())
        async with oracle(site.bootstrap, site.topics) as seen:
            await seen.until(lambda seen: arrived(seen.records, good, expected), SECONDS)
            assert await play.conductor.worker.stop() == 0
            await seen.read_to_end()

    values = Counter(record.value for record in seen.records)
    assert [line for line in good if values[line.body] != 1] == []
    for name, bad in BAD.items():
        if bad.outcome == "alert":
            # A carriage return before the end of a line is part of the end.
            assert values[bad.line.removesuffix(b"\r")] == 1, name
    letters = {
        name: letter
        for letter in map(orjson.loads, (each.value for each in seen.of(f"{site.name}.dead-letter")))
        if (name := letter["target"]["pod"]) in BAD
    }
    assert letters.keys() == {name for name, bad in BAD.items() if bad.outcome == "dead-letter"}
    assert {name: letter["original_bytes"] for name, letter in letters.items()} == {
        name: len(BAD[name].line) for name in letters
    }
    assert [name for name, letter in letters.items() if letter["truncated"]] == ["huge"]
    assert not [each for each in seen.of(f"{site.name}.health") if b'"certain"' in each.value], "a gap"
    stopped = play.conductor.worker.heard("worker_stopped")[-1]
    assert stopped["balanced"]
    assert stopped["lines"] == len(play.journal.by_body) + len(BAD)
    assert play.conductor.worker.tracebacks() == 0


def arrived(records: list[Any], good: list[Any], expected: Counter[str]) -> bool:
    kinds = Counter(dict(each.headers)["kind"].decode() for each in records)
    return kinds["alert"] >= len(good) + expected["alert"] and kinds["dead-letter"] >= expected["dead-letter"]
