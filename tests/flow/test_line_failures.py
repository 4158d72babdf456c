"""A fault in the core costs the line that it is about: planted faults, in a shard, and across restarts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import orjson
import pytest
from structlog.testing import capture_logs

from streamer.model import Reason
from streamer.transform import outcome
from streamer.transform.encode import TargetEncoder
from streamer.transform.limit import Rate
from tests.flow.planting import plant, said
from tests.flow.publishers import MemoryKafka
from tests.flow.test_shard import GENEROUS, LETTERS, PodLog, alerts, check_commits, owning, pod_log, until
from tests.unit.flow.virtual_time import in_virtual_time
from tests.unit.transform.samples import FALCO, OTHER, START_NS, alert

BAD = (7, 40)


def is_bad_body(body: bytes) -> bool:
    return any(b'"n":%d}' % n in body or b'"n":%d,' % n in body for n in BAD)


def plant_in_parse(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, outcome, "parse", lambda body, *_: is_bad_body(body))


def plant_after_the_state_is_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    def is_bad(_: Any, alert: Any, *__: Any) -> bool:
        return is_bad_body(alert.body)

    plant(monkeypatch, TargetEncoder, "alert", is_bad)


PLANTS = (plant_in_parse, plant_after_the_state_is_touched)


async def published(kafka: MemoryKafka, *logs: PodLog) -> None:
    async with owning(kafka, *logs, batch_lines=25) as owner:
        assert await owner.drain()
        assert owner.shard.ledger.balanced


def by_topic(kafka: MemoryKafka) -> dict[str, list[tuple[bytes, bytes]]]:
    found: dict[str, list[tuple[bytes, bytes]]] = {}
    for record in kafka.records:
        if not record.topic.endswith(("health", "summaries")):
            found.setdefault(record.topic, []).append((record.key or b"", record.value))
    return found


@pytest.mark.parametrize("planted", PLANTS)
@in_virtual_time
async def test_a_fault_at_a_line_costs_that_line_and_no_other(
    monkeypatch: pytest.MonkeyPatch, planted: Callable[[pytest.MonkeyPatch], None]
) -> None:
    bodies = alerts(100)
    sound = MemoryKafka()
    await published(sound, pod_log(FALCO, *bodies), pod_log(OTHER, *bodies[:10]))
    planted(monkeypatch)
    kafka = MemoryKafka()
    with capture_logs() as logs:
        await published(kafka, pod_log(FALCO, *bodies), pod_log(OTHER, *bodies[:10]))

    found, expected = by_topic(kafka), by_topic(sound)
    letters = [orjson.loads(value) for _, value in found.pop(LETTERS)]
    assert Counter(letter["reason"] for letter in letters) == {Reason.INTERNAL_ERROR: 3}
    assert sorted(letter["line"].encode() for letter in letters) == sorted([bodies[7], bodies[7], bodies[40]])
    for topic, records in expected.items():
        assert found[topic] == [one for one in records if not is_bad_body(one[1])]
    assert check_commits(kafka).invalid == 3
    errors = said(logs, "line_failed")
    assert len(errors) == 3
    assert {one["error"] for one in errors} == {"tests.flow.planting.PlantedError"}
    assert all("planted" in one["frames"][-1] for one in errors)


@in_virtual_time
async def test_after_a_restart_the_same_line_gives_the_same_dead_letter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plant_in_parse(monkeypatch)
    log = pod_log(FALCO, *alerts(50))
    whole, parts = MemoryKafka(), MemoryKafka()
    await published(whole, log)
    for end in (5, 10, 41, 50):
        await published(parts, PodLog(log.target, log.lines[:end]))
    ids = [[record.id for record in kafka.records if record.topic == LETTERS] for kafka in (whole, parts)]
    assert len(ids[0]) == 2
    assert ids[0] == ids[1]


@in_virtual_time
async def test_no_limit_holds_back_the_dead_letter_of_a_line_that_may_be_an_alert(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plant(monkeypatch, outcome, "parse", lambda *_: True)
    kafka = MemoryKafka()
    plan = replace(GENEROUS, dead_letters=Rate(per_minute=1, burst=2))
    async with owning(kafka, pod_log(FALCO, *alerts(12)), plan=plan, batch_lines=25) as owner:
        assert await owner.drain()
    assert check_commits(kafka).dead_lettered == 12


@in_virtual_time
async def test_the_dead_letter_shrinks_where_kafka_refuses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, outcome, "parse", lambda *_: True)
    kafka = MemoryKafka()
    kafka.largest_bytes[LETTERS] = 5_000
    await published(kafka, pod_log(FALCO, alert(START_NS, text="x" * 20_000)))
    [letter] = [orjson.loads(record.value) for record in kafka.records if record.topic == LETTERS]
    assert (letter["reason"], letter["truncated"]) == (Reason.INTERNAL_ERROR, True)


@in_virtual_time
async def test_where_the_dead_letter_fails_as_well_its_line_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plant_in_parse(monkeypatch)
    plant(monkeypatch, TargetEncoder, "dead_letter", lambda _, __, kept, *___: is_bad_body(kept))
    kafka = MemoryKafka()
    await published(kafka, pod_log(FALCO, *alerts(20)))
    [letter] = [orjson.loads(record.value) for record in kafka.records if record.topic == LETTERS]
    assert (letter["reason"], letter["line"], letter["truncated"]) == (Reason.INTERNAL_ERROR, "", True)


@in_virtual_time
async def test_where_very_many_lines_fail_what_is_known_of_them_is_committed_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plant(monkeypatch, outcome, "parse", lambda *_: True)
    kafka = MemoryKafka()
    text = "x" * 1000
    log = pod_log(FALCO, *[alert(START_NS + n, text=text, n=n) for n in range(400)])
    async with owning(kafka, log, batch_lines=10) as owner:
        await until(lambda: bool(owner.commits), seconds=100)
        assert owner.commits[0][1].lines < 200
        assert await owner.drain()
    assert check_commits(kafka).dead_lettered == 400
