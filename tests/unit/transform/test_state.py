from __future__ import annotations

import base64
import itertools
from dataclasses import asdict
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.model import (
    Change,
    DigestRing,
    Instance,
    Ledger,
    Position,
    PositionStatus,
    Reason,
)
from streamer.transform.limit import Bucket
from streamer.transform.state import (
    ShardState,
    StateUnreadableError,
    Tracked,
    bucket_change,
    forget_changes,
    ledger_change,
    load,
    position_change,
)
from tests.unit.strategies import JSON_VALUES, NANOSECONDS
from tests.unit.transform.samples import FALCO, OTHER

POSITIONS = st.builds(
    Position,
    st.integers(0, 64)
    .flatmap(lambda lines: st.binary(min_size=8 * lines, max_size=8 * lines))
    .map(DigestRing),
    *[NANOSECONDS] * 4,
    st.sampled_from(PositionStatus),
    st.none() | st.builds(Instance, st.text(max_size=20), st.integers(0, 1000)),
)
BUCKETS = st.builds(Bucket, st.floats(0, 1e6), *[NANOSECONDS] * 4)
TRACKED = st.builds(
    Tracked, st.just(FALCO), POSITIONS, st.dictionaries(st.sampled_from(Reason), BUCKETS, max_size=3)
)
LEDGERS = st.builds(Ledger, lines=NANOSECONDS, alerts=NANOSECONDS, gaps=NANOSECONDS)


def saved(state: ShardState) -> dict[str, bytes]:
    changes = [ledger_change(state)]
    for tracked in state.tracked.values():
        changes.append(position_change(tracked))
        changes += [
            bucket_change(tracked.target, reason, bucket) for reason, bucket in tracked.buckets.items()
        ]
    return {change.key: change.value for change in changes if change.value is not None}


def sample() -> dict[str, bytes]:
    position = Position(DigestRing(b"12345678"), 1, 2, 3, 4, PositionStatus.ATTACHED, Instance("c", 1))
    tracked = Tracked(FALCO, position, {Reason.TEXT_ALERT: Bucket(1.5, 2, 3, 4, 5)})
    return saved(ShardState("prod", {FALCO.id: tracked}, Ledger(lines=1, log_lines=1), 7, "me"))


POSITION_KEY = f"position/{FALCO.id}"
BUCKET_KEY = f"bucket/{FALCO.id}/text_alert"


@given(TRACKED, LEDGERS, st.integers(0, 2**62), st.text(max_size=20), st.randoms(use_true_random=False))
def test_what_is_saved_is_loaded_in_any_order_of_keys(
    tracked: Tracked, ledger: Ledger, sequence: int, owner: str, random: Any
) -> None:
    other = Tracked(OTHER, Position())
    state = ShardState("prod", {FALCO.id: tracked, OTHER.id: other}, ledger, sequence, owner)
    items = list(saved(state).items())
    random.shuffle(items)
    assert load("prod", items) == state


def test_nothing_saved_is_a_new_shard() -> None:
    assert load("prod", []) == ShardState("prod")


def test_a_target_that_is_gone_leaves_only_tombstones() -> None:
    stored = sample()
    changes = forget_changes(load("prod", stored.items()).tracked[FALCO.id])
    assert set(changes) == {Change(key, None) for key in stored if key != "ledger"}


def test_a_bucket_that_outlived_its_target_is_left_alone() -> None:
    stored = sample()
    del stored[POSITION_KEY]
    assert load("prod", stored.items()).tracked == {}


WRONG_COUNTS: list[Any] = [None, "7", -1, 1.5, True, []]
WRONG_VALUES: list[tuple[str, str, Any]] = [
    *itertools.product([POSITION_KEY], ["lines", "last_ns", "elapsed_ns", "newest_ns"], WRONG_COUNTS),
    *itertools.product([POSITION_KEY], ["ring"], [None, 7, "x", "AAAA", "\u00e9", "AAAAAAAAAAA=" * 65]),
    (POSITION_KEY, "ring", base64.b64encode(bytes(65 * 8)).decode()),
    *itertools.product([POSITION_KEY], ["status"], [None, "lost", [], {}]),
    *itertools.product([POSITION_KEY], ["instance"], ["x", [], {}, {"container_id": 1, "restart_count": 1}]),
    *itertools.product([POSITION_KEY], ["target"], [None, "x", [], {}, {"namespace": 1}, asdict(OTHER)]),
    *itertools.product([BUCKET_KEY], ["tokens"], [None, "1", [], True]),
    *itertools.product([BUCKET_KEY], ["at_ns", "held", "held_from_ns", "held_to_ns"], WRONG_COUNTS),
    (BUCKET_KEY, "unknown", 1),
    *itertools.product(["ledger"], ["lines", "published", "sequence"], WRONG_COUNTS),
    *itertools.product(["ledger"], ["owner", "cluster"], [None, 1]),
    ("ledger", "unknown", 1),
]


