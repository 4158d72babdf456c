"""A replay treats what Kafka refuses as a shard does."""

from __future__ import annotations

from pathlib import Path

import orjson

from streamer.config import load
from streamer.flow.publishing import RecordsRefused
from streamer.model import Publication, Reason, Record
from streamer.plan import plan_of
from streamer.replay import Replay
from streamer.source.files import FileReader


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
