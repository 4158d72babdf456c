"""Resharding: what is stored moves, and nothing is lost, doubled or decided otherwise by it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial, reduce

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.model import Ledger, LogBatch, Publication, Record, Target
from streamer.shard.assign import shard_of
from streamer.shard.reshard import changes_of_move
from streamer.transform.changes import ledger_change
from streamer.transform.load import load
from streamer.transform.plan import Plan
from streamer.transform.process import Processor
from streamer.transform.reshard import reshard
from streamer.transform.state import ShardState, StateNotOursError, StateUnreadableError
from tests.unit.transform.samples import NOW_NS, PLAN, SECOND_NS, START_NS, Feed, alert
from tests.unit.transform.stored import TREATED, live

Shards = dict[int, dict[str, bytes]]
TARGETS = [
    Target("falco", f"falco-{n}", f"00000000-0000-4000-8000-{n:012d}", "falco", "node") for n in range(6)
]
COUNTS = st.integers(1, 5)
LINES = st.lists(
    st.tuples(st.integers(0, 30), st.sampled_from(["one", "two", "three"]), st.sampled_from("abc"))
    | st.none(),
    max_size=12,
)


class Life:
    """The pods' logs, read by one processor a shard; what is stored can be divided anew in between."""

    def __init__(self, shards: int) -> None:
        self.stored: Shards = {shard: {} for shard in range(shards)}
        self.records: list[Record] = []
        self._feeds = {target: Feed(target) for target in TARGETS}
        self._at_ns = START_NS

    def read(self, lines: Iterable[tuple[Target, tuple[int, str, str] | None]]) -> None:
        processors = {
            shard: Processor(self._plan(), load(PLAN.cluster, held.items()), bytes([shard + 1]) * 16)
            for shard, held in self.stored.items()
        }
        for target, line in lines:
            shard = shard_of(target.uid, len(self.stored))
            self._keep(shard, processors[shard].process([self._batch(target, line)], NOW_NS))
        for shard, processor in processors.items():
            if (due := processor.publish_due(NOW_NS)) is not None:
                self._keep(shard, due)

    def tell_all(self) -> None:
        for shard, held in self.stored.items():
            told = Processor(self._plan(), load(PLAN.cluster, held.items())).publish_due(
                NOW_NS, everything=True
            )
            if told is not None:
                self._keep(shard, told)

    def divide(self, count: int) -> None:
        self.stored = divided(self.stored, count)

    def _plan(self) -> Plan:
        return replace(TREATED, shards=len(self.stored))

    def _keep(self, shard: int, made: Publication) -> None:
        self.records += made.records
        self.stored[shard] = live(made.changes, self.stored[shard])

    def _batch(self, target: Target, line: tuple[int, str, str] | None) -> LogBatch:
        if line is None:
            return self._feeds[target].batch((self._at_ns, b"Falco prints text: Notice"))
        seconds, container, command = line
        self._at_ns += seconds * SECOND_NS
        fields = {"container.id": container, "proc.cmdline": command}
        return self._feeds[target].batch((self._at_ns, alert(self._at_ns, output_fields=fields)))


def divided(stored: Mapping[int, Mapping[str, bytes]], count: int) -> Shards:
    return reshard(PLAN.cluster, stored, count, partial(shard_of, shards=count), "reshard")


def states(stored: Shards) -> dict[int, ShardState]:
    return {shard: load(PLAN.cluster, held.items()) for shard, held in stored.items()}


def ledger(stored: Shards) -> Ledger:
    return reduce(Ledger.__add__, (state.ledger for state in states(stored).values()))


def of_targets(stored: Shards) -> Counter[tuple[int, str, bytes]]:
    return Counter(
        (shard, key, raw)
        for shard, held in stored.items()
        for key, raw in held.items()
        if key.partition("/")[0] not in {"ledger", "key"}
    )


def check(stored: Shards) -> None:
    """What must hold of every stored state: each target in its shard, each ledger as its windows are."""
    for shard, state in states(stored).items():
        assert all(shard_of(one.target.uid, len(stored)) == shard for one in state.tracked.values())
        counted = sum(one.windows.counted for one in state.tracked.values())
        assert state.shards in {0, len(stored)}
        assert state.ledger.balanced
        assert state.ledger.deduplicated == state.ledger.summarised + counted


LOGS = st.lists(st.tuples(st.sampled_from(TARGETS), LINES), max_size=8).map(
    lambda found: [(target, line) for target, lines in found for line in lines]
)


