"""Lines around `kubernetes.max_line_bytes` over the whole way: runtime parts, the kubelet's reader, Kafka's limit."""

from __future__ import annotations

import random
import time
from collections import Counter
from typing import Any

import orjson
import pytest

from streamer.sink.topics import RECORD_OVERHEAD_BYTES
from tests.chaos.bed import Site
from tests.chaos.load import noise
from tests.chaos.run import playing
from tests.integration.oracle import oracle
from tests.testbed.crilog import CriLog, record
from tests.testbed.topics import change_topic

pytestmark = pytest.mark.real

PART_BYTES = 16 * 1024
MOST_BYTES = 3 * PART_BYTES
ZONES = ("Z", "+05:30")
"""Nodes write their own; the kubelet passes it on, so that its timestamps have 30 or 35 bytes."""
SECONDS = 60


def alert(seed: int, size: int) -> bytes:
    frame = b'{"output":"","priority":"Error","rule":"long","output_fields":{}}'
    return frame.replace(b'""', b'"%b"' % noise(random.Random(seed), size - len(frame)), 1)


def write(log: CriLog, line: bytes, zone: str, *, empty_end: bool) -> None:
    """As a runtime does: parts of 16 KiB, then the end of the line, of which nothing may be left."""
    parts = [line[at : at + PART_BYTES] for at in range(0, len(line), PART_BYTES)]
    if empty_end:
        parts.append(b"")
    for part in parts:
        tag = "F" if part is parts[-1] else "P"
        text = record(part, at=time.time_ns(), tag=tag)
        log.raw(text.replace(b"Z ", f"{zone} ".encode(), 1))


async def test_up_to_the_longest_line_every_alert_is_published_whole(site: Site) -> None:
    settings: dict[str, Any] = {
        "kubernetes": {"max_line_bytes": MOST_BYTES},
        "kafka": {"compression": "none"},
    }
    for topic in site.topics:  # as small as the manual allows
        await change_topic(
            site.bootstrap, topic, {"max.message.bytes": str(MOST_BYTES + RECORD_OVERHEAD_BYTES)}
        )
    async with playing(site, seed=8, **settings) as play:
        worker = play.conductor.worker
        await worker.start()
        pods = {zone: await site.cluster.add_pod(f"zone-{number}") for number, zone in enumerate(ZONES)}
        published, refused = set[bytes](), dict[str, int]()
        seeds = iter(range(100))
        for started_again in (False, True):
            if started_again:  # the last line taken was a long one: its place is found by what it is
                assert await worker.stop() == 0
                await worker.start()
            for zone, pod in pods.items():
                for size in (MOST_BYTES - 1, MOST_BYTES, MOST_BYTES + 1):
                    for empty_end in (True, False):
                        line = alert(next(seeds), size)
                        write(pod.log(), line, zone, empty_end=empty_end)
                        if size > MOST_BYTES:
                            refused[line[:1000].decode()] = size
                        else:
                            published.add(line)
            async with oracle(site.bootstrap, site.topics) as seen:
                await seen.until(lambda seen: len(seen.records) >= len(published) + len(refused), SECONDS)
        assert await worker.stop() == 0
        async with oracle(site.bootstrap, site.topics) as seen:
            await seen.read_to_end()
    assert Counter(record.value for record in seen.of(f"{site.name}.alerts.error")) == Counter(published)
    letters = [orjson.loads(record.value) for record in seen.of(f"{site.name}.dead-letter")]
    assert {each["line"][:1000]: each["original_bytes"] for each in letters} == refused
    assert {each["reason"] for each in letters} == {"line_too_long"}
    assert len(letters) == len(refused)
    assert len(seen.records) == len(published) + len(refused), "a gap"
    assert not worker.heard("topic_limit_low")
