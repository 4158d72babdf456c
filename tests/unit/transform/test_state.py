from __future__ import annotations

import base64
import itertools
from dataclasses import asdict, replace
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
from streamer.transform.changes import (
    forget_changes,
    key_change,
    ledger_change,
    moved_change,
    position_change,
    take_changes,
    target_key_change,
)
from streamer.transform.limit import Bucket, StormBucket
from streamer.transform.load import load
from streamer.transform.process import Processor
from streamer.transform.repeats import SAMPLE, Repeats, Variant
from streamer.transform.share import Share, TargetShares
from streamer.transform.state import ShardState, StateNotOursError, StateUnreadableError, Tracked
from streamer.transform.treatment import DedupePlan, LimitPlan
from streamer.transform.volatile import Kind, Kinds
from streamer.transform.window import Window, Windows
from tests.unit.strategies import JSON_VALUES, NANOSECONDS
from tests.unit.transform.samples import FALCO, NOW_NS, OTHER, PLAN, START_NS, Feed, alert

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
DIGESTS = st.binary(min_size=16, max_size=16)
STORMS = st.builds(
    StormBucket,
    st.floats(0, 1e6),
    *[NANOSECONDS] * 4,
    st.sampled_from(["workload", "target"]),
    st.text(max_size=5),
    st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2),
    *[NANOSECONDS] * 5,
    st.booleans(),
)
SHARES = st.builds(
    Share, NANOSECONDS, NANOSECONDS, st.dictionaries(DIGESTS, st.floats(0.25, 1e6), max_size=3)
)
KINDS = st.builds(
    Kind,
    st.text(max_size=3),
    st.text(max_size=3),
    DIGESTS,
    st.integers(0, 31),
    st.dictionaries(st.text(max_size=3), st.binary(max_size=8), max_size=2),
    st.lists(st.text(max_size=3), max_size=2).map(tuple),
)
COUNTED = st.builds(
    Variant,
    DIGESTS,
    st.dictionaries(st.text(max_size=3), st.none() | st.text(max_size=5) | st.integers(0, 9), max_size=2),
    st.booleans(),
    st.integers(1, 9),
    *[NANOSECONDS] * 2,
)
REPEATED = st.builds(
    lambda group_id, due_ns, evidence_due_ns, variants, line_ns: Repeats(
        b'{"rule":"a \xc3\xa9","priority":"Notice"}',
        group_id,
        due_ns,
        evidence_due_ns,
        sum(variant.count for variant in variants.values()),
        variants,
        line_ns,
    ),
    DIGESTS,
    NANOSECONDS,
    NANOSECONDS | st.just(1 << 63),
    st.dictionaries(DIGESTS, COUNTED, min_size=1, max_size=3),
    NANOSECONDS,
)
WINDOWS = st.builds(
    Window,
    NANOSECONDS,
    st.integers(1, 86_400 * 10**9),
    NANOSECONDS,
    st.integers(0, 5),
    st.booleans(),
    st.booleans(),
    st.integers(0, 1000),
    st.binary(min_size=17, max_size=17),
    st.lists(DIGESTS, max_size=3).map(b"".join),
)


@st.composite
def windows_of_a_target(draw: st.DrawFn) -> Windows:
    windows, opened = Windows(), draw(st.dictionaries(DIGESTS, WINDOWS, max_size=3))
    for group in opened:
        if (repeats := draw(st.none() | REPEATED)) is not None:
            repeats.evidence_bytes = evidence_bytes(repeats)
            windows.repeats[group] = repeats
    windows.restore(list(opened.items()))
    return windows


def evidence_bytes(repeats: Repeats) -> int:
    return len(repeats.sample) + sum(len(orjson.dumps(one.fields)) for one in repeats.variants.values())


TRACKED = st.builds(
    Tracked,
    st.just(FALCO),
    POSITIONS,
    windows_of_a_target(),
    st.dictionaries(DIGESTS, STORMS, max_size=3),
    st.none() | st.builds(TargetShares, SHARES, SHARES, STORMS),
    st.builds(
        Kinds,
        st.dictionaries(DIGESTS, KINDS, max_size=2),
        st.dictionaries(st.tuples(st.text(max_size=3), st.text(max_size=3)), st.none(), max_size=2),
    ),
    st.dictionaries(st.sampled_from(Reason), BUCKETS, max_size=3),
    st.just(b"") | DIGESTS,
)
LEDGERS = st.builds(Ledger, lines=NANOSECONDS, alerts=NANOSECONDS, gaps=NANOSECONDS)


