from __future__ import annotations

import base64
import itertools
import struct
from dataclasses import asdict, replace
from typing import Any

import orjson
import pytest
from hypothesis import example, given
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
    drain,
    key_change,
    ledger_change,
    moved_change,
    target_key_change,
)
from streamer.transform.limit import Bucket, StormBucket
from streamer.transform.load import load
from streamer.transform.process import Processor
from streamer.transform.repeats import Repeats, Variant
from streamer.transform.share import Share, TargetShares
from streamer.transform.state import ShardState, StateNotOursError, StateUnreadableError
from streamer.transform.treatment import DedupePlan, LimitPlan
from streamer.transform.volatile import Kind
from streamer.transform.window import Window
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


def repeats_of(
    group_id: bytes, due_ns: int, evidence_due_ns: int, line_ns: int, variants: dict[bytes, Variant]
) -> Repeats:
    found = Repeats(b'{"rule":"a \xc3\xa9","priority":"Notice"}', group_id)
    found.due_ns, found.evidence_due_ns, found.line_ns, found.variants = (
        due_ns,
        evidence_due_ns,
        line_ns,
        variants,
    )
    found.count = sum(variant.count for variant in variants.values())
    found.evidence_bytes += sum(len(orjson.dumps(one.fields)) for one in variants.values())
    return found


REPEATED = st.builds(
    repeats_of,
    DIGESTS,
    NANOSECONDS,
    NANOSECONDS | st.just(1 << 63),
    NANOSECONDS,
    st.dictionaries(DIGESTS, COUNTED, min_size=1, max_size=3),
)
WINDOWS = st.builds(
    Window,
    DIGESTS,
    NANOSECONDS,
    st.integers(1, 86_400 * 10**9),
    NANOSECONDS,
    st.integers(0, 5),
    st.binary(min_size=17, max_size=17),
    st.lists(DIGESTS, max_size=3).map(b"".join),
    st.booleans(),
    st.booleans(),
    st.integers(0, 1000),
)


@st.composite
def states(draw: st.DrawFn) -> ShardState:
    """A shard with one target of which there is everything, and one of which there is nothing."""
    state = ShardState(
        "prod",
        ledger=draw(LEDGERS),
        sequence=draw(st.integers(0, 2**62)),
        owner=draw(st.text(max_size=20)),
        key=draw(DIGESTS),
    )
    tracked = state.take(FALCO)
    tracked.position = draw(POSITIONS)
    windows = draw(st.lists(WINDOWS, max_size=3, unique_by=lambda window: window.group))
    for window in windows:
        window.repeats = draw(st.none() | REPEATED)
    tracked.windows.restore(windows)
    tracked.limits.update(draw(st.dictionaries(DIGESTS, STORMS, max_size=3)))
    tracked.shares = draw(st.none() | st.builds(TargetShares, SHARES, SHARES, STORMS))
    tracked.kinds.known.update(draw(st.dictionaries(DIGESTS, KINDS, max_size=2)))
    names = st.tuples(st.text(max_size=3), st.text(max_size=3))
    tracked.kinds.reported.update(draw(st.dictionaries(names, st.none(), max_size=2)))
    tracked.dead_letters.update(draw(st.dictionaries(st.sampled_from(Reason), BUCKETS, max_size=3)))
    tracked.key = draw(st.just(b"") | DIGESTS)
    state.take(OTHER)
    return state


LEDGERS = st.builds(Ledger, lines=NANOSECONDS, alerts=NANOSECONDS, gaps=NANOSECONDS)


def saved(state: ShardState) -> dict[str, bytes]:
    """All of a state, as if nothing of it were stored."""
    changes = [ledger_change(state), *([key_change(state)] if state.key else [])]
    journal = state.journal
    for name, tracked in state.tracked.items():
        tracked.move(tracked.position)
        if tracked.key:
            changes.append(target_key_change(tracked))
        for reason, bucket in tracked.dead_letters.items():
            journal.put(("bucket", name, reason.encode()), bucket)
        for key, limit in tracked.limits.items():
            journal.put(("limit", name, key), limit)
        for key, kind in tracked.kinds.known.items():
            journal.put(("kind", name, key), kind)
        if tracked.kinds.reported:
            journal.put(("volatile", name, b""), tracked.kinds)
        if tracked.shares is not None:
            tracked.note_shares(tracked.shares)
        for group in tracked.windows:
            window = tracked.windows.get(group)
            assert window is not None
            journal.put(("window", name, group), window)
            if (repeats := window.repeats) is not None:
                journal.put(("sample", name, group), repeats)
                for digest, variant in repeats.variants.items():
                    journal.put(("variant", name, group + digest), variant)
                journal.put(("repeats", name, group), window)
    changes += drain(state, NOW_NS)
    return {change.key: change.value for change in changes if change.value is not None}


