"""The verdict table: each row is reached by a case of its own, and every case reaches a row."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.model import GapReason, Instance, Target
from streamer.source.evidence import EndOfLog, Evidence, HowEnded, InCurrent, InPrevious, Refusal, StreamEnd
from streamer.source.pods import PodView
from streamer.source.verdict import TABLE, Step, judge, row_of
from streamer.transform.read import StampedLines
from tools.verdict_docs import table

SECOND: Final = 1_000_000_000
TARGET: Final = Target("falco", "falco-a", "uid", "falco", "node-1")
FIRST, SECOND_RUN, THIRD, FOURTH = (Instance(f"containerd://{n}", n) for n in range(4))
RUNNING: Final = PodView(TARGET, FIRST, running=True, deleting=False, finished=False, started_ns=0)
ENDED: Final = replace(RUNNING, running=False, ended_ns=100 * SECOND)
DELETED: Final = replace(ENDED, deleting=True)
CLEAN: Final = StreamEnd(HowEnded.CLEAN, at=50.0, taken_lines=3, last_taken_at=10.0, rest=StampedLines())
SETTLED: Final = replace(CLEAN, compared_at=20.0, at_node_ns=101 * SECOND)
READ: Final = Evidence(RUNNING, instance=FIRST)
AFTER: Final = Evidence(ENDED, instance=FIRST, stream=CLEAN, fresh=True, asked=True, ended_known_at=40.0)
NOWHERE: Final = Evidence(
    RUNNING,
    instance=FIRST,
    current=InCurrent.ABSENT,
    previous=InPrevious.ABSENT,
    status_awaited=True,
)


def restarted(instance: Instance, **more: Any) -> PodView:
    """The pod with a later instance running; the previous log is the one before it."""
    previous = Instance(f"containerd://{instance.restart_count - 1}", instance.restart_count - 1)
    return replace(RUNNING, instance=instance, previous=previous, **more)


def waiting(instance: Instance) -> PodView:
    """The pod while that instance has ended and waits for its restart: its own log is the previous one."""
    return replace(ENDED, instance=instance, previous=instance)


CASES: Final[dict[str, Evidence]] = {
    "pod gone, log read to its end": Evidence(DELETED, instance=FIRST, gone=True, drained=True),
    "pod gone, log perhaps not read to its end": Evidence(RUNNING, instance=FIRST, gone=True),
    "stream ended cleanly some steps ago, its container's end known only now": replace(
        AFTER, fresh=False, unexplained=True
    ),
    "container ended, log read to its end, and found removed five times": replace(
        AFTER, stream=SETTLED, fresh=False, refusal=Refusal.LOG_REMOVED, removals=5
    ),
    "log removed from the node": replace(READ, refusal=Refusal.LOG_REMOVED),
    "request forbidden": replace(READ, refusal=Refusal.FORBIDDEN),
    "request refused or failed": replace(READ, refusal=Refusal.THROTTLED),
    "stream out of order, after new lines": replace(
        READ, fresh=True, stream=StreamEnd(HowEnded.OUT_OF_ORDER, taken_lines=1)
    ),
    "log of a later instance than its pod's status had shown": replace(
        READ, fresh=True, stream=StreamEnd(HowEnded.LATER_INSTANCE)
    ),
    "stream out of order, broken or ended with an error text": replace(
        READ, fresh=True, stream=StreamEnd(HowEnded.BROKEN, taken_lines=9)
    ),
    "stream ended cleanly, pod not requested since": replace(AFTER, asked=False),
    "stream ended cleanly, container ended, log not looked at since": AFTER,
    "stream ended cleanly, container ended, nothing more in its log": replace(AFTER, end=EndOfLog.WHOLE),
    "stream ended cleanly, container ended, log has more or cannot be compared": replace(
        AFTER, end=EndOfLog.MORE
    ),
    "stream ended cleanly, container runs or was restarted": replace(AFTER, pod=RUNNING),
    "nothing to read, the watch reports that the pod left": Evidence(
        ENDED, instance=FIRST, drained=True, departed=True
    ),
    "container ended, log read to its end": Evidence(ENDED, instance=FIRST, drained=True),
    "container not started yet": Evidence(replace(RUNNING, instance=None, running=False), has_position=False),
    "first connection, start: now": Evidence(RUNNING, has_position=False, from_now=True),
    "first connection, pod not requested yet": Evidence(RUNNING, has_position=False),
    "first line to come, an instance came and went unread since the target is on record": Evidence(
        restarted(THIRD), has_position=False, asked=True, on_record=True
    ),
    "first connection, container was restarted before": Evidence(
        restarted(SECOND_RUN), has_position=False, asked=True
    ),
    "first line to come, the previous log was removed since the target is on record": Evidence(
        restarted(SECOND_RUN), has_position=False, asked=True, on_record=True, previous=InPrevious.NO_LOG
    ),
    "first connection": Evidence(RUNNING, has_position=False, asked=True),
    "own log complete, container waits for its restart": Evidence(
        replace(ENDED, previous=FIRST), instance=FIRST, previous=InPrevious.HELD
    ),
    "own log complete, next instance has ended as well, its log not looked at": Evidence(
        waiting(SECOND_RUN), instance=FIRST, drained=True
    ),
    "own log complete, next instance has ended as well": Evidence(
        waiting(SECOND_RUN), instance=FIRST, drained=True, previous=InPrevious.NOT_IN_TAIL
    ),
    "own log complete, current log not looked at": Evidence(
        restarted(SECOND_RUN), instance=FIRST, drained=True
    ),
    "own log complete, and still served as the current one": Evidence(
        restarted(SECOND_RUN), instance=FIRST, drained=True, current=InCurrent.HELD
    ),
    "own log complete, next instance's log is served": Evidence(
        restarted(SECOND_RUN), instance=FIRST, previous=InPrevious.HELD, current=InCurrent.NOT_IN_TAIL
    ),
    "container restarted since, previous log not looked at": Evidence(restarted(SECOND_RUN), instance=FIRST),
    "container restarted since, position not in the previous log's tail": Evidence(
        restarted(SECOND_RUN), instance=FIRST, previous=InPrevious.NOT_IN_TAIL
    ),
    "position not looked for, and its lines are all alike": replace(READ, lines_alike=True),
    "position not looked for": READ,
    "position in the log": replace(READ, current=InCurrent.HELD),
    "position in the log, not in the tail that was followed": replace(READ, current=InCurrent.HELD_FARTHER),
    "stream paused before the position": replace(READ, current=InCurrent.UNSURE),
    "log has no line": replace(READ, current=InCurrent.EMPTY),
    "position not in the tail": replace(READ, current=InCurrent.NOT_IN_TAIL),
    "position not in the longer tail": replace(READ, current=InCurrent.NOT_IN_LONGER_TAIL),
    "position not in the log, previous log not looked at": replace(READ, current=InCurrent.ABSENT),
    "position nowhere, status may be older than the log": replace(NOWHERE, status_awaited=False),
    "position nowhere, its log removed after the stream ended with its container": replace(
        NOWHERE,
        pod=restarted(SECOND_RUN),
        previous=InPrevious.NO_LOG,
        instance_ended_ns=100 * SECOND,
        stream=SETTLED,
    ),
    "position nowhere, an instance came and went unread since": replace(NOWHERE, pod=restarted(FOURTH)),
    "position nowhere, an instance came and went unread since, no previous log": replace(
        NOWHERE, pod=restarted(FOURTH), previous=InPrevious.NO_LOG
    ),
    "stream ended cleanly and log read to its end, container restarted twice since": replace(
        NOWHERE, pod=restarted(THIRD), drained=True
    ),
    "stream ended cleanly, container restarted twice since": replace(NOWHERE, pod=restarted(THIRD)),
    "position nowhere, restarted twice since, no previous log": replace(
        NOWHERE, pod=restarted(THIRD), previous=InPrevious.NO_LOG
    ),
    "position nowhere, restarted once since": replace(NOWHERE, pod=restarted(SECOND_RUN)),
    "position nowhere, restarted once since, no previous log or its last lines were taken": replace(
        NOWHERE, pod=restarted(SECOND_RUN), previous=InPrevious.ROTATED
    ),
    "position nowhere, not restarted since": NOWHERE,
}


def test_each_row_has_its_case_here_and_a_name_of_its_own() -> None:
    assert [row.case for row in TABLE] == list(CASES)


@pytest.mark.parametrize("case", CASES)
def test_row(case: str) -> None:
    assert row_of(CASES[case]).case == case


def test_the_docs_show_the_table() -> None:
    assert table() in Path("docs/reading.md").read_text()


# What the rows rest on


def test_a_clean_end_counts_where_the_stream_was_compared_and_ended_with_its_container() -> None:
    assert replace(AFTER, stream=SETTLED).final


@pytest.mark.parametrize(
    "spoilt",
    [
        replace(AFTER, stream=replace(SETTLED, at_node_ns=99 * SECOND)),  # a kubelet that was killed before
        replace(AFTER, stream=replace(SETTLED, at_node_ns=145 * SECOND)),  # a hung node
        replace(AFTER, stream=replace(SETTLED, at_node_ns=None)),
        replace(AFTER, stream=replace(SETTLED, compared_at=5.0)),  # lines came after it was compared
        replace(AFTER, stream=replace(SETTLED, in_doubt=True)),
        replace(AFTER, stream=replace(SETTLED, how=HowEnded.BROKEN)),
        replace(AFTER, stream=SETTLED, pod=RUNNING),
        replace(AFTER, stream=SETTLED, pod=restarted(SECOND_RUN, running=False)),
        replace(AFTER, stream=None),
    ],
)
def test_a_clean_end_alone_means_nothing(spoilt: Evidence) -> None:
    assert not spoilt.final


def test_a_lively_end_counts_unless_it_came_before_the_container_ended() -> None:
    lively = replace(CLEAN, lively=True)
    assert replace(AFTER, stream=lively).final
    assert not replace(AFTER, stream=replace(lively, at_node_ns=99 * SECOND)).final


def test_a_comparison_after_the_end_counts_however_the_stream_stood() -> None:
    assert replace(AFTER, stream=replace(CLEAN, compared_at=41.0)).final


def test_a_line_without_a_newline_counts_only_where_the_stream_ended_with_its_container() -> None:
    cut = StampedLines([b"2026-11-28T10:00:00.000000000Z {"], [0])
    assert not replace(AFTER, stream=replace(CLEAN, lively=True, rest=cut)).final
    assert replace(AFTER, stream=replace(SETTLED, rest=cut)).final


def test_a_quiet_pod_that_is_deleted_leaves_no_gap() -> None:
    gone = Evidence(DELETED, instance=FIRST, gone=True, stream=SETTLED, ended_known_at=60.0)
    assert judge(gone)[:3] == (Step.DONE, None, False)


def test_a_pod_that_is_taken_away_by_force_leaves_a_possible_gap() -> None:
    gone = Evidence(replace(RUNNING, deleting=True), instance=FIRST, gone=True, stream=SETTLED)
    gap = judge(gone).gap
    assert gap is not None
    assert (gap.reason, gap.certain) == (GapReason.POD_GONE, False)


def test_a_stream_that_ends_when_its_pod_is_deleted_and_goes_was_read_to_its_end() -> None:
    deleted = replace(RUNNING, deleting=True)
    gone = Evidence(deleted, instance=FIRST, gone=True, stream=SETTLED, deleting_known_at=45.0, gone_at=51.0)
    assert judge(gone).gap is None
    assert (
        judge(replace(gone, gone_at=54.0)).gap is not None
    )  # a hung node, whose pod was taken away by force
    assert judge(replace(gone, deleting_known_at=50.5)).gap is not None  # it may have been started again
    assert judge(replace(gone, stream=replace(SETTLED, in_doubt=True))).gap is not None


def test_while_a_container_waits_for_its_restart_its_own_log_is_the_previous_one() -> None:
    """The instance before it came and went unread, though the container was restarted twice only."""
    gap = judge(replace(NOWHERE, pod=waiting(THIRD), drained=True)).gap
    assert gap is not None
    assert (gap.reason, gap.certain) == (GapReason.INSTANCES_SKIPPED, True)
    assert judge(replace(NOWHERE, pod=restarted(THIRD), drained=True)).gap is None

    first = Evidence(waiting(SECOND_RUN), has_position=False, asked=True, on_record=True)
    gap = judge(first).gap
    assert gap is not None
    assert gap.reason is GapReason.INSTANCES_SKIPPED
    assert judge(replace(first, pod=restarted(SECOND_RUN))).gap is None
    assert judge(replace(first, pod=waiting(FIRST))).gap is None
    assert judge(replace(first, instance=FIRST, drained=True)).gap is None  # the first had printed nothing


def test_a_gap_names_the_number_of_restarts() -> None:
    gap = judge(replace(NOWHERE, pod=restarted(FOURTH))).gap
    assert gap is not None
    assert gap.certain
    assert gap.detail.endswith(": 3")


INSTANCES = st.sampled_from((None, FIRST, SECOND_RUN, THIRD, FOURTH))
TIMES = st.sampled_from((None, 0, 99 * SECOND, 100 * SECOND, 200 * SECOND))
VIEWS = st.builds(
    PodView,
    st.just(TARGET),
    INSTANCES,
    running=st.booleans(),
    deleting=st.booleans(),
    finished=st.booleans(),
    started_ns=TIMES,
    ended_ns=TIMES,
    previous=INSTANCES,
)
ENDS = st.none() | st.builds(
    StreamEnd,
    st.sampled_from(HowEnded),
    taken_lines=st.integers(0, 2),
    in_doubt=st.booleans(),
    lively=st.booleans(),
    at_node_ns=TIMES,
)
ANY = st.builds(
    Evidence,
    VIEWS,
    has_position=st.booleans(),
    instance=INSTANCES,
    drained=st.booleans(),
    from_now=st.booleans(),
    gone=st.booleans(),
    departed=st.booleans(),
    asked=st.booleans(),
    status_awaited=st.booleans(),
    stream=ENDS,
    fresh=st.booleans(),
    current=st.sampled_from(InCurrent),
    previous=st.sampled_from(InPrevious),
    end=st.sampled_from(EndOfLog),
    refusal=st.none() | st.sampled_from(Refusal),
)


@given(ANY)
def test_every_case_has_a_verdict_and_only_unseen_instances_are_certainly_lost(evidence: Evidence) -> None:
    step, gap, *_ = judge(evidence)
    assert (step is Step.DONE) == evidence.gone
    if gap is not None and gap.certain:
        assert evidence.skipped > 0
    if evidence.gone and gap is None:
        assert not evidence.pod.running


def test_a_stream_that_brought_nothing_keeps_what_the_one_before_it_was_worth() -> None:
    nothing = StreamEnd(HowEnded.CLEAN, at=60.0, at_node_ns=102 * SECOND, rest=StampedLines())
    assert nothing.after(SETTLED).settled
    assert nothing.after(SETTLED).at == 60.0
    lively = replace(CLEAN, lively=True)
    assert nothing.after(lively) == lively
    rest = StampedLines([b"1 half"], [1])
    assert nothing.after(replace(SETTLED, rest=rest)).rest == rest
    cut = StampedLines([b"1 ha"], [1])
    assert replace(nothing, lively=True).after(SETTLED).settled
    assert replace(nothing, lively=True, rest=cut).after(replace(SETTLED, rest=rest)).rest == rest
    assert replace(nothing, lively=True, rest=rest).after(replace(SETTLED, rest=cut)).rest == rest
    assert replace(nothing, lively=True, rest=cut).after(replace(SETTLED, rest=rest)).settled
    other = StampedLines([b"2 half"], [2])
    assert replace(nothing, rest=other).after(replace(SETTLED, rest=rest)).rest == other


PIECE = StampedLines([b"1 ha"], [1])


@pytest.mark.parametrize(
    ("end", "before"),
    [
        (StreamEnd(HowEnded.BROKEN), SETTLED),
        (StreamEnd(HowEnded.CLEAN, taken_lines=1), SETTLED),
        (StreamEnd(HowEnded.CLEAN, in_doubt=True), SETTLED),
        (StreamEnd(HowEnded.CLEAN), None),
        (StreamEnd(HowEnded.CLEAN), CLEAN),
        (StreamEnd(HowEnded.CLEAN), replace(SETTLED, how=HowEnded.BROKEN)),
        (StreamEnd(HowEnded.CLEAN), replace(SETTLED, in_doubt=True)),
        (StreamEnd(HowEnded.CLEAN, rest=PIECE), replace(SETTLED, rest=StampedLines([b"1 h"], [1]))),
    ],
)
def test_a_stream_speaks_for_itself_where_it_or_the_one_before_it_shows_otherwise(
    end: StreamEnd, before: StreamEnd | None
) -> None:
    assert end.after(before) == end


def test_a_piece_of_a_line_that_came_again_is_no_last_line() -> None:
    """The first stream ended with its container; the second one was cut off while it brought the last lines again."""
    second = StreamEnd(HowEnded.CLEAN, at=52.0, lively=True, at_node_ns=103 * SECOND, rest=PIECE)
    assert second.after(SETTLED) == SETTLED
    gone = Evidence(DELETED, instance=FIRST, gone=True, stream=second.after(SETTLED))
    assert row_of(gone).case == "pod gone, log read to its end"
    early = second.after(replace(SETTLED, at_node_ns=99 * SECOND))  # lines may have come after it
    assert row_of(replace(gone, stream=early)).case == "pod gone, log perhaps not read to its end"
    after = replace(AFTER, stream=early)
    assert row_of(after).case == "stream ended cleanly, container ended, log not looked at since"
    unseen = replace(after, end=EndOfLog.REMOVED)
    assert row_of(unseen).case == "stream ended cleanly, container ended, log has more or cannot be compared"