def saved(state: ShardState) -> dict[str, bytes]:
    changes = [ledger_change(state), *([key_change(state)] if state.key else [])]
    for tracked in state.tracked.values():
        changes.append(position_change(tracked))
        if tracked.key:
            changes.append(target_key_change(tracked))
        tracked.dirty_dead_letters.update(dict.fromkeys(tracked.dead_letters))
        tracked.kinds.dirty.update(dict.fromkeys(tracked.kinds.known))
        tracked.kinds.dirty_reported = bool(tracked.kinds.reported)
        tracked.dirty_shares = tracked.shares is not None
        tracked.dirty_limits.update(dict.fromkeys(tracked.limits))
        tracked.windows.dirty.update(dict.fromkeys(tracked.windows.packed))
        tracked.windows.counted.update(dict.fromkeys(tracked.windows.repeats))
        for repeats in tracked.windows.repeats.values():
            repeats.fresh[:] = [SAMPLE, *repeats.variants]
        changes += take_changes(tracked)
    return {change.key: change.value for change in changes if change.value is not None}


def sample() -> dict[str, bytes]:
    position = Position(DigestRing(b"12345678"), 1, 2, 3, 4, PositionStatus.ATTACHED, Instance("c", 1))
    windows, variant = Windows(), Variant(VARIANT, {"proc.cmdline": "ls"}, True, 7, 5, 6)
    windows.repeats[GROUP] = Repeats(alert(), GROUP, 4, 9, 7, {VARIANT: variant})
    windows.restore([(GROUP, Window(1, 2, 3, 0, True, False, 1, bytes(17), VARIANT))])
    tracked = Tracked(
        FALCO,
        position,
        windows,
        {LIMIT: STORM},
        TargetShares(Share(1, 2, {LIMIT: 0.5}), Share(3, 4), replace(STORM, limit="target")),
        Kinds(
            {LIMIT: Kind("a rule", "a source", LIMIT, 2, {"id": b"12345678"}, ("id",))},
            {("a source", "id"): None},
        ),
        {Reason.TEXT_ALERT: Bucket(1.5, 2, 3, 4, 5)},
        bytes(range(16, 32)),
    )
    ledger = Ledger(lines=1, log_lines=1)
    return saved(ShardState("prod", {FALCO.id: tracked}, ledger, 7, "me", bytes(range(16)), 8))


STORM = StormBucket(
    1.5, 2, 3, 4, 5, "workload", "Terminal shell", {"rule": "Terminal shell"}, 5, 6, 7, 8, 9, True
)
GROUP, VARIANT, LIMIT = b"g" * 16, b"v" * 16, b"l" * 16
POSITION_KEY = f"position/{FALCO.id}"
BUCKET_KEY = f"bucket/{FALCO.id}/text_alert"
LIMIT_KEY = f"limit/{FALCO.id}/{LIMIT.hex()}"
WINDOW_KEY = f"window/{FALCO.id}/{GROUP.hex()}"
REPEATS_KEY = f"repeats/{FALCO.id}/{GROUP.hex()}"
SAMPLE_KEY = f"sample/{FALCO.id}/{GROUP.hex()}"
VARIANT_KEY = f"variant/{FALCO.id}/{GROUP.hex()}/{VARIANT.hex()}"


@given(
    TRACKED, LEDGERS, st.integers(0, 2**62), st.text(max_size=20), DIGESTS, st.randoms(use_true_random=False)
)
def test_what_is_saved_is_loaded_in_any_order_of_keys(
    tracked: Tracked, ledger: Ledger, sequence: int, owner: str, key: bytes, random: Any
) -> None:
    other = Tracked(OTHER, Position())
    state = ShardState("prod", {FALCO.id: tracked, OTHER.id: other}, ledger, sequence, owner, key)
    items = list(saved(state).items())
    random.shuffle(items)
    assert load("prod", items) == state


