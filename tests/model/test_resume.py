"""The follower against the model: any schedule of writes, faults, crashes and rotations (issue 4, 6a)."""

from __future__ import annotations

import os
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.model.draw import plan
from tests.model.run import (
    STYLES,
    Block,
    ClockStep,
    Container,
    Crash,
    Cut,
    Delete,
    Event,
    Label,
    Outage,
    Plan,
    Rotate,
    Stall,
    Unfinished,
    Wait,
    Write,
    run,
    run_and_keep,
)
from tests.model.server import Weather
from tests.model.worker import Line

# A normal run searches where it did the last time; who asks for more examples gets others each time.
_ASKED = os.environ.get("MODEL_EXAMPLES", "")
EXAMPLES = int(_ASKED or 150)

SECONDS = st.sampled_from((0.0, 0.01, 0.3, 1.5, 5.0, 30.0, 100.0))
WRITES = st.builds(
    Write,
    st.sampled_from((1, 3, 20, 70, 200)),
    st.sampled_from(STYLES),
    st.sampled_from((0.0, 0.0, 0.01, 0.4)),
)
CRASHES = st.builds(Crash, st.sampled_from((0, 0, 1, 2, 5, None)), st.sampled_from((0.0, 1.0, 30.0, 200.0)))
EVENTS: st.SearchStrategy[Event] = st.one_of(
    WRITES,
    WRITES,
    WRITES,
    st.just(Rotate()),
    CRASHES,
    st.builds(Cut, st.integers(0, 2)),
    st.builds(Container, st.sampled_from(("crash", "exit", "start", "restart", "finish", "lose"))),
    st.builds(Block, st.sampled_from((1.0, 10.0, 16.0, 40.0))),
    st.just(Stall()),
    st.builds(Outage, st.sampled_from((500, 503, 429, 401, 403, 404, 0)), st.sampled_from((0.1, 3.0, 50.0))),
    st.builds(ClockStep, st.sampled_from((-20.0, -1.0, 3600.0))),
    st.builds(Delete, st.sampled_from((None, 0.0, 2.0, 30.0)), st.booleans()),
    st.builds(Unfinished, st.booleans()),
    st.builds(Label, st.sampled_from((0.0, 0.1, 5.0, 100.0))),
    st.builds(Wait, st.sampled_from((3.1, 4.2))),
)
RATES = st.sampled_from((0.0, 0.0, 0.1, 0.3))
WEATHER = st.builds(
    Weather,
    refused=RATES,
    cut=RATES,
    stalled=st.sampled_from((0.0, 0.0, 0.1)),
    text=st.sampled_from((0.0, 0.0, 0.1)),
    slow=RATES,
    rotation_bugs=st.booleans(),
    pipe_bytes=st.sampled_from((1 << 20, 300, 5000)),
    piece_bytes=st.sampled_from((1 << 16, 7, 200)),
    status_lag_seconds=st.sampled_from((0.0, 0.2, 3.0)),
    watch_lag_seconds=st.sampled_from((0.0, 0.2, 3.0)),
    end_lag_seconds=st.sampled_from((0.0, 1.0)),
)
PLANS = st.builds(
    Plan,
    st.lists(st.tuples(SECONDS, EVENTS), max_size=25).map(tuple),
    WEATHER,
    st.integers(0, 1000),
    st.sampled_from((0, 0, 330)),
    st.sampled_from((786_432, 1000)),
    st.sampled_from((100, 2)),
    st.booleans(),
)


@pytest.mark.skipif(EXAMPLES == 0, reason="MODEL_EXAMPLES=0 asks for no search")
@pytest.mark.timeout(300 + EXAMPLES)
@settings(
    max_examples=max(1, EXAMPLES),
    deadline=None,
    derandomize=not _ASKED,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)
@given(PLANS)
def test_any_schedule(plan: Plan) -> None:
    assert run(plan) == []


# What the search has found, each mended since. Small records: 64 bytes, so that a tail of 16 is soon one line.

