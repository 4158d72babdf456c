"""A replay treats what Kafka refuses as a shard does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
from structlog.testing import capture_logs

from streamer.config import load
from streamer.flow.publishing import RecordsRefused
from streamer.model import Publication, Reason, Record
from streamer.plan import plan_of
from streamer.replay import Replay
from streamer.source.files import FileReader
from streamer.transform import outcome, writer
from tests.flow.planting import plant, said


class NarrowSink:
    """Takes no record of more than so many bytes, as a topic with max.message.bytes does."""

    def __init__(self, most_bytes: int) -> None:
        self.records: list[Record] = []
        self._most_bytes = most_bytes

    async def publish(self, publication: Publication) -> None:
        too_large = [record for record in publication.records if len(record.value) > self._most_bytes]
        if too_large:
            by_topic = {
                record.topic: frozenset(r.id for r in too_large if r.topic == record.topic)
                for record in too_large
            }
            raise RecordsRefused(by_topic, Reason.RECORD_TOO_LARGE)
        self.records += publication.records


def alert(n: int, padding: int = 0) -> bytes:
    return orjson.dumps(
        {"rule": "r", "priority": "Notice", "output": "x" * padding, "output_fields": {"n": n}}
    )


async def test_a_record_that_is_refused_becomes_one_dead_letter_and_its_neighbours_pass(
    tmp_path: Path,
) -> None:
    alerts = [alert(n, 60_000 if n == 500 else 0) for n in range(1000)]
    file = tmp_path / "alerts.json"
    file.write_bytes(b"\n".join(alerts))
    sink = NarrowSink(50_000)
    everything = ["dedupe.enabled=false", "limits.enabled=false"]
    replaying = Replay(plan_of(load(None, everything, {}, require=())), sink)

    await replaying.read(FileReader(786_432).read(str(file)), lambda _: None)
    await replaying.end()

    published = [record.value for record in sink.records if dict(record.headers)["kind"] == b"alert"]
    letters = [orjson.loads(r.value) for r in sink.records if dict(r.headers)["kind"] == b"dead-letter"]
    assert published == alerts[:500] + alerts[501:]
    assert [(letter["reason"], letter["original_bytes"]) for letter in letters] == [
        ("record_too_large", len(alerts[500]))
    ]
    assert replaying.ledger.balanced
    assert (replaying.ledger.lines, replaying.ledger.published, replaying.ledger.dead_lettered) == (
        1000,
        999,
        1,
    )


async def test_what_filters_drop_is_counted_once_however_often_a_publication_is_tried(tmp_path: Path) -> None:
    alerts = [alert(n, 60_000 if n == 500 else 0) for n in range(1000)]
    file = tmp_path / "alerts.json"
    file.write_bytes(b"\n".join(alerts))
    settings = tmp_path / "streamer.yaml"
    settings.write_text(
        """
filters:
  - {name: tens, action: drop, match: '"n" =~ ".*0"', reason: r}
  - {action: drop, match: '"n" = "501"', reason: r}
  - {name: misspelt, action: drop, match: '"nn" = "1"', reason: r}
"""
    )
    replaying = Replay(plan_of(load(settings, [], {}, require=())), NarrowSink(50_000))
    await replaying.read(FileReader(786_432).read(str(file)), lambda _: None)
    await replaying.end()
    assert replaying.filtered == {"tens": 100, "filters[1]": 1}
    assert replaying.filtered.total() == replaying.ledger.filtered


def plant_in_parse(monkeypatch: pytest.MonkeyPatch, is_bad: Callable[[int], bool]) -> None:
    def fails_at(body: bytes, *_: object) -> bool:
        return is_bad(int(orjson.loads(body)["output_fields"]["n"]))

    plant(monkeypatch, outcome, "parse", fails_at)


@pytest.mark.parametrize("every", [100, 1])
async def test_lines_at_which_the_core_fails_become_dead_letters_and_their_neighbours_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: int
) -> None:
    plant_in_parse(monkeypatch, lambda n: n % every == 0)
    count = 1000 if every > 1 else 200
    alerts = [alert(n, padding=2000) for n in range(count)]
    file = tmp_path / "alerts.json"
    file.write_bytes(b"\n".join(alerts))
    sink = NarrowSink(50_000)
    everything = ["dedupe.enabled=false", "limits.enabled=false"]
    replaying = Replay(plan_of(load(None, everything, {}, require=())), sink)
    with capture_logs() as logs:
        await replaying.read(FileReader(786_432).read(str(file)), lambda _: None)
        await replaying.end()
    letters = [orjson.loads(r.value) for r in sink.records if dict(r.headers)["kind"] == b"dead-letter"]
    bad = [body for n, body in enumerate(alerts) if n % every == 0]
    assert [letter["line"].encode() for letter in letters] == bad
    assert {letter["reason"] for letter in letters} == {"internal_error"}
    assert [r.value for r in sink.records if dict(r.headers)["kind"] == b"alert"] == [
        body for body in alerts if body not in bad
    ]
    assert replaying.ledger.balanced
    assert replaying.ledger.lines == count
    assert len(said(logs, "line_failed")) >= count // every


async def test_a_summary_at_which_the_core_fails_is_accounted_for_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch, writer, "summary_values", lambda *_, **__: True)
    file = tmp_path / "alerts.json"
    file.write_bytes(b"\n".join([alert(1)] * 10))
    sink = NarrowSink(50_000)
    replaying = Replay(plan_of(load(None, ["dedupe.volatile_fields=[]"], {}, require=())), sink)
    await replaying.read(FileReader(786_432).read(str(file)), lambda _: None)
    await replaying.end()
    assert replaying.ledger.summarised == 9
    [found] = [orjson.loads(r.value) for r in sink.records if dict(r.headers)["kind"] == b"health"]
    assert (found["health"], found["count"]) == ("internal_error", 9)