def test_nothing_saved_is_a_new_shard() -> None:
    assert load("prod", []) == ShardState("prod")


def test_a_released_position_is_read_as_an_attached_one_by_who_does_not_know_that() -> None:
    """Going back by one release stays possible: to it, such a pod has left unseen, and leaves a possible gap."""
    state = ShardState(
        "prod", {FALCO.id: Tracked(FALCO, Position(status=PositionStatus.RELEASED))}, Ledger(), 1, "me"
    )
    items = saved(state)
    stored = orjson.loads(items[POSITION_KEY])
    assert (stored["status"], stored.pop("released")) == ("attached", True)
    assert load("prod", items.items()) == state
    before = load("prod", (items | {POSITION_KEY: orjson.dumps(stored)}).items())
    assert before.tracked[FALCO.id].position.status is PositionStatus.ATTACHED


def test_a_target_that_is_gone_leaves_only_tombstones() -> None:
    stored = sample()
    tracked = load("prod", stored.items()).tracked[FALCO.id]
    tracked.windows.take_repeats(GROUP)
    assert set(forget_changes(tracked)) == {Change(key, None) for key in stored if FALCO.id in key}


def test_what_outlived_its_target_is_left_alone() -> None:
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
    *itertools.product([LIMIT_KEY], ["tokens", "name", "storm", "limit"], [None, [], {}]),
    *itertools.product([LIMIT_KEY], ["at_ns", "held", "since_ns", "last_ns", "due_ns"], WRONG_COUNTS),
    *itertools.product([SAMPLE_KEY], ["alert"], [None, 1, "text", "{}", '{"rule":"a"}']),
    *itertools.product([SAMPLE_KEY], ["group_id"], [None, 1, "x", "00"]),
    *itertools.product([VARIANT_KEY], ["id"], [None, 1, "x", "00"]),
    *itertools.product([VARIANT_KEY], ["fields"], [None, 1, []]),
    *itertools.product([VARIANT_KEY], ["is_new"], [None, 1]),
    *itertools.product(["key", f"key/{FALCO.id}"], ["key"], [None, 1, "x", "00"]),
    *itertools.product(["ledger"], ["lines", "published", "sequence", "shards"], WRONG_COUNTS),
    *itertools.product(["ledger"], ["owner", "cluster"], [None, 1]),
    ("ledger", "unknown", 1),
]


NEVER = (2**63).to_bytes(8, "little")
WRONG_PACKED: list[tuple[str, int, bytes]] = [
    (WINDOW_KEY, 1, NEVER),  # its start
    (WINDOW_KEY, 9, NEVER),  # its length
    (WINDOW_KEY, 17, NEVER),  # its first alert's time
    (WINDOW_KEY, 26, b"\x04"),  # a flag that nobody knows
    (REPEATS_KEY, 1, NEVER),  # when it is due
    (REPEATS_KEY, 9, b"\xff" * 8),  # when its evidence is
    (REPEATS_KEY, 17, NEVER),  # its last line's time
    *itertools.product([REPEATS_KEY], [49, 57], [NEVER]),  # its first and last time
]
PACKED_KEYS = {WINDOW_KEY, REPEATS_KEY}


def of_format(raw: bytes, version: int) -> bytes:
    if raw[:1] == b"{":
        return orjson.dumps(orjson.loads(raw) | {"v": version})
    return bytes([version]) + raw[1:]


