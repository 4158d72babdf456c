from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Final

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.flow.publishing import RecordsRefused, Refusals
from streamer.model import (
    Alert,
    Change,
    Gap,
    GapReason,
    Instance,
    Ledger,
    LogBatch,
    Malformed,
    PositionStatus,
    Publication,
    Reason,
    Record,
    Target,
    TextLine,
)
from streamer.transform.limit import Rate
from streamer.transform.load import load
from streamer.transform.parse import parse
from streamer.transform.plan import Plan, Refusal
from streamer.transform.process import Processor
from streamer.transform.read import LineReader
from streamer.transform.stamp import StampReader
from streamer.transform.state import ShardState
from tests.unit.strategies import BODIES, cuts, pieces
from tests.unit.transform.samples import (
    FALCO,
    NOW_NS,
    OTHER,
    PLAN,
    SECOND_NS,
    START_NS,
    Feed,
    alert,
    stamped,
)

MAX_LINE_BYTES = 600
Entry = tuple[int, bytes]
FEWER: Final = settings(max_examples=40)
"""Whole logs are dear to draw: enough to search, few enough to wait for."""


@st.composite
def logs(draw: st.DrawFn, max_size: int = 25) -> list[Entry]:
    """A target's lines: times stand still, run, jump and step back; some lines repeat one before them."""
    time_ns, found = START_NS, list[Entry]()
    for _ in range(draw(st.integers(0, max_size))):
        if found and draw(st.integers(0, 3)) == 0:
            found.append(draw(st.sampled_from(found[-3:])))
            continue
        step = draw(st.sampled_from([0, 1, SECOND_NS // 3, -SECOND_NS, -11 * SECOND_NS, 3600 * SECOND_NS]))
        time_ns += step
        long = draw(st.integers(0, 9)) == 0
        found.append((time_ns, b"{" + b"x" * MAX_LINE_BYTES if long else draw(BODIES)))
    return found


def stream(entries: Iterable[Entry]) -> bytes:
    return b"".join(stamped(body, time_ns) + b"\n" for time_ns, body in entries)


def batches_of(target: Target, chunks: Sequence[bytes]) -> list[LogBatch]:
    reader, feed, found = LineReader(MAX_LINE_BYTES), Feed(target), list[LogBatch]()
    for chunk in chunks:
        piece = reader.feed(chunk)
        if piece.lines:
            found.append(feed.raw_batch(piece.lines, piece.times_ns, piece.oversize, piece.fragments))
    return found


def whole(target: Target, entries: Sequence[Entry]) -> list[LogBatch]:
    return batches_of(target, [stream(entries)])


def by_line(target: Target, entries: Sequence[Entry]) -> list[LogBatch]:
    return batches_of(target, [stream([entry]) for entry in entries])


def new(plan: Plan = PLAN) -> Processor:
    return Processor(plan, ShardState("prod-eu-1", owner="me"))


def records(publications: Iterable[Publication]) -> list[Record]:
    return [record for publication in publications for record in publication.records]


def kind(record: Record) -> str:
    return dict(record.headers)["kind"].decode()


def of_kind(found: Iterable[Record], name: str) -> list[Record]:
    return [record for record in found if kind(record) == name]


class Store:
    """The compacted state topic."""

    def __init__(self) -> None:
        self.live: dict[str, bytes] = {}

    def commit(self, publication: Publication) -> None:
        keys = [change.key for change in publication.changes]
        assert len(set(keys)) == len(keys), "two changes of one key in one transaction"
        for key, value in publication.changes:
            if value is None:
                self.live.pop(key, None)
            else:
                self.live[key] = value

    def processor(self, plan: Plan = PLAN) -> Processor:
        return Processor(plan, load("prod-eu-1", self.live.items()))


class TestTheLedger:
    @FEWER
    @given(logs(), logs(), st.data())
    def test_balances_and_counts_what_came_and_went(
        self, mine: list[Entry], theirs: list[Entry], data: st.DataObject
    ) -> None:
        line = stream(mine)
        batches = batches_of(FALCO, pieces(line, data.draw(cuts(len(line))))) + whole(OTHER, theirs)
        processor, found = new(), list[Publication]()
        for batch in batches:
            found.append(processor.process([batch], NOW_NS))
            assert found[-1].ledger.balanced
            assert found[-1].lines == len(batch.lines)
        kinds = Counter(kind(record) for record in records(found))
        ledger = processor.state.ledger
        counted = Counter(type(_classified(body)) for _, body in [*mine, *theirs])
        assert ledger == Ledger(
            lines=len(mine) + len(theirs),
            alerts=counted[Alert],
            published=kinds["alert"],
            log_lines=counted[TextLine],
            invalid=counted[Malformed],
            dead_lettered=kinds["dead-letter"],
            dead_letter_limited=counted[Malformed] - kinds["dead-letter"],
        )
        assert ledger.published == counted[Alert]
        assert sum((publication.malformed for publication in found), Counter()).total() == counted[Malformed]

    def test_of_an_earlier_publication_stays_as_it_was(self) -> None:
        processor, feed = new(), Feed()
        first = processor.process([feed.batch((START_NS, alert()))], NOW_NS)
        processor.process([feed.batch((START_NS + 1, alert()))], NOW_NS)
        assert first.ledger.lines == 1

    def test_counts_fragments_and_gaps_beside_the_account(self) -> None:
        gap = Gap(GapReason.ROTATION_UNSEEN, False, START_NS, START_NS + 5)
        publication = new().process([Feed().batch((START_NS, b""), fragments=3, gap=gap)], NOW_NS)
        assert publication.ledger == Ledger(lines=1, log_lines=1, fragments=3, health_records=1, gaps=1)


def _classified(body: bytes) -> Alert | TextLine | Malformed:
    if len(stamped(body, START_NS)) > MAX_LINE_BYTES:
        return Malformed(Reason.LINE_TOO_LONG, "")
    return parse(body, START_NS, StampReader())


class TestPublications:
    @FEWER
    @given(logs())
    def test_hold_each_alert_to_the_byte_in_order(self, entries: list[Entry]) -> None:
        found = of_kind(records([new().process(whole(FALCO, entries), NOW_NS)]), "alert")
        alerts = [known for _, body in entries if isinstance(known := _classified(body), Alert)]
        assert [record.value for record in found] == [known.body for known in alerts]
        assert [record.topic for record in found] == [
            f"falco.alerts.{known.priority.label}" for known in alerts
        ]
        assert {record.key for record in found} <= {b"falco/falco-x7k2p"}

    @FEWER
    @given(logs(), st.data())
    def test_are_the_same_for_any_chunks(self, entries: list[Entry], data: st.DataObject) -> None:
        line = stream(entries)
        cut = batches_of(FALCO, pieces(line, data.draw(cuts(len(line)))))
        one, other, third = new(), new(), new()
        expected = records([one.process(whole(FALCO, entries), NOW_NS)])
        assert records([other.process(cut, NOW_NS)]) == expected
        assert records([third.process([batch], NOW_NS) for batch in by_line(FALCO, entries)]) == expected
        assert one.state.tracked == other.state.tracked == third.state.tracked
        assert one.state.ledger == other.state.ledger == third.state.ledger

    @FEWER
    @given(logs(max_size=12), logs(max_size=12), st.randoms(use_true_random=False))
    def test_of_a_target_are_the_same_beside_any_other(
        self, mine: list[Entry], theirs: list[Entry], random: Any
    ) -> None:
        queues = [iter(by_line(FALCO, mine)), iter(by_line(OTHER, theirs))]
        order = [0] * len(mine) + [1] * len(theirs)
        random.shuffle(order)
        together = records([new().process([next(queues[which]) for which in order], NOW_NS)])
        for target, entries in (FALCO, mine), (OTHER, theirs):
            alone = records([new().process(whole(target, entries), NOW_NS)])
            assert [record for record in together if record.key == target.pod_name.encode()] == alone

    @FEWER
    @given(logs(), st.lists(st.booleans(), min_size=25, max_size=25))
    def test_are_the_same_after_a_restart_at_any_commit(
        self, entries: list[Entry], restarts: list[bool]
    ) -> None:
        batches = by_line(FALCO, entries)
        steady, restarted, store = new(), new(), Store()
        for batch, restart in zip(batches, restarts, strict=False):
            if restart and store.live:
                restarted = store.processor()
            expected = steady.process([batch], NOW_NS)
            assert restarted.process([batch], NOW_NS) == expected
            store.commit(expected)
        if batches:
            assert store.processor().state == steady.state

    @FEWER
    @given(logs(), st.integers(0, 25))
    def test_are_the_same_when_the_same_input_is_processed_again(
        self, entries: list[Entry], cut: int
    ) -> None:
        batches, store = by_line(FALCO, entries), Store()
        store.commit(new().process(batches[:cut], NOW_NS))
        assert store.processor().process(batches[cut:], NOW_NS) == store.processor().process(
            batches[cut:], NOW_NS
        )

    @FEWER
    @given(logs())
    def test_give_every_line_an_id_of_its_own(self, entries: list[Entry]) -> None:
        processor = new()
        found = records(processor.process([batch], NOW_NS) for batch in by_line(FALCO, entries))
        assert len({record.id for record in found}) == len(found)
        assert all(dict(record.headers)["ce_id"].decode() == record.id for record in found)

    def test_write_only_the_keys_that_changed(self) -> None:
        processor = new()
        processor.process([Feed().batch((START_NS, b"{broken"))], NOW_NS)
        publication = processor.process([Feed(OTHER).batch((START_NS, alert()))], NOW_NS)
        assert [change.key for change in publication.changes] == [f"position/{OTHER.id}", "ledger"]

    def test_count_their_sequence_and_name_their_owner(self) -> None:
        processor = new()
        for sequence in 1, 2:
            publication = processor.process([], NOW_NS)
            [ledger] = publication.changes
            assert ledger.value is not None
            stored = orjson.loads(ledger.value)
            assert (stored["sequence"], stored["owner"], stored["cluster"]) == (sequence, "me", "prod-eu-1")

    def test_carry_the_id_of_their_line_into_the_annotation(self) -> None:
        record = (
            new(replace(PLAN, annotate=True)).process([Feed().batch((START_NS, alert()))], NOW_NS).records[0]
        )
        assert record.value.startswith(alert()[:-1])
        assert orjson.loads(record.value) == orjson.loads(alert()) | {
            "falco_streamer": {"id": record.id, "cluster": "prod-eu-1", "node": "node-1", "kind": "alert"}
        }


class TestEqualLines:
    def test_get_distinct_ids_and_the_same_ones_each_time(self) -> None:
        entries = [(START_NS, alert())] * 50
        found = [record.id for record in new().process(whole(FALCO, entries), NOW_NS).records]
        assert len(set(found)) == 50
        assert [record.id for record in new().process(by_line(FALCO, entries), NOW_NS).records] == found

    def test_are_equal_only_with_their_time(self) -> None:
        entries = [(START_NS, alert()), (START_NS + 1, alert())]
        ids = [record.id for record in new().process(whole(FALCO, entries), NOW_NS).records]
        assert not any(identity.endswith("-1") for identity in ids)
        assert len(set(ids)) == 2

    def test_are_told_apart_across_other_lines_and_a_step_of_the_clock(self) -> None:
        entries = [
            (START_NS, alert()),
            (START_NS + 60 * SECOND_NS, b"log"),
            (START_NS, alert()),
            (START_NS, b"{broken"),
            (START_NS, b"{broken"),
        ]
        found = new().process(whole(FALCO, entries), NOW_NS).records
        assert len({record.id for record in found}) == 4
        assert found[1].id == f"{found[0].id}-1"

    def test_that_were_too_long_are_told_by_the_whole_line(self) -> None:
        long = b"{" + b"x" * MAX_LINE_BYTES
        entries = [(START_NS, long + b"1"), (START_NS, long + b"2"), (START_NS, long + b"1")]
        found = new().process(whole(FALCO, entries), NOW_NS).records
        assert len({record.id for record in found}) == 3
        assert found[2].id == f"{found[0].id}-1"


class TestAnOverLongLine:
    def test_becomes_a_marked_dead_letter(self) -> None:
        body = b'{"rule":"' + b"x" * 100_000
        reader, feed = LineReader(70_000), Feed()
        piece = reader.feed(stamped(body, START_NS) + b"\n")
        batch = feed.raw_batch(piece.lines, piece.times_ns, piece.oversize)
        publication = new().process([batch], NOW_NS)
        [record] = publication.records
        value = orjson.loads(record.value)
        assert (value["reason"], value["original_bytes"], value["truncated"]) == (
            "line_too_long",
            len(body),
            True,
        )
        assert body.startswith(value["line"].encode())
        assert len(value["line"]) == 65_536 - 31
        assert publication.malformed == Counter({(FALCO, Reason.LINE_TOO_LONG): 1})

    def test_of_exactly_the_limit_is_an_alert(self) -> None:
        body = alert(output="o" * 500)
        for limit, expected in (len(body), "alert"), (len(body) - 1, "dead-letter"):
            piece = LineReader(limit).feed(stamped(body, START_NS) + b"\n")
            batch = Feed().raw_batch(piece.lines, piece.times_ns, piece.oversize)
            assert [kind(record) for record in new().process([batch], NOW_NS).records] == [expected]


class TestARefusedRecord:
    @FEWER
    @given(logs(), st.data())
    def test_becomes_exactly_one_dead_letter_and_the_ledger_balances(
        self, entries: list[Entry], data: st.DataObject
    ) -> None:
        plan = replace(PLAN, dead_letters=Rate(per_minute=60, burst=1000))
        before = new(plan).process(whole(FALCO, entries), NOW_NS)
        alerts = [record.id for record in of_kind(before.records, "alert")]
        chosen = data.draw(st.sets(st.sampled_from(alerts))) if alerts else set()
        refused = {identity: Refusal((Reason.RECORD_TOO_LARGE,)) for identity in chosen}
        after = new(plan).process(whole(FALCO, entries), NOW_NS, refused)
        assert [record.id for record in after.records] == [record.id for record in before.records]
        for was, now in zip(before.records, after.records, strict=True):
            if was.id in chosen:
                value = orjson.loads(now.value)
                assert (kind(now), now.topic, value["reason"]) == (
                    "dead-letter",
                    "falco.dead-letter",
                    "record_too_large",
                )
                assert value["line"].encode().removesuffix(b"\r") == was.value
            else:
                assert now == was
        assert after.ledger.balanced
        assert after.ledger.published == before.ledger.published - len(chosen)
        assert after.ledger.dead_lettered == before.ledger.dead_lettered + len(chosen)

    def refused(self, body: bytes, *reasons: Reason) -> tuple[Publication, Record]:
        """What becomes of a line old enough that its topic may refuse its time, refused so often."""
        refusals = Refusals()
        batch = Feed().batch((START_NS, body))
        for reason in (*reasons, None):
            publication = new().process([batch], NOW_NS, refusals)
            [record] = publication.records
            if reason is not None:
                refusals.add(RecordsRefused({record.topic: frozenset({record.id})}, reason))
        return publication, record

    def test_whose_dead_letter_is_refused_for_its_size_too_keeps_its_beginning_only(self) -> None:
        body = alert(output="o" * 5000)
        _, whole_letter = self.refused(body, Reason.RECORD_TOO_LARGE)
        publication, small_letter = self.refused(body, *[Reason.RECORD_TOO_LARGE] * 2)
        assert orjson.loads(whole_letter.value)["line"].encode() == body
        value = orjson.loads(small_letter.value)
        assert (value["line"].encode(), value["truncated"], value["original_bytes"]) == (
            body[:1024],
            True,
            len(body),
        )
        assert small_letter.id == whole_letter.id
        assert publication.ledger.balanced

    def test_that_was_a_dead_letter_from_the_start_keeps_its_beginning_only(self) -> None:
        body = b"{" + b"x" * 5000
        _, letter = self.refused(body, Reason.RECORD_TOO_LARGE)
        value = orjson.loads(letter.value)
        assert (value["line"].encode(), value["reason"]) == (body[:1024], "invalid_json")

    @pytest.mark.parametrize("body", [alert(), b"{broken"], ids=["alert", "malformed"])
    def test_for_its_time_is_sent_with_the_present_one(self, body: bytes) -> None:
        _, first = self.refused(body)
        _, second = self.refused(body, Reason.INVALID_TIMESTAMP)
        assert first.timestamp_ms == START_NS // 10**6
        assert (kind(second), second.timestamp_ms) == ("dead-letter", NOW_NS // 10**6)
        assert orjson.loads(second.value)["line_time"] == "2026-11-20T10:00:00.000000000Z"

    @pytest.mark.parametrize(
        "body", [alert(output="o" * 5000), b"{" + b"x" * 5000], ids=["alert", "malformed"]
    )
    def test_for_time_and_size_in_any_order_ends_small_and_present(self, body: bytes) -> None:
        size, time = Reason.RECORD_TOO_LARGE, Reason.INVALID_TIMESTAMP
        for reasons in (time, size, time), (size, time), (size, size, time), (size, time, size, time):
            _, letter = self.refused(body, *reasons)
            assert letter.timestamp_ms == NOW_NS // 10**6
            if len(reasons) > 2 or body.startswith(b"{x"):
                assert len(orjson.loads(letter.value)["line"]) == 1024

    def test_says_why_the_alert_was_refused_whatever_its_dead_letter_was_refused_for(self) -> None:
        body = alert(output="o" * 5000)
        _, letter = self.refused(body, Reason.RECORD_TOO_LARGE, Reason.INVALID_TIMESTAMP)
        value = orjson.loads(letter.value)
        assert (value["reason"], value["line"].encode()) == ("record_too_large", body)

    def test_that_was_a_dead_letter_from_the_start_and_came_at_the_wrong_time_is_whole(self) -> None:
        body = b"{" + b"x" * 5000
        _, letter = self.refused(body, Reason.INVALID_TIMESTAMP)
        assert orjson.loads(letter.value)["line"].encode() == body

    def test_that_tells_a_gap_is_sent_with_the_present_time(self) -> None:
        batch = Feed().batch(gap=Gap(GapReason.POD_GONE, True, START_NS, START_NS))
        [first] = new().process([batch], NOW_NS).records
        refusals = {first.id: Refusal((Reason.INVALID_TIMESTAMP,))}
        [second] = new().process([batch], NOW_NS, refusals).records
        assert first.timestamp_ms == START_NS // 10**6
        assert second == first._replace(timestamp_ms=NOW_NS // 10**6)


class TestTheDeadLetterLimit:
    ENTRIES: Final = [(START_NS + number * SECOND_NS // 10, b"{%d" % number) for number in range(10)]

    def test_lets_a_burst_pass_and_counts_the_rest_in_one_health_record(self) -> None:
        processor, store = new(), Store()
        first = processor.process(whole(FALCO, self.ENTRIES), NOW_NS)
        store.commit(first)
        assert [kind(record) for record in first.records] == ["dead-letter"] * 3
        assert (first.ledger.dead_lettered, first.ledger.dead_letter_limited) == (3, 7)
        due = processor.publish_due(NOW_NS, everything=True)
        assert due is not None
        store.commit(due)
        [record] = due.records
        value = orjson.loads(record.value)
        assert (record.topic, value["count"], value["reason"]) == ("falco.health", 7, "invalid_json")
        assert (value["from"], value["to"]) == (
            "2026-11-20T10:00:00.300000000Z",
            "2026-11-20T10:00:00.900000000Z",
        )
        assert due.ledger.health_records == 1
        assert processor.publish_due(NOW_NS, everything=True) is None
        assert store.processor().publish_due(NOW_NS, everything=True) is None

    def test_is_one_for_each_target_and_reason(self) -> None:
        texts = [(START_NS, b"10:00:00.123456789: Notice text %d" % number) for number in range(4)]
        batches = [*whole(FALCO, [*self.ENTRIES[:4], *texts]), *whole(OTHER, self.ENTRIES[:4])]
        publication = new().process(batches, NOW_NS)
        assert Counter(
            (record.key, orjson.loads(record.value)["reason"]) for record in publication.records
        ) == Counter(
            {
                (b"falco/falco-x7k2p", "invalid_json"): 3,
                (b"falco/falco-x7k2p", "text_alert"): 3,
                (b"falco/falco-9qq4z", "invalid_json"): 3,
            }
        )

    def test_opens_with_the_targets_own_clock(self) -> None:
        at_ns = START_NS + SECOND_NS * 3 // 2
        later = [(at_ns, b"{later"), (at_ns, b"{too many")]
        publication = new().process(whole(FALCO, [*self.ENTRIES, *later]), NOW_NS)
        assert [orjson.loads(record.value)["line"] for record in publication.records] == [
            "{0",
            "{1",
            "{2",
            "{later",
        ]

    def test_tells_two_health_records_apart_where_lines_have_no_times(self) -> None:
        processor, feed = new(replace(PLAN, dead_letters=Rate(0, 0))), Feed(is_stamped=False)
        ids = set()
        for _ in range(2):
            processor.process([feed.batch((0, b"{broken"))], NOW_NS)
            due = processor.publish_due(NOW_NS, everything=True)
            assert due is not None
            ids.add(due.records[0].id)
        assert len(ids) == 2


class TestTheTargetsClock:
    def clock(self, *times_ns: int) -> tuple[int, int, int]:
        processor = new()
        processor.process([Feed().batch(*[(time_ns, b"log") for time_ns in times_ns])], NOW_NS)
        position = processor.state.tracked[FALCO.id].position
        return position.last_ns, position.elapsed_ns, position.newest_ns

    def test_runs_with_its_lines_from_the_first(self) -> None:
        assert self.clock(START_NS) == (START_NS, 0, START_NS)
        assert self.clock(START_NS, START_NS + 7, START_NS + 9) == (START_NS + 9, 9, START_NS + 9)

    def test_ignores_small_inversions(self) -> None:
        ten = 10 * SECOND_NS
        assert self.clock(START_NS, START_NS - ten, START_NS + 5) == (START_NS + 5, 5, START_NS + 5)

    def test_is_re_based_by_a_step_back_of_more_than_ten_seconds(self) -> None:
        back = START_NS - 10 * SECOND_NS - 1
        assert self.clock(START_NS, START_NS + 3, back + 3) == (back + 3, 3, START_NS + 3)
        assert self.clock(START_NS, START_NS + 3, back + 3, back + 10) == (back + 10, 10, START_NS + 3)

    @given(st.lists(st.integers(0, 100).map(lambda seconds: START_NS + seconds * SECOND_NS), max_size=20))
    def test_never_runs_back(self, times_ns: list[int]) -> None:
        elapsed = [self.clock(*times_ns[:count])[1] for count in range(1, len(times_ns) + 1)]
        assert elapsed == sorted(elapsed)

    def test_stays_storable_whatever_the_clocks_say(self) -> None:
        first, last = b"1970-01-01T00:00:01Z {broken\n", b"9999-12-31T23:59:59.999999999Z {broken\n"
        processor, store = new(), Store()
        for batch in batches_of(FALCO, [stream([(START_NS, alert())]), *[first, last] * 4]):
            store.commit(processor.process([batch], NOW_NS))
            assert store.processor().state.tracked == processor.state.tracked
        assert processor.state.ledger.lines == 9


class TestAFileWithoutTimestamps:
    def run(self, *bodies: bytes) -> tuple[list[Record], Processor]:
        processor = new()
        batch = Feed(is_stamped=False).batch(*[(0, body) for body in bodies])
        return processor.process([batch], NOW_NS).records, processor

    def test_takes_the_alerts_time_and_else_the_line_before(self) -> None:
        found, processor = self.run(alert(START_NS), b"{broken", alert(START_NS + SECOND_NS), alert(time=...))
        assert [record.timestamp_ms - START_NS // 10**6 for record in found] == [0, 0, 1000, 1000]
        position = processor.state.tracked[FALCO.id].position
        assert (position.last_ns, position.elapsed_ns) == (START_NS + SECOND_NS, SECOND_NS)

    def test_keeps_the_whole_line_as_body(self) -> None:
        found, _ = self.run(alert(), alert() + b"\r", b"{ broken Z x")
        assert [record.value for record in found[:2]] == [alert(), alert()]
        assert orjson.loads(found[2].value)["line"] == "{ broken Z x"

    @FEWER
    @given(st.lists(BODIES, max_size=15), st.integers(0, 15))
    def test_gives_the_same_for_any_batches(self, bodies: list[bytes], cut: int) -> None:
        one, other = new(), new()
        feed, cut_feed = Feed(is_stamped=False), Feed(is_stamped=False)
        expected = one.process([feed.batch(*[(0, body) for body in bodies])], NOW_NS)
        parts = [cut_feed.batch(*[(0, body) for body in part]) for part in (bodies[:cut], bodies[cut:])]
        assert other.process(parts, NOW_NS).records == expected.records
        assert expected.ledger.balanced
        assert len({record.id for record in expected.records}) == len(expected.records)


class TestThePosition:
    def test_follows_the_batch(self) -> None:
        processor, feed = new(), Feed()
        batch = feed.batch((START_NS, alert()), (START_NS + 1, b"log"))
        processor.process([batch], NOW_NS)
        position = processor.state.tracked[FALCO.id].position
        assert (position.ring, position.lines, position.status) == (feed.ring, 2, PositionStatus.ATTACHED)

    def test_of_a_target_without_lines_is_written_too(self) -> None:
        publication = new().process([Feed().batch()], NOW_NS)
        assert publication.lines == 0
        assert [change.key for change in publication.changes] == [f"position/{FALCO.id}", "ledger"]

    def test_keeps_its_instance_until_another_is_named(self) -> None:
        processor, feed = new(), Feed()
        for given_instance, expected in (None, None), ("a", "a"), (None, "a"), ("b", "b"):
            instance = None if given_instance is None else Instance(given_instance, 0)
            processor.process([replace(feed.batch(), instance=instance)], NOW_NS)
            known = processor.state.tracked[FALCO.id].position.instance
            assert (known and known.container_id) == expected

    def test_takes_the_batchs_status(self) -> None:
        processor = new()
        processor.process([replace(Feed().batch(), status=PositionStatus.DONE)], NOW_NS)
        assert processor.state.tracked[FALCO.id].position.status is PositionStatus.DONE


class TestAGap:
    def test_stands_before_the_lines_that_follow_it_once(self) -> None:
        gap = Gap(GapReason.ROTATION_UNSEEN, True, START_NS, START_NS + 5)
        batch = Feed().batch((START_NS + 5, alert()), gap=gap)
        publication = new().process([batch], NOW_NS)
        assert [kind(record) for record in publication.records] == ["health", "alert"]
        assert publication.records[0].topic == "falco.health"

    def test_at_another_place_in_the_log_has_another_id(self) -> None:
        processor, feed = new(), Feed()
        gap = Gap(GapReason.ROTATION_UNSEEN, False, None, None)
        batches = [feed.batch((START_NS, b"log"), gap=gap) for _ in range(3)]
        assert len({record.id for record in processor.process(batches, NOW_NS).records}) == 3


class TestForget:
    def prepared(self) -> tuple[Processor, Store]:
        processor, store = new(), Store()
        broken = [(START_NS, b"{%d" % number) for number in range(5)]
        store.commit(processor.process([*whole(FALCO, broken), *whole(OTHER, broken)], NOW_NS))
        return processor, store

    def test_leaves_only_tombstones_for_that_target(self) -> None:
        processor, store = self.prepared()
        publication = processor.forget([FALCO], NOW_NS)
        mine = [change for change in publication.changes if FALCO.id in change.key]
        assert set(mine) == {
            Change(f"position/{FALCO.id}", None),
            Change(f"bucket/{FALCO.id}/invalid_json", None),
        }
        store.commit(publication)
        assert not [key for key in store.live if FALCO.id in key]
        assert list(store.processor().state.tracked) == [OTHER.id]
        processor.state.owner = "me"
        assert store.processor().state == processor.state

    def test_first_tells_what_was_held_back(self) -> None:
        processor, _ = self.prepared()
        publication = processor.forget([FALCO, OTHER], NOW_NS)
        assert [orjson.loads(record.value)["count"] for record in publication.records] == [2, 2]
        assert publication.ledger.health_records == 2
        assert publication.ledger.balanced

    def test_of_an_unknown_target_changes_nothing_of_it(self) -> None:
        publication = new().forget([FALCO, FALCO], NOW_NS)
        assert [change.key for change in publication.changes] == ["ledger"]

    def test_twice_in_one_publication_is_once(self) -> None:
        processor, store = self.prepared()
        store.commit(processor.forget([FALCO, FALCO], NOW_NS))
        assert list(processor.state.tracked) == [OTHER.id]

    def test_starts_the_target_anew_if_it_comes_back(self) -> None:
        processor, store = self.prepared()
        store.commit(processor.forget([FALCO], NOW_NS))
        store.commit(processor.process(whole(FALCO, [(START_NS, b"{1")]), NOW_NS))
        assert processor.state.tracked[FALCO.id].position.lines == 1
        assert store.processor().state == processor.state


@FEWER
@given(
    st.lists(
        st.tuples(st.sampled_from(["process", "held", "forget", "restart"]), logs(max_size=6)), max_size=8
    )
)
def test_the_stored_state_is_the_one_in_memory_after_any_course(
    course: list[tuple[str, list[Entry]]],
) -> None:
    processor, store = new(), Store()
    store.commit(processor.process([], NOW_NS))
    for (verb, entries), target in zip(course, itertools.cycle([FALCO, OTHER]), strict=False):
        publication: Publication | None = None
        if verb == "process":
            publication = processor.process(whole(target, entries), NOW_NS)
        elif verb == "held":
            publication = processor.publish_due(NOW_NS, everything=True)
        elif verb == "forget":
            publication = processor.forget([target], NOW_NS)
        else:
            processor = store.processor()
        if publication is not None:
            store.commit(publication)
            assert publication.ledger.balanced
        assert store.processor().state == processor.state