class TestUnreadable:
    def test_is_another_clusters_state_and_both_are_named(self) -> None:
        with pytest.raises(StateUnreadableError, match=r"'prod'.*'staging'"):
            load("staging", sample().items())

    @pytest.mark.parametrize("key", sorted(sample()))
    def test_is_a_newer_format_and_it_is_named(self, key: str) -> None:
        stored = sample()
        stored[key] = orjson.dumps(orjson.loads(stored[key]) | {"v": 2})
        with pytest.raises(StateUnreadableError, match="format 2"):
            load("prod", stored.items())

    def test_is_a_kind_that_is_not_known(self) -> None:
        with pytest.raises(StateUnreadableError, match="window"):
            load("prod", {**sample(), "window/x": b'{"v":1}'}.items())

    def test_is_a_state_without_its_ledger(self) -> None:
        stored = sample()
        del stored["ledger"]
        with pytest.raises(StateUnreadableError, match="ledger"):
            load("prod", stored.items())

    @pytest.mark.parametrize("key", sorted(sample()))
    @pytest.mark.parametrize(
        "raw", [b"", b"{", b"{}", b"[]", b"null", b'"v"', b"1", b"\xff", b'{"v":null}', b'{"v":1}']
    )
    def test_is_damage(self, key: str, raw: bytes) -> None:
        with pytest.raises(StateUnreadableError, match=key):
            load("prod", {**sample(), key: raw}.items())

    @pytest.mark.parametrize(("key", "field", "wrong"), WRONG_VALUES, ids=repr)
    def test_is_a_value_of_the_wrong_kind(self, key: str, field: str, wrong: Any) -> None:
        stored = sample()
        stored[key] = orjson.dumps(orjson.loads(stored[key]) | {field: wrong})
        with pytest.raises(StateUnreadableError, match=key):
            load("prod", stored.items())

    @pytest.mark.parametrize(
        "key", ["bucket", "bucket/", f"bucket/{FALCO.id}", f"bucket/{FALCO.id}/bad_luck"]
    )
    def test_is_a_bucket_for_no_reason(self, key: str) -> None:
        stored = sample()
        stored[key] = stored[BUCKET_KEY]
        if key == f"bucket/{FALCO.id}/bad_luck":
            with pytest.raises(StateUnreadableError, match="bad_luck"):
                load("prod", stored.items())
        else:
            assert list(load("prod", stored.items()).tracked[FALCO.id].buckets) == [Reason.TEXT_ALERT]


KEYS = st.sampled_from([*sample(), "position/x", "bucket/x", f"bucket/{FALCO.id}/x", "", "other/x"])
RAW = st.one_of(
    st.binary(max_size=40),
    JSON_VALUES.map(orjson.dumps),
    st.tuples(st.sampled_from(list(sample().values())), st.text(max_size=8), JSON_VALUES).map(
        lambda parts: orjson.dumps(orjson.loads(parts[0]) | {parts[1]: parts[2]})
    ),
    st.tuples(
        st.sampled_from(list(sample().values())),
        st.sampled_from(
            ["target", "ring", "lines", "status", "instance", "tokens", "held", "sequence", "cluster"]
        ),
        JSON_VALUES,
    ).map(lambda parts: orjson.dumps(orjson.loads(parts[0]) | {parts[1]: parts[2]})),
)


@given(st.dictionaries(KEYS, RAW, max_size=3))
def test_any_bytes_load_or_raise_only_that(damage: dict[str, bytes]) -> None:
    try:
        state = load("prod", {**sample(), **damage}.items())
    except StateUnreadableError:
        return
    assert load("prod", saved(state).items()) == state