class TestUnreadable:
    def test_is_another_clusters_state_and_both_are_named(self) -> None:
        with pytest.raises(StateUnreadableError, match=r"'prod'.*'staging'"):
            load("staging", sample().items())

    @pytest.mark.parametrize("key", sorted(sample()))
    def test_is_a_newer_format_and_it_is_named(self, key: str) -> None:
        stored = sample()
        stored[key] = of_format(stored[key], 2)
        with pytest.raises(StateUnreadableError, match="format 2"):
            load("prod", stored.items())

    def test_is_one_of_another_number_of_shards_and_both_are_named(self) -> None:
        assert load("prod", sample().items(), 8) == load("prod", sample().items())
        with pytest.raises(
            StateNotOursError, match=r"into 8 shards, but kafka.shards is 16.*reshard --to 16"
        ):
            load("prod", sample().items(), 16)

    def test_is_one_that_was_moved_and_where_it_is_now_is_named(self) -> None:
        moved = moved_change("elsewhere", 16)
        assert moved == Change("moved", b'{"v":1,"topic":"elsewhere","shards":16}'), (
            "later releases must know it"
        )
        with pytest.raises(StateNotOursError, match=r"set topics.state: elsewhere and kafka.shards: 16"):
            load("prod", {moved.key: moved.value or b""}.items())

    def test_is_a_kind_that_is_not_known(self) -> None:
        with pytest.raises(StateUnreadableError, match="pane"):
            load("prod", {**sample(), "pane/x": b'{"v":1}'}.items())

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

    @pytest.mark.parametrize(("key", "at", "wrong"), WRONG_PACKED, ids=repr)
    def test_is_a_packed_value_out_of_bounds(self, key: str, at: int, wrong: bytes) -> None:
        stored = sample()
        stored[key] = stored[key][:at] + wrong + stored[key][at + len(wrong) :]
        with pytest.raises(StateUnreadableError, match=key):
            load("prod", stored.items())

    @pytest.mark.parametrize("key", sorted(PACKED_KEYS))
    @pytest.mark.parametrize("end", [1, 8, 33, -1])
    def test_is_a_packed_value_cut_short(self, key: str, end: int) -> None:
        stored = sample()
        stored[key] = stored[key][:end]
        with pytest.raises(StateUnreadableError, match=key):
            load("prod", stored.items())

    @pytest.mark.parametrize("missing", [SAMPLE_KEY, WINDOW_KEY])
    def test_is_what_was_counted_without_what_it_belongs_to(self, missing: str) -> None:
        stored = sample()
        del stored[missing]
        with pytest.raises(StateUnreadableError, match=REPEATS_KEY):
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
            assert list(load("prod", stored.items()).tracked[FALCO.id].dead_letters) == [Reason.TEXT_ALERT]


KEYS = st.sampled_from([*sample(), "position/x", "bucket/x", f"bucket/{FALCO.id}/x", "", "other/x"])
JSON_ONES = [raw for key, raw in sample().items() if key not in PACKED_KEYS]
PACKED_ONES = [raw for key, raw in sample().items() if key in PACKED_KEYS]
RAW = st.one_of(
    st.binary(max_size=40),
    st.tuples(st.sampled_from(PACKED_ONES), st.integers(0, 80), st.binary(max_size=24)).map(
        lambda parts: parts[0][: parts[1]] + parts[2] + parts[0][parts[1] + len(parts[2]) :]
    ),
    JSON_VALUES.map(orjson.dumps),
    st.tuples(st.sampled_from(JSON_ONES), st.text(max_size=8), JSON_VALUES).map(
        lambda parts: orjson.dumps(orjson.loads(parts[0]) | {parts[1]: parts[2]})
    ),
    st.tuples(
        st.sampled_from(JSON_ONES),
        st.sampled_from(
            ["target", "ring", "lines", "status", "instance", "tokens", "held", "sequence", "cluster"]
        ),
        JSON_VALUES,
    ).map(lambda parts: orjson.dumps(orjson.loads(parts[0]) | {parts[1]: parts[2]})),
)


@given(st.dictionaries(KEYS, RAW, max_size=3))
def test_any_bytes_load_or_raise_only_that(damage: dict[str, bytes]) -> None:
    """And what was loaded can be worked with: it would end all shards of the worker if it could not."""
    try:
        state = load("prod", {**sample(), **damage}.items())
    except StateUnreadableError:
        return
    assert load("prod", saved(state).items()) == state
    plan = replace(PLAN, cluster="prod", dedupe=DedupePlan(), limits=LimitPlan())
    processor = Processor(plan, state, bytes(16))
    processor.process([Feed(FALCO).batch((START_NS, alert()))], NOW_NS)
    processor.publish_redefined(replace(plan, dedupe=DedupePlan(enabled=False)), NOW_NS)
    processor.publish_due(NOW_NS, everything=True)
    processor.forget([FALCO, OTHER], NOW_NS)