FOUND = {
    "a long last line is not taken for a stream that has stalled": Plan(((0.0, Write(1, "long")),)),
    "a clock set back before a restart does not lock the new log out": Plan(
        ((0.0, ClockStep(-20.0)), (0.0, Container("restart")))
    ),
    "a clock set back before an unseen rotation does not lock the new file out": Plan(
        (
            (0.0, Write(3)),
            (1.5, Crash(None, 30.0)),
            (1.5, ClockStep(-3600.0)),
            (0.0, Rotate()),
            (0.0, Write(3)),
        )
    ),
    "a pod whose end is told is not followed again while the watch still shows it": Plan(
        ((0.0, Container("crash")), (0.01, Delete(None, again=False))), Weather(watch_lag_seconds=3.0)
    ),
    "an unfinished line is none while nothing is known of the container": Plan(
        ((0.3, Rotate()), (0.0, Cut(0)), (0.0, Unfinished()), (1.5, Write(1))),
        Weather(slow=0.1, status_lag_seconds=3.0),
    ),
    "a probe that is never answered does not hold the stream up": Plan(
        ((1.5, Rotate()), (0.0, Write(1))), Weather(refused=0.3, stalled=0.1, slow=0.1), seed=317
    ),
    "the log of a pod that takes over the name while we ask is not ours": Plan(
        ((0.0, Delete(2.0, again=True)),), Weather(slow=0.3), seed=480
    ),
    "the previous log is not read again where the present one was rotated": Plan(
        ((0.0, Container("restart")), (0.3, Rotate())), Weather(status_lag_seconds=0.2)
    ),
    "a tail of long lines that does not reach the place does not hide it": Plan(
        (
            (0.0, Write(70, "long")),
            (0.0, ClockStep(-20.0)),
            (0.0, Write(1)),
            (0.0, Container("crash")),
        )
    ),
    "a new instance's log that was rotated before it was read is a gap": Plan(
        ((0.0, Container("restart")), (0.0, Rotate()), (0.0, Container("finish"))), Weather(refused=0.3)
    ),
    "a crash loop's log that was rotated away is looked at in patience": Plan(
        ((0.0, Container("restart")), (0.0, Rotate()), (0.0, Crash(1, 30.0)), (100.0, Container("crash"))),
        Weather(refused=0.3),
    ),
    "a pod that waits for its restart while it is deleted is asked for in patience": Plan(
        ((0.01, Rotate()), (0.0, Container("crash")), (0.0, Delete(30.0, again=False)))
    ),
    "lines that came before the status belong to the first instance": Plan(
        (
            (0.0, Container("restart")),
            (0.0, Write(70, every_seconds=0.4)),
            (0.0, Rotate()),
            (0.0, Cut(0)),
        ),
        Weather(status_lag_seconds=3.0),
    ),
    "a slow answer to a doubt is no delay in reading": Plan(
        (
            (0.0, Outage(429, 50.0)),
            (1.5, Write(200, "one time", 0.01)),
            (30.0, Cut(0)),
        ),
        Weather(refused=0.3, slow=0.1, piece_bytes=200),
        seed=947,
    ),
    "the previous log is not left before it was served whole": Plan(
        (
            (5.0, Crash(0, 30.0)),
            (100.0, Write(1)),
            (0.0, Crash(0)),
            (0.0, Outage(429, 50.0)),
            (0.0, Container("restart")),
            (100.0, Crash(2, 1.0)),
            (0.0, Container("finish")),
        ),
        Weather(text=0.1),
        seed=573,
    ),
    "a stream that stalled before its container's end is not taken for read": Plan(
        ((100.0, Stall()), (0.0, Delete(30.0, again=False)), (0.0, Cut(0)))
    ),
    "lines too long to keep that come twice are known": Plan(
        (
            (0.0, Unfinished()),
            (0.3, Write(200, "long")),
            (0.0, Rotate()),
            (0.0, Unfinished()),
            (0.0, Rotate()),
            (0.0, Write(20, "long", 0.01)),
        ),
        Weather(slow=0.3, rotation_bugs=True, pipe_bytes=300, piece_bytes=200),
        max_line_bytes=1000,
    ),
    "a container that may have started again before its pod was taken away is a gap": Plan(
        ((0.0, Container("crash")), (0.0, Container("start")), (0.0, Delete(None, again=True)))
    ),
    "a finished pod that loses its label is left in peace": Plan(
        ((0.0, Container("finish")), (0.0, Outage(403, 3.0)), (0.0, Label(100.0)))
    ),
    "a drain that times out leaves its gap then": Plan(((100.0, Stall()), (0.0, Delete(None, again=False)))),
    "a file that begins with the end of a line is not read twice": Plan(
        ((0.0, Unfinished()), (0.0, Rotate()), (0.0, Write(3)), (1.5, Crash(2, 30.0)))
    ),
    "a log that was cut off before its end is not taken for read, though its container has ended since": Plan(
        (
            (100.0, Crash(2, 200.0)),
            (100.0, Container("crash")),
            (100.0, Rotate()),
            (0.0, Delete(0.0, again=True)),
            (0.0, Delete(2.0, again=True)),
        ),
        Weather(refused=0.1, cut=0.1, text=0.1, slow=0.3, piece_bytes=200),
        seed=851,
        utc_offset_minutes=330,
    ),
    "a line whose end comes with its container's is not left behind": Plan(
        (
            (0.3, Write(70, every_seconds=0.01)),
            (100.0, Cut(1)),
            (0.0, Unfinished()),
            (1.5, ClockStep(-1.0)),
            (0.3, Delete(0.0, again=True)),
        ),
        Weather(refused=0.1, cut=0.1, text=0.1, slow=0.3),
        seed=863,
        utc_offset_minutes=330,
    ),
    "a log that ends with the beginning of a line only has lost its lines by rotation": Plan(
        (
            (0.0, Crash(5, 200.0)),
            (100.0, Container("restart")),
            (100.0, Rotate()),
            (100.0, Crash(0, 30.0)),
            (0.0, Unfinished()),
            (0.0, Container("finish")),
        )
    ),
    "a log is that of the instance with which it begins, though the status told of it later": Plan(
        (
            (0.0, Crash(None, 30.0)),
            (0.0, Wait(4.2)),
            (0.0, Container("restart")),
            (0.0, Rotate()),
            (0.0, Crash(5, 200.0)),
        )
    ),
    "a previous log of which the status does not know yet is read": Plan(
        (
            (0.0, Rotate()),
            (0.0, Crash(0, 200.0)),
            (0.0, Write(20, "inverted")),
            (0.0, Container("restart")),
        ),
        Weather(status_lag_seconds=3.0),
    ),
    "a restart while the stream had stalled, of which the status does not know yet, is no rotation": Plan(
        (
            (30.0, Stall()),
            (0.0, Rotate()),
            (0.0, Write(70)),
            (0.0, Container("crash")),
            (0.0, Cut(1)),
            (0.0, Container("start")),
        ),
        Weather(status_lag_seconds=3.0),
    ),
    "a pod that leaves twice is given up once": Plan(
        (
            (100.0, ClockStep(3600.0)),
            (100.0, ClockStep(-20.0)),
            (0.0, Unfinished()),
            (100.0, Label(0.1)),
            (30.0, Write(1, "odd")),
            (0.0, Stall()),
            (0.0, Delete(None, again=True)),
            (0.0, Label(100.0)),
        ),
        Weather(refused=0.3, cut=0.1, stalled=0.1),
    ),
    "a finished pod that had lost its label is given up once": Plan(
        (
            (30.0, Write(1, "long")),
            (100.0, Container("finish")),
            (5.0, Label(100.0)),
            (0.0, Crash(0)),
            (0.0, Delete(2.0, again=True)),
            (30.0, Write(20, "alike")),
        ),
        Weather(
            refused=0.1,
            cut=0.1,
            stalled=0.1,
            text=0.1,
            piece_bytes=200,
            status_lag_seconds=3.0,
            watch_lag_seconds=3.0,
        ),
        seed=616,
    ),
    "the beginning of a later instance's first line is not the end of the one before it": Plan(
        (
            (0.0, Write(70, "long", 0.4)),
            (0.0, Crash(0)),
            (0.0, Container("restart")),
            (30.0, Block(40.0)),
            (0.0, Rotate()),
            (30.0, Block(1.0)),
            (0.0, Unfinished()),
            (0.0, Container("crash")),
        ),
        Weather(slow=0.3, piece_bytes=200),
    ),
    "who reads slowly was behind, though nothing was blocked": Plan(
        ((0.0, Write(200, "long")), (0.0, Block(1.0))), Weather(pipe_bytes=300, piece_bytes=200), room=2
    ),
    "who reads slowly for long was behind": Plan(
        ((0.0, Write(200, "long", 0.4)),),
        Weather(refused=0.3, pipe_bytes=300, piece_bytes=7),
        seed=605,
        room=2,
    ),
    "a clean end that comes after the pod has left is none of a stream that had stalled": Plan(
        ((1.5, Stall()), (1.5, Delete(2.0, again=False)), (0.01, Cut(0))),
        Weather(watch_lag_seconds=3.0),
        seed=654,
        max_line_bytes=1000,
        room=2,
    ),
    "nor of one whose name is another pod's by then": Plan(
        ((1.5, Stall()), (0.3, Delete(2.0, again=True)), (0.0, Cut(0))),
        Weather(watch_lag_seconds=3.0),
        seed=774,
    ),
    "a file that was skipped by who was behind for less than 20 s is a gap": Plan(
        (
            (30.0, Block(16.0)),
            (0.0, Write(70)),
            (0.3, Rotate()),
            (0.0, Write(70)),
            (0.0, Rotate()),
            (0.0, Write(3)),
            (30.0, Write(3)),
        ),
        Weather(rotation_bugs=True, pipe_bytes=300, piece_bytes=200),
        room=2,
    ),
    "a file that was skipped on a slow way to us is a gap": Plan(
        (
            (30.0, Write(200)),
            (0.3, Rotate()),
            (5.0, Write(200)),
            (0.0, Rotate()),
            (0.0, Write(3)),
            (30.0, Write(3)),
        ),
        Weather(rotation_bugs=True, slow=0.3, piece_bytes=7),
    ),
    "a clean end is none of a stream that was behind on a slow way, its pod being gone": Plan(
        ((30.0, Write(600)), (0.0, Delete(0.0, again=False)), (0.01, Cut(0))),
        Weather(slow=1.0, pipe_bytes=300),
    ),
    "a last record that was cut before its newline is not in a full tail": Plan(
        ((0.0, Write(200)), (1.5, Unfinished(cut=True)), (0.0, Container("finish")))
    ),
    "a stream that does not end with its container keeps nobody from the log's last line": Plan(
        ((0.0, Write(3)), (1.5, Unfinished()), (0.0, Stall()), (1.5, Container("exit")))
    ),
    "a new instance of which nothing was read is not taken to be read to its end": Plan(
        (
            (0.0, Container("restart")),
            (30.0, Label(100.0)),
            (0.0, Cut(2)),
            (0.01, Block(16.0)),
            (0.0, Cut(1)),
            (0.3, Write(1, "alike", 0.4)),
            (30.0, Delete(2.0, again=False)),
            (0.3, ClockStep(3600.0)),
            (0.01, ClockStep(-1.0)),
            (5.0, ClockStep(3600.0)),
            (100.0, Unfinished(cut=True)),
            (1.5, Label(0.0)),
            (0.3, Write(70, "long")),
        ),
        Weather(
            refused=0.1,
            stalled=0.1,
            text=0.1,
            pipe_bytes=5000,
            piece_bytes=7,
            status_lag_seconds=0.2,
            watch_lag_seconds=0.2,
            end_lag_seconds=1.0,
        ),
        seed=545,
        utc_offset_minutes=330,
        room=100,
    ),
    "an instance whose log was empty when the next one came is not passed over": Plan(
        (
            (0.0, Container("restart")),
            (0.0, Rotate()),
            (30.0, Block(1.0)),
            (0.0, Container("restart")),
        ),
        Weather(stalled=0.1, slow=0.1, status_lag_seconds=3.0),
    ),
    "a pod that is deleted while it is being released, its label being back, is a gap": Plan(
        ((0.0, Block(10.0)), (0.0, Write(1)), (0.0, Label(0.1)), (0.0, Delete(2.0, again=False))), room=2
    ),
    "a clock that was set back before the end of a line does not hide it": Plan(
        ((0.0, ClockStep(-20.0)), (0.0, Unfinished()), (0.0, Container("restart")))
    ),
    "a clock that was set back within a last line does not hide it": Plan(
        (
            (0.0, ClockStep(-20.0)),
            (0.0, Unfinished()),
            (30.0, Block(10.0)),
            (0.0, Stall()),
            (0.0, Unfinished(cut=True)),
            (0.0, Container("crash")),
        )
    ),
    "a clock that was set back does not hide that a previous log was read": Plan(
        (
            (0.0, Write(1)),
            (0.0, ClockStep(-20.0)),
            (0.0, Write(20, "inverted", 0.4)),
            (0.0, Container("restart")),
        )
    ),
    "a last line in two parts, the second one cut, is not in a full tail": Plan(
        ((0.0, Write(200)), (1.5, Unfinished()), (0.0, Unfinished(cut=True)), (0.0, Container("finish")))
    ),
    "a last line in two parts of a previous log, the second one cut, is read": Plan(
        ((0.0, Write(200)), (1.5, Unfinished()), (0.0, Unfinished(cut=True)), (0.0, Container("restart")))
    ),
    "a log that is said to be removed while its container waits is looked at again": Plan(
        (
            (0.0, Rotate()),
            (0.0, Unfinished(cut=True)),
            (0.0, Container("crash")),
            (100.0, Block(40.0)),
        ),
        Weather(refused=0.3, text=0.1, piece_bytes=200),
        seed=516,
    ),
    "a clock that was set back and forward again is no gap": Plan(
        ((30.0, ClockStep(-20.0)), (0.0, Write(1)), (0.0, ClockStep(3600.0)))
    ),
    "a clean end within the first catch-up is not the container's, though its pod has just gone": Plan(
        (
            (0.3, Outage(401, 3.0)),
            (1.5, Write(3)),
            (0.0, Delete(0.0, again=False)),
            (0.0, Cut(0)),
        ),
        Weather(slow=0.3, piece_bytes=7, status_lag_seconds=3.0),
        seed=257,
    ),
    "a stream is open again soon, though the log has fewer lines than the position since a restart": Plan(
        ((0.0, Write(3)), (30.0, Container("restart")), (30.0, Crash(None, 1.0)))
    ),
    "nor is it kept from that by a rotation": Plan(
        ((0.0, Write(3)), (0.0, Rotate()), (1.0, Write(3)), (30.0, Crash(None, 1.0)))
    ),
    "a restart that the status does not show yet at the first connection is waited for": Plan(
        (
            (0.0, Crash(0, 1.0)),
            (30.0, Container("restart")),
            (1.5, Cut(1)),
            (0.0, Crash(0)),
            (30.0, Rotate()),
        ),
        Weather(status_lag_seconds=3.0),
    ),
    "a later instance's log that was taken for an earlier one's is not read twice": Plan(
        (
            (30.0, Label(100.0)),
            (0.0, Rotate()),
            (0.0, Container("restart")),
            (0.0, Container("start")),
            (0.0, Container("crash")),
        ),
        Weather(refused=0.1, cut=0.1, piece_bytes=7, status_lag_seconds=3.0),
        seed=30,
    ),
    "a previous container that its runtime has lost is not asked for again and again": Plan(
        ((0.0, Write(3)), (1.5, Crash(0)), (0.0, Container("restart")), (0.0, Container("lose")))
    ),
}


SEEDS = (
    *(520264, 633310, 637585, 638528, 708087, 710460, 721062, 731589),
    *(469, 505, 1050, 1131, 1321, 1445, 20075, 20328, 20687),
    *(214374, 216732, 216879, 214299, 218994, 219518, 219755, 301107, 304582, 304931),
    *(201379, 307054, 214398, 102222, 20990, 315577, 316460, 501224),
    *(30087, 30271, 30470, 30523, 30658, 30789, 30792, 60076, 60615, 60633),
)
"""Plans of `tests.model.search` that failed once and were too long to be written down here."""


@pytest.mark.parametrize("seed", SEEDS)
def test_found_by_seed(seed: int) -> None:
    assert run(plan(Random(seed))) == []


@pytest.mark.parametrize("name", FOUND)
def test_found(name: str) -> None:
    assert run(FOUND[name]) == []


def test_a_silent_stream_is_drained_from_the_deletion_on_not_from_its_last_line() -> None:
    found, committed = run_and_keep(Plan(((100.0, Rotate()), (0.0, Delete(None, again=False)))))
    assert found == []
    (output,) = committed.output.values()
    assert sum(isinstance(item, Line) for item in output) == 2  # the last one was written after the deletion