@given(LOGS, COUNTS, COUNTS)
def test_there_and_back_again_nothing_is_lost_and_nothing_is_doubled(
    log: list[tuple[Target, tuple[int, str, str] | None]], first: int, second: int
) -> None:
    life = Life(first)
    life.read(log)
    before = life.stored
    check(before)
    there = divided(before, second)
    check(there)
    assert Counter((key, raw) for _, key, raw in of_targets(there).elements()) == Counter(
        (key, raw) for _, key, raw in of_targets(before).elements()
    )
    assert ledger(there) == ledger(before)
    back = divided(there, first)
    check(back)
    assert of_targets(back) == of_targets(before)
    assert ledger(back) == ledger(before)
    highest = max((state.sequence for state in states(before).values()), default=0)
    if any(before.values()):
        assert {state.sequence for state in states(there).values()} == {highest + 1}
        assert {state.sequence for state in states(back).values()} == {highest + 2}


@settings(max_examples=60)
@given(LOGS, LOGS, LOGS, COUNTS, COUNTS, COUNTS)
def test_the_shards_go_on_as_if_they_had_always_been_so_many(
    one: list[tuple[Target, tuple[int, str, str] | None]],
    two: list[tuple[Target, tuple[int, str, str] | None]],
    three: list[tuple[Target, tuple[int, str, str] | None]],
    first: int,
    second: int,
    third: int,
) -> None:
    """The same alerts pass, the same are counted into the same summaries, the same overflow."""
    steady, moved = Life(first), Life(first)
    for log, count in ((one, second), (two, third), (three, first)):
        steady.read(log)
        moved.read(log)
        moved.divide(count)
    steady.tell_all()
    moved.tell_all()
    assert Counter(map(seen, moved.records)) == Counter(map(seen, steady.records))
    assert max(Counter(record.id for record in moved.records).values(), default=1) == 1
    assert ledger(moved.stored) == ledger(steady.stored)
    check(moved.stored)


def seen(record: Record) -> tuple[str, str, bytes]:
    """A record: nothing in it depends on a shard's random key."""
    return record.topic, record.id, record.value


def two_shards() -> Shards:
    life = Life(2)
    life.read([(target, (1, "one", command)) for target in TARGETS for command in "abcabc"])
    return life.stored


def test_a_target_that_came_from_elsewhere_is_forgotten_without_a_trace() -> None:
    stored = divided(two_shards(), 1)
    foreign = [key for key in stored[0] if key.startswith("key/")]
    assert foreign, "no target came from the other shard with its key"
    processor = Processor(TREATED, load(PLAN.cluster, stored[0].items()))
    made = processor.forget(TARGETS, NOW_NS)
    assert live(made.changes, stored[0]).keys() == {"ledger", "key"}


def test_an_empty_state_stays_empty() -> None:
    assert divided({0: {}, 1: {}}, 3) == {0: {}, 1: {}, 2: {}}


def test_what_is_left_over_of_a_pod_that_is_gone_moves_as_well() -> None:
    stored = two_shards()
    left = f"bucket/falco/gone/{TARGETS[0].uid}/falco/text_alert"
    stored[0][left] = b'{"v":1,"tokens":1.0,"at_ns":0,"held":0,"held_from_ns":0,"held_to_ns":0}'
    there = divided(stored, 5)
    assert [shard for shard, held in there.items() if left in held] == [shard_of(TARGETS[0].uid, 5)]


def test_an_inexact_ledger_moves_no_more_than_it_has() -> None:
    """With at_least_once a take-over may have counted less."""
    stored = two_shards()
    for shard, state in states(stored).items():
        state.ledger = Ledger()
        stored[shard]["ledger"] = written(state)
    assert ledger(divided(stored, 3)) == Ledger()


def written(state: ShardState) -> bytes:
    value = ledger_change(state).value
    assert value is not None
    return value


def test_what_cannot_be_read_is_not_moved() -> None:
    stored = two_shards()
    stored[1]["ledger"] = b"{"
    with pytest.raises(StateUnreadableError, match="ledger"):
        divided(stored, 3)


def test_the_old_place_says_where_the_state_is_and_may_take_it_back() -> None:
    before, empty = two_shards(), {shard: dict[str, bytes]() for shard in range(3)}
    changes = changes_of_move(PLAN.cluster, ("old", before), ("new", empty))
    old = {shard: live(made, before[shard]) for shard, made in changes["old"].items()}
    new = {shard: live(made) for shard, made in changes["new"].items()}
    check(new)
    for held in old.values():
        assert held.keys() == {"moved"}
        with pytest.raises(StateNotOursError, match=r"set topics.state: new and kafka.shards: 3"):
            load(PLAN.cluster, held.items())
    back = changes_of_move(PLAN.cluster, ("new", new), ("old", old))
    again = {shard: live(made, old[shard]) for shard, made in back["old"].items()}
    assert of_targets(again) == of_targets(before)


def test_a_place_that_is_taken_is_left_alone() -> None:
    with pytest.raises(StateNotOursError, match="the topic new holds a state of its own, 1 keys"):
        changes_of_move(PLAN.cluster, ("old", two_shards()), ("new", {0: {"ledger": b"{}"}}))
