"""What is told of coverage, and when: at each change, and of all targets now and then."""

from __future__ import annotations

from dataclasses import replace

from streamer.model import Coverage, CoverageReport, Publication, Reason
from streamer.shard.coverage import BLIND_SECONDS, SILENT_SECONDS, START_SECONDS, TEXT_SECONDS, CoverageWatch
from streamer.telemetry.status import StreamState, TargetStatus
from streamer.transform.process import Processor
from streamer.transform.state import ShardState
from tests.schemas import check_record
from tests.unit.transform.samples import FALCO, NOW_NS, OTHER, PLAN, SECOND_NS, START_NS, Feed, alert

WELL = TargetStatus(
    FALCO, StreamState.FOLLOWING, running=True, unread_seconds=0, behind_seconds=0, quiet_seconds=1
)
SILENT = replace(WELL, quiet_seconds=SILENT_SECONDS)
BLIND = replace(WELL, state=StreamState.WAITING, unread_seconds=BLIND_SECONDS)
BESIDE = replace(WELL, target=OTHER)


class Watch:
    """A watch, a clock, and the states that were told."""

    def __init__(self, every_seconds: float | None = 300) -> None:
        self.watch = CoverageWatch(every_seconds)
        self.now_ns = NOW_NS

    def look(self, *statuses: TargetStatus, after_seconds: float = 5) -> list[CoverageReport]:
        self.now_ns += round(after_seconds * SECOND_NS)
        reports = self.watch.due(statuses, self.now_ns)
        self.watch.reported(reports, self.now_ns)
        return reports

    def states(self, *statuses: TargetStatus, after_seconds: float = 5) -> list[tuple[str, bool]]:
        return [(one.coverage, one.changed) for one in self.look(*statuses, after_seconds=after_seconds)]

    def commit(self, body: bytes) -> None:
        """Something that the target printed is committed."""
        batch = Feed(FALCO).batch((START_NS, body))
        publication = Processor(PLAN, ShardState(PLAN.cluster)).process([batch], self.now_ns)
        self.watch.note(publication, self.now_ns)


def test_each_change_is_told_once() -> None:
    watch = Watch()
    assert watch.states(WELL) == [("following", True)]
    assert watch.states(WELL) == []
    assert watch.states(SILENT) == [("silent", True)]
    assert watch.states(BLIND) == [("blind", True)]
    assert watch.states(BLIND) == []
    assert watch.states(WELL) == [("following", True)]


def test_all_are_told_again_every_five_minutes_with_the_time_since_when() -> None:
    watch = Watch()
    (first,) = watch.look(WELL)
    assert watch.states(WELL, BESIDE, after_seconds=200) == [("following", True)]
    found = watch.look(WELL, BESIDE, after_seconds=100)
    assert [(one.target, one.changed) for one in found] == [(FALCO, False), (OTHER, False)]
    assert found[0].since_ns == first.since_ns
    assert watch.look(WELL, BESIDE, after_seconds=299) == []


def test_a_stream_that_is_opened_again_soon_was_not_away() -> None:
    watch = Watch()
    watch.look(WELL)
    assert watch.look(replace(BLIND, unread_seconds=BLIND_SECONDS - 1)) == []


def test_a_target_whose_first_stream_is_being_opened_is_not_reported_as_blind_yet() -> None:
    opening = replace(WELL, state=StreamState.OPENING, unread_seconds=BLIND_SECONDS + 30, opened=False)
    watch = Watch()
    assert watch.states(opening) == []
    assert watch.watch.counts == {}
    assert watch.states(WELL) == [("following", True)]


def test_a_first_stream_that_fails_or_takes_too_long_is_blind() -> None:
    opening = replace(WELL, state=StreamState.OPENING, unread_seconds=BLIND_SECONDS, opened=False)
    assert Watch().states(replace(opening, cause="HTTP 500: no route to host")) == [("blind", True)]
    assert Watch().states(replace(opening, unread_seconds=START_SECONDS)) == [("blind", True)]


def test_a_container_that_has_ended_is_blind() -> None:
    assert Watch().states(replace(WELL, state=StreamState.ENDED, running=False)) == [("blind", True)]


def test_text_alerts_make_it_text_until_a_real_alert_comes_or_none_for_long() -> None:
    text = b"10:00:00.000000000: Warning Shell spawned (user=root)"
    watch = Watch()
    watch.commit(text)
    assert watch.states(WELL) == [("text", True)]
    watch.commit(b"Fri Nov 20 10:00:00 2026: Falco version: 0.44.1")  # its own log says nothing of that
    assert watch.states(WELL) == []
    watch.commit(alert())
    assert watch.states(WELL) == [("following", True)]
    watch.commit(text)
    assert watch.states(WELL) == [("text", True)]
    assert watch.states(WELL, after_seconds=TEXT_SECONDS) == [("following", True)]


def test_after_another_worker_had_the_shard_all_is_told_anew() -> None:
    watch = Watch()
    watch.look(WELL)
    watch.watch.forget()
    assert watch.states(WELL) == [("following", True)]


def test_what_is_gone_is_forgotten_and_nothing_is_told_where_nothing_is_wanted() -> None:
    watch = Watch(None)
    publication = Publication()
    publication.malformed[FALCO, Reason.TEXT_ALERT] = 1
    watch.watch.note(publication, watch.now_ns)
    assert watch.look(WELL, BLIND, BESIDE) == []
    assert watch.watch.counts[Coverage.FOLLOWING] == 1  # the metric has it all the same
    watch.look()
    assert not watch.watch._reported
    assert not watch.watch._text_ns


def test_a_coverage_record_is_a_record_like_the_others_and_in_the_ledger() -> None:
    processor = Processor(PLAN, ShardState(PLAN.cluster))
    processor.process([Feed(FALCO).batch((START_NS, alert()))], NOW_NS)
    reports = [CoverageReport(FALCO, Coverage.BLIND, NOW_NS, changed=True)]
    publication = processor.cover(reports, NOW_NS)
    (record,) = publication.records
    check_record(record)
    assert record.topic == PLAN.health_topic
    assert record.timestamp_ms == NOW_NS // 1_000_000
    assert publication.ledger.health_records == 1
    assert publication.ledger.balanced
    again = processor.cover(reports, NOW_NS)
    assert again.records[0].id != record.id
