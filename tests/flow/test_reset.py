"""Forgetting by hand, on a Kafka in memory that fails as it is told to."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import orjson
import pytest

from streamer.flow.publishing import PublishFailed
from streamer.model import Reason
from streamer.shard.reset import reset
from streamer.transform.load import load
from streamer.transform.state import StateNotOursError, StateUnreadableError
from tests.flow.publishers import Fault, MemoryKafka
from tests.unit.transform.samples import FALCO, NOW_NS, OTHER, PLAN
from tests.unit.transform.stored import TREATED, stored

SHARD = 0
PLANNED = replace(TREATED, shards=1)


@pytest.fixture
def kafka() -> MemoryKafka:
    """Both pods in one shard."""
    made = MemoryKafka()
    made.shard(SHARD).state = stored(1)[SHARD]
    assert {FALCO.id, OTHER.id} <= load(PLAN.cluster, made.shard(SHARD).state.items()).tracked.keys()
    return made


def counted(kafka: MemoryKafka) -> int:
    state = load(PLAN.cluster, kafka.shard(SHARD).state.items())
    return sum(one.windows.counted for one in state.tracked.values())


async def test_a_target_is_forgotten_and_what_was_counted_of_it_is_told(kafka: MemoryKafka) -> None:
    before = load(PLAN.cluster, kafka.shard(SHARD).state.items())
    untold = counted(kafka)
    found = await reset(kafka.publisher(SHARD), PLANNED, {FALCO.id}, NOW_NS)
    state = load(PLAN.cluster, kafka.shard(SHARD).state.items())
    assert state.tracked.keys() == {OTHER.id}
    assert not [key for key in kafka.shard(SHARD).state if FALCO.id in key]
    told = [
        orjson.loads(r.value)["summary"]["count"] for r in kafka.records if ("kind", b"summary") in r.headers
    ]
    assert sum(told) == untold > 0
    assert found.records == len(kafka.records)
    assert found.keys > 5
    assert state.ledger.balanced
    assert state.ledger.deduplicated == state.ledger.summarised
    assert state.ledger.lines == before.ledger.lines
    assert (state.key, state.sequence) == (before.key, before.sequence + 1)
    assert state.owner not in {"", before.owner}, "a worker frozen in its commit would take it for its own"


async def test_a_shard_is_forgotten_with_all_that_was_left_over_but_its_ledger(kafka: MemoryKafka) -> None:
    kafka.shard(SHARD).state[f"bucket/falco/gone/0/falco/{Reason.TEXT_ALERT}"] = orjson.dumps(
        {"v": 1, "tokens": 1.0, "at_ns": 0, "held": 0, "held_from_ns": 0, "held_to_ns": 0}
    )
    await reset(kafka.publisher(SHARD), PLANNED, None, NOW_NS)
    assert kafka.shard(SHARD).state.keys() == {"ledger", "key"}


async def test_a_shard_that_cannot_be_read_is_forgotten_as_a_whole_only(kafka: MemoryKafka) -> None:
    state = kafka.shard(SHARD).state
    state[f"position/{OTHER.id}"] = b"{"
    held = len(state)
    with pytest.raises(StateUnreadableError, match=OTHER.id):
        await reset(kafka.publisher(SHARD), PLANNED, {FALCO.id}, NOW_NS)
    assert len(state) == held
    assert await reset(kafka.publisher(SHARD), PLANNED, None, NOW_NS) == (held, 0)
    assert not state


async def test_another_clusters_state_is_never_touched(kafka: MemoryKafka) -> None:
    kafka.shard(SHARD).state = stored(1, "another")[SHARD] | {"pane": b"{}"}
    before = dict(kafka.shard(SHARD).state)
    with pytest.raises(StateNotOursError, match="another"):
        await reset(kafka.publisher(SHARD), PLANNED, None, NOW_NS)
    assert kafka.shard(SHARD).state == before


async def test_a_state_of_another_number_of_shards_is_never_touched(kafka: MemoryKafka) -> None:
    before = dict(kafka.shard(SHARD).state)
    with pytest.raises(StateNotOursError, match=r"divided into 1 shards, but kafka\.shards is 2"):
        await reset(kafka.publisher(SHARD), TREATED, None, NOW_NS)
    assert kafka.shard(SHARD).state == before


async def test_nothing_stored_is_nothing_done(kafka: MemoryKafka) -> None:
    assert await reset(kafka.publisher(7), PLANNED, None, NOW_NS) == (0, 0)
    assert kafka.shard(7).commits == []


async def test_a_failure_leaves_it_to_be_done_again(kafka: MemoryKafka) -> None:
    kafka.faults += [Fault.BEFORE_COMMIT, Fault.ANSWER_LOST]
    untold = counted(kafka)
    for _ in range(2):
        with pytest.raises(PublishFailed):
            await reset(kafka.publisher(SHARD), PLANNED, {FALCO.id}, NOW_NS)
    await reset(kafka.publisher(SHARD), PLANNED, {FALCO.id}, NOW_NS)
    told = Counter(r.id for r in kafka.records)
    assert set(told.values()) == {1}
    assert load(PLAN.cluster, kafka.shard(SHARD).state.items()).ledger.summarised >= untold


async def test_a_summary_that_kafka_refuses_is_sent_alone_and_told(kafka: MemoryKafka) -> None:
    untold = counted(kafka)
    kafka.faults.append(Fault.BATCH_REFUSED)
    await reset(kafka.publisher(SHARD), PLANNED, {FALCO.id}, NOW_NS)
    told = [
        orjson.loads(r.value)["summary"]["count"] for r in kafka.records if ("kind", b"summary") in r.headers
    ]
    assert sum(told) == untold