def sample() -> dict[str, bytes]:
    state = ShardState(
        "prod", ledger=Ledger(lines=1, log_lines=1), sequence=7, owner="me", key=bytes(range(16)), shards=8
    )
    tracked = state.take(FALCO)
    tracked.position = Position(
        DigestRing(b"12345678"), 1, 2, 3, 4, PositionStatus.ATTACHED, Instance("c", 1)
    )
    window = Window(GROUP, 1, 2, 3, 0, bytes(17), VARIANT, busy=True, part=1)
    window.repeats = repeats_of(
        GROUP, 4, 9, 5, {VARIANT: Variant(VARIANT, {"proc.cmdline": "ls"}, True, 7, 5, 6)}
    )
    window.repeats.sample = alert()
    tracked.windows.restore([window])
    tracked.limits[LIMIT] = replace(STORM)
    tracked.shares = TargetShares(Share(1, 2, {LIMIT: 0.5}), Share(3, 4), replace(STORM, limit="target"))
    tracked.kinds.known[LIMIT] = Kind("a rule", "a source", LIMIT, 2, {"id": b"12345678"}, ("id",))
    tracked.kinds.reported["a source", "id"] = None
    tracked.dead_letters[Reason.TEXT_ALERT] = Bucket(1.5, 2, 3, 4, 5)
    tracked.key = bytes(range(16, 32))
    return saved(state)


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


@given(states(), st.randoms(use_true_random=False))
def test_what_is_saved_is_loaded_in_any_order_of_keys(state: ShardState, random: Any) -> None:
    items = list(saved(state).items())
    random.shuffle(items)
    assert load("prod", items) == state
    assert load("prod", items) != ShardState("prod")


def test_nothing_saved_is_a_new_shard() -> None:
    assert load("prod", []) == ShardState("prod")


def test_a_released_position_is_read_as_an_attached_one_by_who_does_not_know_that() -> None:
    """Going back by one release stays possible: to it, such a pod has left unseen, and leaves a possible gap."""
    state = ShardState("prod", sequence=1, owner="me")
    state.take(FALCO).position = Position(status=PositionStatus.RELEASED)
    items = saved(state)
    stored = orjson.loads(items[POSITION_KEY])
    assert (stored["status"], stored.pop("released")) == ("attached", True)
    assert load("prod", items.items()) == state
    before = load("prod", (items | {POSITION_KEY: orjson.dumps(stored)}).items())
    assert before.tracked[FALCO.id].position.status is PositionStatus.ATTACHED


def test_a_target_that_is_gone_leaves_only_tombstones() -> None:
    stored = sample()
    state = load("prod", stored.items())
    windows = state.tracked[FALCO.id].windows
    windows.report(windows.counting[GROUP], shows=False)
    state.forget(FALCO)
    changes = drain(state, NOW_NS)
    assert len(changes) == len(set(changes))
    assert set(changes) == {Change(key, None) for key in stored if FALCO.id in key}


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
    (LIMIT_KEY, 1, b"\xff" * 8),  # its tokens are not number
    *itertools.product([LIMIT_KEY], range(9, 80, 8), [NEVER]),  # its counts and times
    (LIMIT_KEY, 82, b"null"),  # its texts
    *itertools.product([REPEATS_KEY], [49, 57], [NEVER]),  # its first and last time
]
PACKED_KEYS = {WINDOW_KEY, REPEATS_KEY, LIMIT_KEY}


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


_WITHOUT_A_VARIANT = {
    f"repeats/falco/falco-x7k2p/0d2b4c1e-5f60-4f6e-9a51-7e1d2c3b4a59/falco/{'67' * 16}": (
        b"\x01" + struct.pack("<QQQ16sQQQ", 4, 9, 5, b"\0" + b"v" * 15, 7, 5, 6)
    )
}
"""Counts of a variant that no other key describes."""


@example(_WITHOUT_A_VARIANT)
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
